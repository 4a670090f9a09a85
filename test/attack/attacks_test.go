// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// attack is one row of the table.
type attack struct {
	name       string
	op, reason string // of the event
	// try attacks from inside the container; nil means that what must not
	// run, ran.
	try func() error
	// host attacks from outside, as the host's root.
	host func(c *container) error
	// refused tells on which kernels the attack fails without us, and why.
	refused map[vm.Kernel]string
	rules   func(*enforce.Rules)
	// anyDomain: the event is about the host, not about a container.
	anyDomain bool
	// ours: means something to our verifier only.
	ours bool
}

func (a *attack) slug() string { return strings.ReplaceAll(a.name, "/", "_") }

// untried is an error in the preparation of an attack.
type untried struct{ error }

func must(err error) {
	if err != nil {
		panic(untried{err})
	}
}

// executing and a path are the name of the attack that executes a file of the image.
const executing = "execute "

// attacker tries one attack and tells the observer how it went.
func attacker(name string) int {
	// Mounts, namespaces and personality are of the thread.
	runtime.LockOSThread()
	o := outcome{Untried: "no such attack"}
	if path, ok := strings.CutPrefix(name, executing); ok {
		o = outcomeOf(tryIt(func() error { return execute(path) }))
	}
	for _, a := range append(attacks, userNamespaceAttack, early, blind, writeAndExecute, fromMemfd, flood) {
		if a.name == name {
			o = outcomeOf(tryIt(a.try))
		}
	}
	// In another thread, which the attack left as it was.
	control := make(chan error)
	go func() { control <- exec.Command("/bin/control").Run() }()
	if err := <-control; err != nil {
		o.Control = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		return 1
	}
	return 0
}

func tryIt(try func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = untried{fmt.Errorf("%v", r)}
		}
	}()
	return try()
}

func outcomeOf(err error) (o outcome) {
	if err == nil {
		return o
	}
	var u untried
	if errors.As(err, &u) {
		return outcome{Untried: err.Error()}
	}
	o.Error = err.Error()
	errors.As(err, &o.Errno)
	return o
}

var evmRefused = map[vm.Kernel]string{
	"6.12": "the kernel gives EPERM on an overlay", "6.18": "the kernel gives EPERM on an overlay", "7.3": "the kernel gives EPERM on an overlay",
}

// drop writes a file that exits with status evil.
func drop(name string) string {
	must(os.WriteFile(name, tiny(evil), 0o755))
	return name
}

// ran tells whether the command ended with status evil. A program that
// reports EPERM in words counts as EPERM, and so does ld.so, which keeps the
// errno of a failed mmap to itself: the event tells whose denial it was.
func ran(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return err
	}
	if cmd.ProcessState.ExitCode() == evil {
		return nil
	}
	for _, words := range []string{"Operation not permitted", "operation not permitted", "failed to map segment", "cannot be preloaded"} {
		if strings.Contains(string(out), words) {
			return fmt.Errorf("%s: %w", strings.TrimSpace(string(out)), syscall.EPERM)
		}
	}
	return fmt.Errorf("exit status %d: %s", cmd.ProcessState.ExitCode(), out)
}

func execute(name string, args ...string) error { return ran(exec.Command(name, args...)) }

// executeFD executes an open file.
func executeFD(f *os.File) error {
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	return ran(cmd)
}

// create makes a file and gives it open for reading only.
func create(name string) *os.File {
	f, err := os.Open(drop(name))
	must(err)
	return f
}

// mapExec maps a dropped file executable.
func mapExec(name string, prot int) ([]byte, error) {
	f := create(name)
	return unix.Mmap(int(f.Fd()), 0, 4096, prot, unix.MAP_PRIVATE)
}

func open(name string, flags int) error {
	fd, err := unix.Open(name, flags, 0)
	if err == nil {
		must(unix.Close(fd))
	}
	return err
}

// libraries of the image, and a changed copy of one.
const (
	loader = "/lib64/ld-linux-x86-64.so.2"
	libc   = "/lib/x86_64-linux-gnu/libc.so.6"
	libm   = "/usr/lib/x86_64-linux-gnu/libm.so.6"
)

func changedCopy(from, to string) string {
	b, err := os.ReadFile(from)
	must(err)
	must(os.WriteFile(to, append(b, 0), 0o755))
	return to
}

// loaded runs a shell that looks for text among its own mappings.
func loaded(text string, env ...string) error {
	cmd := exec.Command("/bin/dash", "-c", `while read -r line; do case $line in *r-xp*`+text+`*) exit 42;; esac; done </proc/self/maps`)
	cmd.Env = env
	return ran(cmd)
}

const readImpliesExec = 0x0400000 // include/uapi/linux/personality.h

func personality(p uintptr) {
	if _, _, errno := unix.Syscall(unix.SYS_PERSONALITY, p, 0, 0); errno != 0 {
		must(errno)
	}
}

// child is a process for others to attack: it says that it runs, and waits for
// the end of its input.
func child() int {
	var b [1]byte
	os.Stdout.Write(b[:])
	os.Stdin.Read(b[:])
	return 0
}

// victim starts a process to attack and gives its id.
func victim() int {
	cmd := exec.Command("/bin/program")
	cmd.Env = []string{"STAGE=child"}
	_, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	_, err = out.Read(make([]byte, 1))
	must(err)
	return cmd.Process.Pid
}

var plainAttacks = []*attack{
	// Dropped programs.
	{name: "program dropped in the writable layer", op: "exec", reason: "writable-layer",
		try: func() error { return execute(drop("/home/x")) }},
	{name: "copy of a listed program in the writable layer", op: "exec", reason: "writable-layer",
		try: func() error {
			b, err := os.ReadFile("/bin/fortytwo")
			must(err)
			must(os.WriteFile("/home/fortytwo", b, 0o755))
			return execute("/home/fortytwo")
		}},
	{name: "changed copy that kept its attributes", op: "exec", reason: "writable-layer",
		try: func() error {
			drop("/home/x")
			value := make([]byte, 256)
			for _, name := range []string{"security.ima", "security.bpf.bless"} {
				n, err := unix.Getxattr("/bin/true", name, value)
				must(err)
				must(unix.Setxattr("/home/x", name, value[:n], 0))
			}
			return execute("/home/x")
		}},
	{name: "program of the image that is not listed", op: "exec", reason: "not-listed",
		try: func() error { return execute("/opt/unlisted") }},
	{name: "program on tmpfs", op: "exec", reason: "foreign-fs",
		try: func() error { return execute(drop("/tmp/x")) }},
	{name: "program in /dev/shm", op: "exec", reason: "foreign-fs",
		try: func() error { return execute(drop("/dev/shm/x")) }},
	{name: "program on a bind-mounted volume", op: "exec", reason: "foreign-fs",
		try: func() error { return execute(drop("/data/x")) }},
	{name: "memfd_create and fexecve", op: "exec", reason: "foreign-fs",
		try: func() error {
			fd, err := unix.MemfdCreate("x", 0)
			must(err)
			_, err = unix.Write(fd, tiny(evil))
			must(err)
			return execute(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd))
		}},
	{name: "O_TMPFILE through /proc/self/fd", op: "exec", reason: "writable-layer",
		refused: map[vm.Kernel]string{"6.1": "overlayfs gives EOPNOTSUPP"},
		try: func() error {
			fd, err := unix.Open("/home", unix.O_TMPFILE|unix.O_RDWR, 0o755)
			if err != nil {
				return err
			}
			_, err = unix.Write(fd, tiny(evil))
			must(err)
			f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
			must(err)
			must(unix.Close(fd))
			return executeFD(f)
		}},
	{name: "unlinked file through /proc/self/fd", op: "exec", reason: "writable-layer",
		try: func() error {
			f := create("/home/x")
			must(os.Remove("/home/x"))
			return executeFD(f)
		}},
	{name: "symbolic link to a dropped program", op: "exec", reason: "foreign-fs",
		try: func() error {
			drop("/tmp/x")
			must(os.Symlink("/tmp/x", "/home/link"))
			return execute("/home/link")
		}},
	{name: "bind mount over a listed path", op: "exec", reason: "foreign-fs",
		try: func() error {
			must(unix.Mount(drop("/tmp/x"), "/bin/fortytwo", "", unix.MS_BIND, ""))
			return execute("/bin/fortytwo")
		}},
	{name: "execve from another thread", op: "exec", reason: "foreign-fs",
		try: func() error {
			drop("/tmp/x")
			done := make(chan error)
			go func() { runtime.LockOSThread(); done <- execute("/tmp/x") }()
			return <-done
		}},

	// Scripts and interpreters.
	{name: "dropped script with #!", op: "exec", reason: "writable-layer",
		try: func() error {
			must(os.WriteFile("/home/x", []byte("#!/bin/dash\nexit 42\n"), 0o755))
			return execute("/home/x")
		}},
	{name: "listed script with a dropped interpreter", op: "exec", reason: "foreign-fs",
		try: func() error { drop("/tmp/interpreter"); return execute("/bin/tmp-script") }},
	{name: "interpreter given a dropped file by path", op: "read-code", reason: "writable-layer",
		try: func() error {
			must(os.WriteFile("/home/x.sh", []byte("exit 42\n"), 0o644))
			return execute("/bin/dash", "/home/x.sh")
		}},
	{name: "interpreter given a file on tmpfs by path", op: "read-code", reason: "foreign-fs",
		try: func() error {
			must(os.WriteFile("/tmp/x.sh", []byte("exit 42\n"), 0o644))
			return execute("/bin/dash", "-c", ". /tmp/x.sh")
		}},

	// The dynamic loader.
	{name: "ld.so with a dropped program", op: "mmap", reason: "foreign-fs",
		try: func() error {
			changedCopy("/bin/dash", "/tmp/dash")
			return execute(loader, "/tmp/dash", "-c", "exit 42")
		}},
	{name: "LD_PRELOAD of a dropped library", op: "mmap", reason: "foreign-fs",
		try: func() error { return loaded("evil.so", "LD_PRELOAD="+changedCopy(libm, "/tmp/evil.so.1")) }},
	{name: "LD_LIBRARY_PATH with a changed library", op: "mmap", reason: "foreign-fs",
		try: func() error { changedCopy(libc, "/tmp/libc.so.6"); return loaded("/tmp/libc", "LD_LIBRARY_PATH=/tmp") }},
	{name: "changed library in the writable layer", op: "mmap", reason: "writable-layer",
		try: func() error { return loaded("evil.so", "LD_PRELOAD="+changedCopy(libm, "/home/evil.so.1")) }},
	{name: "dlopen: mmap of a dropped file", op: "mmap", reason: "writable-layer",
		try: func() error { _, err := mapExec("/home/x", unix.PROT_READ|unix.PROT_EXEC); return err }},
	{name: "mmap of a dropped file under READ_IMPLIES_EXEC", op: "mmap", reason: "writable-layer",
		try: func() error {
			f := create("/home/x")
			personality(readImpliesExec)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
			personality(0)
			if err == nil {
				must(executable(&b[0]))
			}
			return err
		}},

	// Code in memory.
	{name: "mmap readable, mprotect executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			b, err := mapExec("/home/x", unix.PROT_READ)
			must(err)
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
		}},
	{name: "private mapping written, then executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
			must(err)
			copy(b, tiny(evil))
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
		}},
	{name: "listed file mapped writable and executable", op: "mmap", reason: "write-exec",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			_, err = unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE)
			return err
		}},
	{name: "code of a listed file made writable", op: "mprotect", reason: "write-exec",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
			must(err)
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC)
		}},
	{name: "anonymous memory, writable and executable", op: "mmap", reason: "anonymous",
		try: func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
			return err
		}},
	{name: "anonymous memory, written, then executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			must(err)
			copy(b, tiny(evil))
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
		}},
	{name: "shmat with SHM_EXEC", op: "mmap", reason: "foreign-fs",
		try: func() error {
			id, err := unix.SysvShmGet(0 /* IPC_PRIVATE */, 4096, 0o700|unix.IPC_CREAT)
			must(err)
			_, err = unix.SysvShmAttach(id, 0, 0o110000 /* SHM_RDONLY | SHM_EXEC */)
			return err
		}},
	{name: "/proc/self/mem written over code", op: "write", reason: "hardened",
		refused: map[vm.Kernel]string{"7.3": "the kernel gives EIO"},
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
			must(err)
			fd, err := unix.Open("/proc/self/mem", unix.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = unix.Pwrite(fd, []byte{0xcc}, address(&b[0]))
			return err
		}},
	{name: "ptrace of another process", op: "ptrace", reason: "hardened",
		try: func() error { return unix.PtraceAttach(victim()) }},
	{name: "PTRACE_TRACEME", op: "ptrace", reason: "hardened",
		try: func() error {
			cmd := exec.Command("/bin/true")
			cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
			if err := cmd.Start(); err != nil {
				return err
			}
			return cmd.Process.Kill()
		}},
	{name: "process_vm_writev", op: "ptrace", reason: "hardened",
		try: func() error {
			// To the same address here and there: both run the same program.
			buf := []byte{0}
			local := []unix.Iovec{{Base: &buf[0], Len: 1}}
			n, err := unix.ProcessVMWritev(victim(), local, []unix.RemoteIovec{{Base: address2(&target), Len: 1}}, 0)
			if err == nil && n != 1 {
				return fmt.Errorf("%d bytes written", n)
			}
			return err
		}},

	// Changing what is listed.
	{name: "write to a listed file", op: "write", reason: "guarded",
		try: func() error { return open("/bin/true", unix.O_WRONLY) }},
	{name: "write to a listed script", op: "write", reason: "guarded",
		try: func() error { return open("/bin/lib.py", unix.O_WRONLY) }},
	{name: "write to a listed library that has no x bit", op: "write", reason: "guarded",
		try: func() error {
			info, err := os.Stat(libm)
			must(err)
			if info.Mode()&0o111 != 0 {
				must(errors.New("it has one"))
			}
			return open(libm, unix.O_WRONLY)
		}},
	{name: "write to a file that is no code (guard-all)", op: "write", reason: "guarded", ours: true,
		rules: func(r *enforce.Rules) { r.GuardAll = true },
		try:   func() error { return open("/opt/plain", unix.O_WRONLY) }},
	{name: "program larger than the rule allows (max-size)", op: "exec", reason: "too-large", ours: true,
		rules: func(r *enforce.Rules) { r.MaxSize = 16 << 20 },
		try:   func() error { return execute("/opt/large") }},
	{name: "append to a listed file", op: "write", reason: "guarded",
		try: func() error { return open("/bin/true", unix.O_WRONLY|unix.O_APPEND) }},
	{name: "open a listed file with O_TRUNC", op: "write", reason: "guarded",
		try: func() error { return open("/bin/true", unix.O_WRONLY|unix.O_TRUNC) }},
	{name: "truncate a listed file", op: "setattr", reason: "guarded",
		try: func() error { return unix.Truncate("/bin/true", 0) }},
	{name: "chmod u+s of a listed file", op: "setattr", reason: "guarded",
		try: func() error { return unix.Chmod("/bin/true", 0o4755) }},
	{name: "chown of a listed file", op: "setattr", reason: "guarded",
		try: func() error { return unix.Chown("/bin/true", 1, 1) }},
	{name: "rename onto a listed file", op: "rename", reason: "guarded",
		try: func() error { return os.Rename(drop("/home/x"), "/bin/true") }},
	{name: "rename of a listed file", op: "rename", reason: "guarded",
		try: func() error { return os.Rename("/bin/fortytwo", "/bin/43") }},
	{name: "unlink of a listed file", op: "unlink", reason: "guarded",
		try: func() error { return os.Remove("/bin/fortytwo") }},
	{name: "hard link to a listed file", op: "link", reason: "guarded",
		try: func() error { return os.Link("/bin/fortytwo", "/bin/43") }},
	{name: "setxattr security.ima", op: "xattr", reason: "guarded",
		try: func() error {
			return unix.Setxattr("/bin/true", "security.ima", append([]byte{4, 4}, make([]byte, 32)...), 0)
		}},
	{name: "removexattr security.ima", op: "xattr", reason: "guarded",
		try: func() error { return unix.Removexattr("/bin/true", "security.ima") }},
	{name: "setxattr security.bpf.bless", op: "xattr", reason: "guarded",
		try: func() error { return unix.Setxattr("/bin/true", "security.bpf.bless", []byte("other"), 0) }},
	{name: "removexattr security.bpf.bless", op: "xattr", reason: "guarded",
		try: func() error { return unix.Removexattr("/bin/true", "security.bpf.bless") }},
	{name: "setcap on a listed file", op: "xattr", reason: "guarded",
		try: func() error { return unix.Setxattr("/bin/fortytwo", "security.capability", fileCaps, 0) }},
	{name: "removexattr security.capability", op: "xattr", reason: "guarded",
		try: func() error { return unix.Removexattr("/bin/true", "security.capability") }},
	{name: "setxattr security.evm", op: "xattr", reason: "guarded", refused: evmRefused,
		try: func() error { return unix.Setxattr("/bin/true", "security.evm", evmSignature, 0) }},
	{name: "removexattr security.evm", op: "xattr", reason: "guarded", refused: evmRefused,
		try: func() error { return unix.Removexattr("/bin/true", "security.evm") }},
	{name: "FS_IOC_SETFLAGS on a listed file", op: "ioctl", reason: "guarded",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
			must(err)
			return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
		}},
	{name: "FS_IOC32_SETFLAGS on a listed file, in 32-bit mode", op: "ioctl", reason: "guarded",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
			must(err)
			low, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_32BIT)
			must(err)
			binary.NativeEndian.PutUint32(low, uint32(flags))
			const ioctl, setFlags = 54, 0x40046602 // arch/x86/entry/syscalls/syscall_32.tbl, include/uapi/linux/fs.h
			if r := syscall32(ioctl, uint32(f.Fd()), setFlags, uint32(pointer(low))); r != 0 {
				return syscall.Errno(-r)
			}
			return nil
		}},
	{name: "userfaultfd", op: "userfaultfd", reason: "hardened",
		try: func() error {
			_, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
			return errnoError(errno)
		}},
	{name: "writable MAP_SHARED kept after close (soft)", op: "exec", reason: "writer",
		rules: func(r *enforce.Rules) { r.Soft = true },
		try: func() error {
			b, err := os.ReadFile("/bin/fortytwo")
			must(err)
			must(os.WriteFile("/home/x", b, 0o755))
			fd, err := unix.Open("/home/x", unix.O_RDWR, 0)
			must(err)
			_, err = unix.Mmap(fd, 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(err)
			must(unix.Close(fd))
			return execute("/home/x")
		}},
	{name: "write to a copy that was judged good (soft)", op: "write", reason: "guarded",
		rules: func(r *enforce.Rules) { r.Soft = true },
		try: func() error {
			b, err := os.ReadFile("/bin/fortytwo")
			must(err)
			must(os.WriteFile("/home/x", b, 0o755))
			must(execute("/home/x"))
			return open("/home/x", unix.O_WRONLY)
		}},

	// Leaving the container's identity.
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
		try: func() error {
			cmd := exec.Command("/bin/program")
			cmd.Env = []string{"STAGE=attacker", "ATTACK=" + inUserNamespace}
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
				UidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
			}
			out, err := cmd.Output()
			must(err)
			var o outcome
			must(json.Unmarshal(out, &o))
			if o.Untried != "" {
				must(errors.New(o.Untried))
			}
			if o.Error != "" {
				return fmt.Errorf("%s: %w", o.Error, o.Errno)
			}
			return nil
		}},
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

	// Weakening the kernel or the verifier.
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
	{name: "host root turns ftrace off", op: "write", reason: "self", anyDomain: true, ours: true,
		host: func(*container) error { return open("/proc/sys/kernel/ftrace_enabled", unix.O_WRONLY) }},
}

// inUserNamespace is the inner half of an attack.
const inUserNamespace = "(in a user namespace)"

var userNamespaceAttack = &attack{name: inUserNamespace, try: func() error {
	must(unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
	return execute(drop("/tmp/x"))
}}

var target [8]byte

func dirWith(dir string) string {
	must(os.Mkdir(dir, 0o755))
	drop(dir + "/x")
	return dir
}

func errnoError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
