// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// escapeAttacks leave the container, or have the kernel act for it.
var escapeAttacks = []*attack{
	{name: "moving to another cgroup", op: "exec", reason: "foreign-fs",
		try: func() error {
			must(os.WriteFile("/sys/fs/cgroup/cgroup.procs", []byte("0"), 0))
			return execute(drop("/tmp/x"))
		}},
	{name: "unshare, and a tmpfs of one's own", op: "exec", reason: "foreign-fs",
		try: func() error {
			must(unix.Unshare(unix.CLONE_NEWNS))
			must(unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
			return execute(drop("/tmp/x"))
		}},
	{name: "an overlay of one's own", op: "exec", reason: "foreign-fs",
		try: func() error {
			must(unix.Mount("overlay", "/data", "overlay", 0, "lowerdir="+dirWith("/tmp/lower")+":/bin"))
			return execute("/data/x")
		}},
	{name: "tmpfs in a user namespace", op: "exec", reason: "rejected-fs",
		try: func() error { return inUserNamespace(ownTmpfs) }},
	{name: "nsenter of the host's mount namespace", op: "exec", reason: "foreign-fs",
		try: func() error {
			must(unix.Unshare(unix.CLONE_FS)) // setns asks for it
			must(unix.Setns(hostMounts, unix.CLONE_NEWNS))
			return execute("/image/bin/fortytwo")
		}},
	{name: "host task executes a dropped file of the container", op: "exec", reason: "writable-layer",
		host: func(c *container) error {
			if err := os.WriteFile(c.root+"/home/x", tiny(evil), 0o755); err != nil {
				return untried{err}
			}
			return execute(c.root + "/home/x")
		}},
	{name: "bpf(2)", op: "bpf", reason: "hardened",
		try: func() error {
			attr := make([]byte, 64)
			_, _, errno := unix.Syscall(unix.SYS_BPF, 11 /* BPF_PROG_GET_NEXT_ID */, pointer(attr), uintptr(len(attr)))
			if errno == unix.ENOENT {
				errno = 0 // allowed; there is no program
			}
			return errnoError(errno)
		}},
	{name: "loading a module", op: "module", reason: "hardened",
		try: func() error {
			err := unix.InitModule(make([]byte, 4096), "")
			if errors.Is(err, unix.ENOEXEC) {
				return nil // it was read
			}
			return err
		}},
	{name: "AF_ALG socket", op: "socket", reason: "hardened",
		try: func() error { _, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0); return err }},
	{name: "write to core_pattern", op: "write", reason: "hardened",
		try: func() error { return open("/proc/sys/kernel/core_pattern", unix.O_WRONLY) }},
	{name: "binfmt_misc register", op: "write", reason: "hardened",
		try: func() error {
			must(unix.Mount("binfmt_misc", "/tmp", "binfmt_misc", 0, ""))
			return open("/tmp/register", unix.O_WRONLY)
		}},
	{name: "clone3 into another cgroup", op: "exec", reason: "foreign-fs",
		try: func() error {
			fd, err := unix.Open("/sys/fs/cgroup", unix.O_RDONLY, 0)
			must(err)
			cmd := exec.Command(drop("/tmp/x"))
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
			return ran(cmd)
		}},
	{name: "core_pattern helper that is a dropped file", op: "exec", reason: "writable-layer",
		host: func(c *container) error {
			name := c.root + "/home/x"
			must(os.WriteFile(name, marking(), 0o755))
			const pattern = "/proc/sys/kernel/core_pattern"
			had, err := os.ReadFile(pattern)
			must(err)
			must(os.WriteFile(pattern, []byte("|"+name), 0))
			defer os.WriteFile(pattern, had, 0)
			out, err := stage("crash").CombinedOutput()
			if err == nil || !strings.Contains(err.Error(), "aborted") {
				must(fmt.Errorf("no crash: %v: %s", err, out))
			}
			return marked("")
		}},
	{name: "release_agent of a cgroup v1 hierarchy", op: "write", reason: "hardened",
		try: func() error {
			return releaseAgent(cgroupV1, func(path string) error {
				return os.WriteFile(cgroupV1+"/release_agent", []byte(path), 0)
			})
		}},
	{name: "release_agent as a mount option", op: "mount", reason: "hardened",
		try: func() error {
			must(os.Mkdir("/tmp/cgroup", 0o755))
			return releaseAgent("/tmp/cgroup", func(path string) error {
				return unix.Mount("cgroup", "/tmp/cgroup", "cgroup", 0, "none,name=option"+containerName()+",release_agent="+path)
			})
		}},
	{name: "moving to a cgroup of one's own below", op: "exec", reason: "foreign-fs",
		try: func() error {
			dir := "/sys/fs/cgroup/container" + containerName() + "/below"
			must(os.Mkdir(dir, 0o755))
			must(os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0))
			return execute(drop("/tmp/x"))
		}},
	{name: "program dropped on the host's root filesystem", op: "exec", reason: "foreign-fs",
		try: func() error { return onHost(func() error { return execute(drop("/tmp/dropped")) }) }},
	{name: "listed file executed where the host has it", op: "exec", reason: "foreign-fs",
		try: func() error { return onHost(func() error { return execute("/image/bin/fortytwo") }) }},
	{name: "program dropped in the writable layer, executed where the host has it", op: "exec", reason: "foreign-fs",
		try: func() error {
			drop("/home/x")
			return onHost(func() error { return execute(os.Getenv("UPPER") + "/home/x") })
		}},
	{name: "child that outlives its parent", op: "exec", reason: "foreign-fs",
		try: func() error {
			must(os.WriteFile("/tmp/x", marking(), 0o755))
			must(exec.Command("/bin/dash", "-c", "/bin/dash -c '/tmp/x' &").Run())
			return marked("")
		}},
	{name: "disk of one's own, mounted", op: "exec", reason: "foreign-fs", layout: layout{disk: true},
		try: func() error {
			must(unix.Mount(os.Getenv("DEVICE"), "/data", "ext4", 0, ""))
			drop("/data/x")
			return execute("/data/x")
		}},
	{name: "FUSE filesystem of one's own", op: "exec", reason: "rejected-fs",
		try: func() error {
			server := newFuse("/tmp/fuse")
			server.read(append(tiny(evil), make([]byte, 4096-len(tiny(evil)))...))
			close(server.answer)
			must(server.start())
			return execute(server.file())
		}},
}

// inUserNamespace has a part of an attack done by the root of a user namespace.
func inUserNamespace(part *attack) error {
	cmd := stage("attacker")
	cmd.Env = append(cmd.Env, "ATTACK="+part.name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
	}
	out, err := cmd.Output()
	must(err)
	var o outcome
	must(json.Unmarshal(out, &o))
	return o.err()
}

var ownTmpfs = &attack{name: "(tmpfs in a user namespace)", try: func() error {
	must(unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
	return execute(drop("/tmp/x"))
}}

func dirWith(dir string) string {
	must(os.Mkdir(dir, 0o755))
	drop(dir + "/x")
	return dir
}

// releaseAgent has the kernel run a dropped file by its path on the host, in
// the directory that holds the writable layer.
func releaseAgent(hierarchy string, set func(path string) error) error {
	must(os.WriteFile("/home/x", marking(), 0o755))
	if err := set(os.Getenv("UPPER") + "/home/x"); err != nil {
		return err
	}
	dir := hierarchy + "/container" + containerName()
	must(os.Mkdir(dir, 0o755))
	must(os.WriteFile(dir+"/notify_on_release", []byte("1"), 0))
	cmd := stage("child")
	in, err := cmd.StdinPipe()
	must(err)
	must(cmd.Start())
	must(os.WriteFile(dir+"/cgroup.procs", fmt.Append(nil, cmd.Process.Pid), 0))
	must(in.Close())
	must(cmd.Wait())
	// It makes its mark in the host's root.
	must(unix.Unshare(unix.CLONE_FS))
	must(unix.Setns(hostMounts, unix.CLONE_NEWNS))
	return marked("")
}

// fsmount makes a filesystem that is mounted nowhere, and gives its descriptor.
func fsmount(kind string) int {
	fs, err := unix.Fsopen(kind, 0)
	must(err)
	must(unix.FsconfigCreate(fs))
	fd, err := unix.Fsmount(fs, 0, 0)
	must(err)
	return fd
}

// selfAttacks take the verifier away. More of them are in hold_test.go.
var selfAttacks = []*attack{
	{name: "host root turns ftrace off", op: "write", reason: "self", anyDomain: true, ours: true,
		host: func(*container) error { return open("/proc/sys/kernel/ftrace_enabled", unix.O_WRONLY) }},
}
