// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// The agent's files of these tests.
const (
	policyDir   = "/etc/sbom-bless"
	policyFile  = policyDir + "/policy.yaml"
	glassFile   = policyDir + "/break-glass"
	storeDir    = "/var/lib/sbom-bless"
	storeFile   = storeDir + "/attestations/x/list"
	agentCgroup = "/sys/fs/cgroup/node.slice/agent"
	elsewhere   = "/mnt/elsewhere"
)

// holdAttack is one on the verifier itself, or what keeps it in force, by a
// process of the host's mount namespace.
type holdAttack struct {
	name string
	op   string // of the event, whose reason is "self"
	try  func(agent int) error
	// free: the host's root may do it.
	free bool
	// root: containers lack a step before it.
	root bool
	// errno is what the kernel makes of EPERM, if not 0.
	errno syscall.Errno
}

var holdAttacks = []holdAttack{
	// The mounts that the pins are on.
	{name: "umount of the bpffs", op: "umount", try: func(int) error { return unix.Unmount("/sys/fs/bpf", 0) }},
	{name: "umount -l of the bpffs", op: "umount", try: func(int) error { return unix.Unmount("/sys/fs/bpf", unix.MNT_DETACH) }},
	{name: "umount -l of /sys", op: "umount", try: func(int) error { return unix.Unmount("/sys", unix.MNT_DETACH) }},
	{name: "mount --move of the bpffs", op: "mount", try: func(int) error {
		_ = private("/sys") // the kernel moves nothing from a shared mount
		return unix.Mount("/sys/fs/bpf", elsewhere, "", unix.MS_MOVE, "")
	}},
	{name: "mount --move of /sys", op: "mount", try: func(int) error {
		_ = private("/")
		return unix.Mount("/sys", elsewhere, "", unix.MS_MOVE, "")
	}},
	{name: "move_mount of the bpffs", op: "mount", try: func(int) error {
		_ = private("/sys")
		fd, err := unix.OpenTree(unix.AT_FDCWD, "/sys/fs/bpf", unix.OPEN_TREE_CLOEXEC)
		must(err)
		return unix.MoveMount(fd, "", unix.AT_FDCWD, elsewhere, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}},
	{name: "tmpfs over the pins", op: "mount", try: func(int) error { return tmpfs(enforce.DefaultPins) }},
	{name: "tmpfs over the bpffs", op: "mount", try: func(int) error { return tmpfs("/sys/fs/bpf") }},
	{name: "tmpfs over /sys/fs", op: "mount", try: func(int) error { return tmpfs("/sys/fs") }},
	{name: "tmpfs over /sys", op: "mount", try: func(int) error { return tmpfs("/sys") }},
	{name: "tmpfs over the state", op: "mount", try: func(int) error { return tmpfs(enforce.DefaultState) }},
	{name: "tmpfs over /run", op: "mount", try: func(int) error { return tmpfs("/run") }},
	{name: "bind mount over /sys/fs", op: "mount", try: func(int) error { return unix.Mount(elsewhere, "/sys/fs", "", unix.MS_BIND, "") }},
	{name: "move_mount over /sys/fs", op: "mount", try: func(int) error {
		return unix.MoveMount(fsmount("tmpfs"), "", unix.AT_FDCWD, "/sys/fs", unix.MOVE_MOUNT_F_EMPTY_PATH)
	}},
	{name: "bpffs remounted read-only", op: "mount", try: func(int) error { return unix.Mount("", "/sys/fs/bpf", "", unix.MS_REMOUNT|unix.MS_RDONLY, "") }},
	{name: "mount of the bpffs read-only", op: "mount", try: func(int) error {
		return unix.Mount("", "/sys/fs/bpf", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}},
	{name: "bpffs reconfigured by fsconfig", op: "mount", try: func(int) error {
		fd, err := unix.Fspick(unix.AT_FDCWD, "/sys/fs/bpf", unix.FSPICK_CLOEXEC)
		must(err)
		must(unix.FsconfigSetFlag(fd, "ro"))
		return unix.FsconfigReconfigure(fd)
	}},
	{name: "umount from a peer of /sys", op: "umount", root: true, try: func(int) error {
		must(unix.Mount("/sys", elsewhere, "", unix.MS_BIND|unix.MS_REC, ""))
		defer func() {
			must(unix.Mount("", elsewhere, "", unix.MS_PRIVATE|unix.MS_REC, ""))
			must(unix.Unmount(elsewhere, unix.MNT_DETACH))
		}()
		return unix.Unmount(elsewhere+"/fs/bpf", 0)
	}},
	{name: "umount -l of a tree of peers", op: "umount", root: true, try: func(int) error {
		must(unix.Mount("/sys", elsewhere, "", unix.MS_BIND|unix.MS_REC, ""))
		err := unix.Unmount(elsewhere, unix.MNT_DETACH)
		if err != nil {
			must(unix.Mount("", elsewhere, "", unix.MS_PRIVATE|unix.MS_REC, ""))
			must(unix.Unmount(elsewhere, unix.MNT_DETACH))
		}
		return err
	}},
	{name: "umount that propagates from another mount namespace", op: "umount", try: func(int) error {
		must(unix.Unshare(unix.CLONE_NEWNS))
		return unix.Unmount("/sys/fs/bpf", 0)
	}},
	{name: "umount -l of /sys that propagates from another mount namespace", op: "umount", try: func(int) error {
		must(unix.Unshare(unix.CLONE_NEWNS))
		return unix.Unmount("/sys", unix.MNT_DETACH)
	}},
	{name: "mount that propagates from another mount namespace", op: "mount", try: func(int) error {
		must(unix.Unshare(unix.CLONE_NEWNS))
		return tmpfs("/sys/fs")
	}},
	{name: "pivot_root", op: "mount", try: func(int) error {
		// Of a shared root the kernel says EINVAL, but asks us before.
		_ = private("/")
		_ = tmpfs(elsewhere)
		_ = private(elsewhere)
		must(os.MkdirAll(elsewhere+"/old", 0o755))
		return unix.PivotRoot(elsewhere, elsewhere+"/old")
	}},

	// The agent's process.
	{name: "pidfd_getfd", op: "ptrace", try: func(agent int) error {
		fd, err := unix.PidfdOpen(agent, 0)
		must(err)
		_, err = unix.PidfdGetfd(fd, 0, 0)
		return err
	}},
	{name: "PTRACE_SEIZE", op: "ptrace", try: func(agent int) error { return unix.PtraceSeize(agent) }},
	{name: "PTRACE_ATTACH", op: "ptrace", try: func(agent int) error { return unix.PtraceAttach(agent) }},
	{name: "its memory", op: "ptrace", errno: syscall.EACCES, try: func(agent int) error { return open(fmt.Sprintf("/proc/%d/mem", agent), unix.O_RDONLY) }},
	{name: "process_vm_writev", op: "ptrace", try: func(agent int) error {
		var b [8]byte
		local := []unix.Iovec{{Base: &b[0], Len: 8}}
		_, err := unix.ProcessVMWritev(agent, local, []unix.RemoteIovec{{Base: 0x1000, Len: 8}}, 0)
		if errors.Is(err, unix.EFAULT) {
			return nil // it may write
		}
		return err
	}},
	{name: "SIGKILL", op: "signal", free: true, try: func(agent int) error { return unix.Kill(agent, unix.SIGKILL) }},
	{name: "SIGSTOP", op: "signal", free: true, try: func(agent int) error { return unix.Kill(agent, unix.SIGSTOP) }},
	{name: "SIGHUP", op: "signal", free: true, try: func(agent int) error { return unix.Kill(agent, unix.SIGHUP) }},
	{name: "prlimit", op: "limit", free: true, try: func(agent int) error {
		return unix.Prlimit(agent, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: 1 << 10}, nil)
	}},
	{name: "setpriority", op: "limit", free: true, try: func(agent int) error { return unix.Setpriority(unix.PRIO_PROCESS, agent, 19) }},
	{name: "sched_setaffinity", op: "limit", free: true, try: func(agent int) error {
		var one unix.CPUSet
		one.Set(0)
		return unix.SchedSetaffinity(agent, &one)
	}},
	{name: "ioprio_set", op: "limit", free: true, try: func(agent int) error {
		_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, 1 /* IOPRIO_WHO_PROCESS */, uintptr(agent), 3<<13 /* IOPRIO_CLASS_IDLE */)
		return errnoError(errno)
	}},
	{name: "oom_score_adj", op: "write", free: true, try: func(agent int) error {
		return os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", agent), []byte("1000"), 0)
	}},
	{name: "cgroup.freeze", op: "write", free: true, try: func(int) error { return os.WriteFile(agentCgroup+"/cgroup.freeze", []byte("0"), 0) }},
	{name: "cgroup.freeze of the slice", op: "write", free: true, try: func(int) error {
		return os.WriteFile(filepath.Dir(agentCgroup)+"/cgroup.freeze", []byte("0"), 0)
	}},
	{name: "cgroup.kill", op: "write", free: true, try: func(int) error { return open(agentCgroup+"/cgroup.kill", unix.O_WRONLY) }},

	// Its files.
	{name: "policy written", op: "write", free: true, try: func(int) error { return open(policyFile, unix.O_WRONLY) }},
	{name: "policy opened for reading and truncated", op: "write", free: true, try: func(int) error { return open(policyFile, unix.O_RDONLY|unix.O_TRUNC) }},
	{name: "policy truncated", op: "setattr", free: true, try: func(int) error { return os.Truncate(policyFile, 0) }},
	{name: "policy unlinked", op: "unlink", free: true, try: func(int) error { return os.Remove(policyFile) }},
	{name: "policy renamed", op: "rename", free: true, try: func(int) error { return os.Rename(policyFile, elsewhere+"/policy") }},
	{name: "policy replaced", op: "rename", free: true, try: func(int) error {
		must(os.WriteFile("/etc/other", nil, 0o644))
		return os.Rename("/etc/other", policyFile)
	}},
	{name: "policy's directory renamed", op: "rename", free: true, try: func(int) error { return os.Rename(policyDir, "/etc/gone") }},
	{name: "/etc renamed", op: "rename", free: true, try: func(int) error { return os.Rename("/etc", "/gone") }},
	{name: "policy linked", op: "link", free: true, try: func(int) error { return os.Link(policyFile, "/etc/link") }},
	{name: "policy's mode", op: "setattr", free: true, try: func(int) error { return os.Chmod(policyFile, 0o666) }},
	{name: "policy's attributes", op: "xattr", free: true, try: func(int) error { return unix.Setxattr(policyFile, "trusted.x", []byte("x"), 0) }},
	{name: "break-glass created", op: "create", free: true, try: func(int) error { return os.WriteFile(glassFile, nil, 0o600) }},
	{name: "break-glass linked", op: "link", free: true, try: func(int) error {
		must(os.WriteFile("/etc/other", nil, 0o644))
		return os.Link("/etc/other", glassFile)
	}},
	{name: "break-glass a directory", op: "create", free: true, try: func(int) error { return os.Mkdir(glassFile, 0o700) }},
	{name: "break-glass a symbolic link", op: "create", free: true, try: func(int) error { return os.Symlink("/etc", glassFile) }},
	{name: "break-glass a FIFO", op: "create", free: true, try: func(int) error { return unix.Mkfifo(glassFile, 0o600) }},
	{name: "break-glass a file renamed", op: "rename", free: true, try: func(int) error {
		must(os.WriteFile("/etc/other", nil, 0o644))
		return os.Rename("/etc/other", glassFile)
	}},
	{name: "break-glass by O_TMPFILE", op: "link", free: true, try: func(int) error {
		fd, err := unix.Open("/etc", unix.O_TMPFILE|unix.O_WRONLY, 0o600)
		must(err)
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, glassFile, unix.AT_SYMLINK_FOLLOW)
	}},
	{name: "executable unlinked", op: "unlink", free: true, try: func(int) error { return os.Remove("/bin/program") }},
	{name: "executable replaced", op: "rename", free: true, try: func(int) error {
		must(os.WriteFile("/etc/other", nil, 0o644))
		return os.Rename("/etc/other", "/bin/program")
	}},
	{name: "executable's mode", op: "setattr", free: true, try: func(int) error { return os.Chmod("/bin/program", 0) }},
	{name: "kept attestation written", op: "write", free: true, try: func(int) error { return open(storeFile, unix.O_WRONLY) }},
	{name: "kept attestation replaced", op: "rename", free: true, try: func(int) error { return os.Rename(filepath.Dir(storeFile), elsewhere+"/x") }},
	{name: "state written", op: "write", try: func(int) error { return open(enforce.DefaultState+"/x", unix.O_WRONLY) }},
	{name: "state created", op: "create", try: func(int) error { return os.WriteFile(enforce.DefaultState+"/domains/y", nil, 0o600) }},
	{name: "state unlinked", op: "unlink", try: func(int) error { return os.Remove(enforce.DefaultState + "/x") }},
	{name: "state renamed", op: "rename", try: func(int) error { return os.Rename(enforce.DefaultState, "/run/gone") }},
	{name: "state linked", op: "link", try: func(int) error { return os.Link(enforce.DefaultState+"/x", "/run/x") }},
	{name: "socket in the state", op: "create", try: func(int) error {
		l, err := net.Listen("unix", enforce.DefaultState+"/y")
		if err == nil {
			err = l.Close()
		}
		return err
	}},
}

func (a *holdAttack) slug() string { return strings.ReplaceAll(a.name, "/", "_") }

func tmpfs(dir string) error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") }

func private(dir string) error { return unix.Mount("", dir, "", unix.MS_PRIVATE, "") }

// holdAttacker tries one, and says how it went.
func holdAttacker(name string) int {
	runtime.LockOSThread()
	if os.Getenv("BASELINE") != "" { // a namespace like the host's, which the attack takes along
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	o := outcome{Untried: "no such attack"}
	agent, _ := strconv.Atoi(os.Getenv("AGENT"))
	for _, a := range holdAttacks {
		if a.name == name {
			o = outcomeOf(tryIt(func() error { return a.try(agent) }))
		}
	}
	control := make(chan error) // in another thread, which the attack left as it was
	go func() { control <- exec.Command(image + "/bin/control").Run() }()
	if err := <-control; err != nil {
		o.Control = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		return 1
	}
	return 0
}

// holdFiles puts what the attacks are about where it was.
func holdFiles(t *testing.T) {
	t.Helper()
	// Mounts that an attack left, without those that they are copies of.
	for unix.Mount("", elsewhere, "", unix.MS_REC|unix.MS_PRIVATE, "") == nil && unix.Unmount(elsewhere, unix.MNT_DETACH) == nil {
	}
	for _, name := range []string{glassFile, "/etc/other", "/etc/link", "/run/x", elsewhere + "/policy", elsewhere + "/x"} {
		must(os.RemoveAll(name))
	}
	for from, to := range map[string]string{"/gone": "/etc", "/etc/gone": policyDir, "/run/gone": enforce.DefaultState} {
		if _, err := os.Stat(from); err == nil {
			must(os.Rename(from, to))
		}
	}
	must(os.MkdirAll(elsewhere, 0o755))
	must(os.MkdirAll(enforce.DefaultState+"/domains", 0o700))
	for _, name := range []string{policyFile, storeFile, enforce.DefaultState + "/x"} {
		must(os.MkdirAll(filepath.Dir(name), 0o700))
		must(os.WriteFile(name, []byte("x"), 0o600))
	}
	if _, err := os.Stat(enforce.DefaultState + "/domains/y"); err == nil {
		must(os.Remove(enforce.DefaultState + "/domains/y"))
	}
	was, err := os.Stat(image + "/bin/program")
	must(err)
	if is, err := os.Stat("/bin/program"); err != nil || !os.SameFile(was, is) {
		must(os.RemoveAll("/bin/program"))
		must(os.Link(image+"/bin/program", "/bin/program"))
	}
	must(os.Chmod("/bin/program", 0o755))
}

// TestHold attacks what keeps the verifier in force.
func TestHold(t *testing.T) {
	vm.Test(t, vm.Some("6.12"), vm.Config{Memory: 1536, Timeout: 20 * time.Minute, Host: func(t vm.TB, c *vm.Config) {
		for in, from := range guestFiles() {
			c.Files[in] = from
		}
	}}, testHold)
}

func testHold(t *testing.T, k vm.Kernel) {
	must(makeImage())
	b, err := os.ReadFile("/bin/program")
	must(err)
	must(os.WriteFile("/bin/other", b, 0o755)) // the host's root, who is not the agent
	must(os.MkdirAll(agentCgroup, 0o755))
	must(enforce.JoinCgroup(agentCgroup))
	holdFiles(t)
	try := func(t *testing.T, a holdAttack, program, cgroup string, baseline bool) outcome {
		t.Helper()
		holdFiles(t)
		agent := exec.Command("/bin/program") // the same executable
		agent.Env = []string{"STAGE=child"}
		in, err := agent.StdinPipe()
		must(err)
		must(agent.Start())
		defer func() {
			in.Close()
			_ = agent.Process.Kill()
			_ = agent.Wait() // the attack may have ended it
		}()
		cmd := exec.Command(program)
		cmd.Env = []string{"STAGE=hold", "ATTACK=" + a.name, "AGENT=" + strconv.Itoa(agent.Process.Pid)}
		cmd.Stderr = os.Stderr
		dir, err := os.Open(cgroup)
		must(err)
		defer dir.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		if baseline {
			cmd.Env = append(cmd.Env, "BASELINE=1")
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		var o outcome
		must(json.Unmarshal(out, &o))
		if o.Untried != "" {
			t.Fatalf("could not try: %s", o.Untried)
		}
		if o.Control != "" && !baseline { // an attack that works may leave no root to run it in
			t.Errorf("control: %s", o.Control)
		}
		return o
	}
	t.Run("baseline", func(t *testing.T) {
		must(os.Mkdir(enforce.DefaultPins, 0o700))
		for _, a := range holdAttacks {
			t.Run(a.slug(), func(t *testing.T) {
				if o := try(t, a, "/bin/other", "/sys/fs/cgroup", true); o.Error != "" {
					t.Errorf("does not work even without the verifier: %s", o.Error)
				}
			})
		}
		must(unix.Mount("", "/sys/fs/bpf", "", unix.MS_REMOUNT, "")) // one of them made it read-only
		must(os.Remove(enforce.DefaultPins))
		holdFiles(t)
	})

	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")) // as systemd does
	options := pinned
	options.Guard = []string{policyFile, policyDir}
	e, err := enforce.Load(options)
	if err != nil {
		t.Fatal(err)
	}
	must(e.Guard(storeDir))
	set, err := imageSet()
	must(err)
	events := watch(t, e)
	c := newContainer(t)
	if _, err := e.Add(enforce.Domain{Name: "in force", Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}, set); err != nil {
		t.Fatal(err)
	}
	inForce := func(t *testing.T) {
		t.Helper()
		if o := attacks[0].run(t, c); o.Errno != syscall.EPERM || o.Control != "" {
			t.Fatalf("not in force: %+v", o)
		}
	}
	inForce(t)
	hostDomain := func(name string, enforced bool) (string, uint32) {
		cgroup, err := enforce.NewCgroup(name)
		must(err)
		id, err := e.Add(enforce.Domain{
			Name: name, Cgroup: cgroup, Root: "/", HostRoot: true, Rules: enforce.Rules{Enforce: enforced, Soft: true, JIT: true},
		}, set)
		must(err)
		return cgroup, id
	}
	enforced, enforcedID := hostDomain("host-enforced", true)
	audited, auditedID := hostDomain("host-audited", false)
	for _, by := range []struct {
		name, program, cgroup string
		id                    uint32
	}{
		{"the host's root", "/bin/other", "/sys/fs/cgroup", 0},
		{"an enforced container", "/bin/program", enforced, enforcedID}, // the agent's executable makes it no agent
		{"an audited container", "/bin/program", audited, auditedID},
	} {
		t.Run(by.name, func(t *testing.T) {
			last := map[string]time.Time{}
			for _, a := range holdAttacks {
				if a.root && by.id != 0 {
					continue
				}
				t.Run(a.slug(), func(t *testing.T) {
					// What is the same within a second is reported once.
					time.Sleep(time.Until(last[a.op].Add(1100 * time.Millisecond)))
					must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")) // an attack may have made some of it private
					since := events.len()
					o := try(t, a, by.program, by.cgroup, false)
					last[a.op] = time.Now()
					if a.free && by.id == 0 {
						if o.Error != "" {
							t.Errorf("the administrator cannot: %s", o.Error)
						}
						if a.op == "signal" && a.name != "SIGHUP" && !events.after(since, 0, a.op, "reported") {
							t.Errorf("no report; events: %v", events.of(0))
						}
						return
					}
					if o.Error == "" {
						t.Fatalf("worked; events: %v", events.of(by.id))
					}
					if o.Errno != cmp.Or(a.errno, syscall.EPERM) {
						t.Fatalf("denied, but not by us: %s; events: %v", o.Error, events.of(by.id))
					}
					if !events.after(since, by.id, a.op, "denied") {
						t.Errorf("no event; events: %v", events.of(by.id))
					}
				})
			}
			must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""))
			inForce(t)
		})
	}

	t.Run("an administrator's mounts", func(t *testing.T) {
		cmd := exec.Command("/bin/other")
		cmd.Env = []string{"STAGE=administrator"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		inForce(t)
	})

	t.Run("the pins out of sight, and back", func(t *testing.T) {
		for _, way := range []struct {
			name string
			take func() error
		}{
			{"umount", func() error { return unix.Unmount("/sys/fs/bpf", unix.MNT_DETACH) }},
			{"tmpfs over /sys/fs", func() error { return tmpfs("/sys/fs") }},
		} {
			name, take := way.name, way.take
			_, goOn := startEarly(t, c)
			must(take()) // as the agent, whom the verifier lets
			if _, err := os.Stat(enforce.DefaultPins); err == nil {
				t.Fatalf("%s: they are still in sight", name)
			}
			if o := goOn(); o.Errno != syscall.EPERM || o.Control != "" {
				t.Errorf("%s: not in force: %+v", name, o)
			}
			if restored, err := e.Restore(); err != nil || !restored {
				t.Fatalf("%s: %v %v", name, restored, err)
			}
			if _, err := os.Stat(enforce.DefaultPins + "/maps/agents"); err != nil {
				t.Error(err)
			}
			if restored, err := e.Restore(); err != nil || restored {
				t.Errorf("%s: again: %v %v", name, restored, err)
			}
			cmd := exec.Command("/bin/other")
			cmd.Env = []string{"STAGE=hold", "ATTACK=umount -l of the bpffs"}
			if out, err := cmd.Output(); err != nil || !errorIs(out, syscall.EPERM) {
				t.Errorf("%s: not guarded where they are now: %v %s", name, err, out)
			}
		}
		must(unix.Unmount("/sys/fs/bpf", unix.MNT_DETACH))
		must(unix.Unmount("/sys/fs", unix.MNT_DETACH)) // the enforcer has its directories open
		// What was put back first is still there, below the tmpfs.
		if restored, err := e.Restore(); err != nil || restored {
			t.Fatalf("%v %v", restored, err)
		}
	})

	t.Run("what another process keeps", func(t *testing.T) {
		kept, err := e.Keep()
		must(err)
		must(unix.Unmount("/sys/fs/bpf", unix.MNT_DETACH))
		must(e.Close())
		inForce(t)
		options.Kept = kept
		if e, err = enforce.Load(options); err != nil {
			t.Fatal(err)
		}
		must(kept.Close())
		if !e.Adopted || !e.Restored {
			t.Errorf("adopted %v, restored %v", e.Adopted, e.Restored)
		}
		if err := e.Canary(); err != nil {
			t.Error(err)
		}
		inForce(t)
	})

	t.Run("unloaded, whoever keeps it", func(t *testing.T) {
		kept, err := e.Keep()
		must(err)
		must(e.Unload())
		if released, err := e.Released(); err != nil || !released {
			t.Errorf("released: %v %v", released, err)
		}
		if o := attacks[0].run(t, c); o.Error != "" {
			t.Errorf("still in force: %s", o.Error)
		}
		must(e.Close())
		options.Kept = kept
		if e, err = enforce.Load(options); err != nil {
			t.Fatal(err)
		}
		if e.Adopted || e.Restored {
			t.Error("what was unloaded was taken up")
		}
		must(kept.Close())
		must(e.Unload())
		must(e.Close())
	})
}

func errorIs(out []byte, errno syscall.Errno) bool {
	var o outcome
	return json.Unmarshal(out, &o) == nil && o.Errno == errno
}

// administrator does with mounts what administrators do, and ends with status 0 if
// all of that is let.
func administrator() int {
	runtime.LockOSThread()
	const chroot = elsewhere + "/chroot"
	err := tryIt(func() error {
		must(os.MkdirAll(chroot, 0o755))
		for _, step := range []func() error{
			func() error { return tmpfs(elsewhere) },
			func() error { return os.Mkdir(chroot, 0o755) },
			func() error { return unix.Mount("/sys", chroot, "", unix.MS_BIND, "") }, // as arch-chroot does
			func() error { return unix.Unmount(chroot, 0) },
			func() error { return unix.Mount("/sys", chroot, "", unix.MS_BIND|unix.MS_REC, "") },
			func() error { return unix.Mount("", chroot, "", unix.MS_SLAVE|unix.MS_REC, "") },
			func() error { return unix.Unmount(chroot, unix.MNT_DETACH) },
			func() error { return unix.Mount("", elsewhere, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") },
			func() error { return unix.Unmount(elsewhere, 0) },
			func() error { return unix.Mount("", "/run", "", unix.MS_REMOUNT, "size=100m") },
			func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") },
			func() error { return unix.Unshare(unix.CLONE_NEWNS) },
			func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "") },
			func() error { return tmpfs("/sys/fs") },
			func() error { return unix.Unmount("/sys", unix.MNT_DETACH) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// len tells how many events there were.
func (w *watched) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events)
}

// after waits for an event of reason "self" after the first n.
func (w *watched) after(n int, id uint32, op, action string) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		for _, ev := range w.events[n:] {
			if ev.Domain == id && ev.Operation == op && ev.Reason == "self" && ev.Action == action {
				w.mu.Unlock()
				return true
			}
		}
		w.mu.Unlock()
	}
	return false
}
