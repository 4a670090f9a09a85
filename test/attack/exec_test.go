// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// execAttacks run files that the image did not bring.
var execAttacks = []*attack{
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
	{name: "program larger than the rule allows (max-size)", op: "exec", reason: "too-large", ours: true,
		rules: func(r *enforce.Rules) { r.MaxSize = 16 << 20 },
		try:   func() error { return execute("/opt/large") }},
	{name: "execveat with AT_EMPTY_PATH", op: "exec", reason: "writable-layer",
		try: func() error { return ran(stage(noPath, create("/home/x"))) }},
	{name: "AT_EXECVE_CHECK approves a dropped program", op: "exec", reason: "writable-layer",
		refused: map[vm.Kernel]string{"6.1": "the kernel gives EINVAL", "6.12": "the kernel gives EINVAL"},
		try:     func() error { return execveat(int(create("/home/x").Fd()), atExecveCheck) }},
	{name: "tmpfs by fsopen and fsmount, attached nowhere", op: "exec", reason: "foreign-fs",
		try: func() error {
			dir := fsmount("tmpfs")
			fd, err := unix.Openat(dir, "x", unix.O_CREAT|unix.O_WRONLY, 0o755)
			must(err)
			_, err = unix.Write(fd, tiny(evil))
			must(err)
			must(unix.Close(fd))
			return execute(fmt.Sprintf("/proc/%d/fd/%d/x", os.Getpid(), dir))
		}},
	{name: "tmpfs moved over a listed directory by move_mount", op: "exec", reason: "foreign-fs",
		try: func() error {
			dir := fsmount("tmpfs")
			must(unix.MoveMount(dir, "", unix.AT_FDCWD, "/opt", unix.MOVE_MOUNT_F_EMPTY_PATH))
			return execute(drop("/opt/x"))
		}},
	{name: "execve of a 32-bit task", op: "exec", reason: "writable-layer",
		try: func() error { return execute32(drop("/home/x")) }},
	{name: "dropped script with #! and a listed interpreter, on tmpfs", op: "exec", reason: "foreign-fs",
		try: func() error {
			must(os.WriteFile("/tmp/x", []byte("#!/bin/dash\nexit 42\n"), 0o755))
			return execute("/tmp/x")
		}},
	{name: "O_TMPFILE linked to a name", op: "exec", reason: "writable-layer",
		refused: map[vm.Kernel]string{"6.1": "overlayfs gives EOPNOTSUPP"},
		try: func() error {
			fd, err := unix.Open("/home", unix.O_TMPFILE|unix.O_WRONLY, 0o755)
			if err != nil {
				return err
			}
			_, err = unix.Write(fd, tiny(evil))
			must(err)
			must(unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, "/home/x", unix.AT_SYMLINK_FOLLOW))
			must(unix.Close(fd))
			return execute("/home/x")
		}},
	{name: "detached copy of a mount, by open_tree", op: "exec", reason: "foreign-fs",
		try: func() error {
			drop("/tmp/x")
			fd, err := unix.OpenTree(unix.AT_FDCWD, "/tmp", unix.OPEN_TREE_CLONE)
			must(err)
			return execute(fmt.Sprintf("/proc/%d/fd/%d/x", os.Getpid(), fd))
		}},
	{name: "writable layer bind-mounted over listed programs", op: "exec", reason: "writable-layer",
		try: func() error {
			drop("/home/fortytwo")
			must(unix.Mount("/home", "/opt", "", unix.MS_BIND, ""))
			return execute("/opt/fortytwo")
		}},
	{name: "listed program changed in one byte, in the writable layer", op: "exec", reason: "writable-layer",
		try: func() error {
			b, err := os.ReadFile("/bin/true")
			must(err)
			b[121] = evil // the operand of its first instruction
			must(os.WriteFile("/home/true", b, 0o755))
			return execute("/home/true")
		}},
	{name: "dropped program executed by another user", op: "exec", reason: "foreign-fs",
		try: func() error {
			drop("/tmp/x")
			return asUser(owner, func() error { return execute("/tmp/x") })
		}},
	{name: "program dropped by its user, who has no capability", op: "exec", reason: "foreign-fs",
		try: func() error {
			must(unix.Chmod("/tmp", 0o1777))
			return asUser(owner, func() error { return execute(drop("/tmp/x")) })
		}},
	{name: "dropped file that binfmt_misc gives a listed interpreter", op: "exec", reason: "writable-layer",
		prepare: func(c *container) {
			const dir = "/run/binfmt"
			if err := os.Mkdir(dir, 0o755); err == nil {
				must(unix.Mount("binfmt_misc", dir, "binfmt_misc", 0, ""))
				must(os.WriteFile(dir+"/register", []byte(":attack:M::ATTK::/bin/dash:"), 0))
			}
		},
		try: func() error {
			must(os.WriteFile("/home/x", []byte("ATTK= ; exit 42\n"), 0o755))
			return execute("/home/x")
		}},
}

// loaded runs a shell that looks for text among its own mappings.
func loaded(text string, env ...string) error {
	cmd := exec.Command("/bin/dash", "-c", `while read -r line; do case $line in *r-xp*`+text+`*) exit 42;; esac; done </proc/self/maps`)
	cmd.Env = env
	return ran(cmd)
}

func changedCopy(from, to string) string {
	b, err := os.ReadFile(from)
	must(err)
	must(os.WriteFile(to, append(b, 0), 0o755))
	return to
}

// execute32 is execute by the system call of 32-bit programs, whose pointers are short.
func execute32(name string) error {
	cmd := stage("execve32")
	cmd.Args = []string{"program", name}
	return ran(cmd)
}

// execve32 becomes another program.
func execve32(name string) int {
	low, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_32BIT)
	must(err)
	copy(low[16:], name+"\x00")
	at := uint32(pointer(low))
	binary.NativeEndian.PutUint32(low, at+16) // argv: the name, and the end
	const execve = 11                         // arch/x86/entry/syscalls/syscall_32.tbl
	fmt.Println(syscall.Errno(-syscall32(execve, at+16, at, at+8)))
	return 1
}
