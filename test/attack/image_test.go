// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// imageAttacks use what a file of the image asks of the kernel, or a mode of
// the process that makes more memory executable than was asked for.
var imageAttacks = []*attack{
	{name: "listed program that asks for an executable stack", op: "mmap", reason: "write-exec",
		try: func() error { return execute(execStack) }},
	{name: "listed program with a segment writable and executable", op: "mmap", reason: "write-exec",
		try: func() error { return execute(writableCode) }},
	{name: "listed library that asks for an executable stack", op: "mprotect", reason: "write-exec",
		try: func() error {
			return loadedAnd(`while read -r line; do case $line in *rwxp*stack*) exit 42;; esac; done </proc/self/maps`, "LD_PRELOAD="+stackLibrary)
		}},
	{name: "heap grown under READ_IMPLIES_EXEC", op: "mmap", reason: "anonymous", errno: unix.ENOMEM,
		try: func() error {
			end, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
			personality(readImpliesExec)
			got, _, _ := unix.Syscall(unix.SYS_BRK, end+1<<16, 0, 0)
			personality(0)
			if got == end { // as a C library sees it
				return unix.ENOMEM
			}
			return executableAt(end + 1<<15)
		}},
	{name: "first heap of a process under READ_IMPLIES_EXEC", op: "mmap", reason: "anonymous", errno: unix.ENOMEM,
		try: func() error {
			end, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
			start := (end + 4095) &^ 4095
			personality(readImpliesExec)
			for size := uintptr(1 << 12); size <= 1<<20; size <<= 1 {
				if got, _, _ := unix.Syscall(unix.SYS_BRK, start+size, 0, 0); got != start+size {
					personality(0)
					return unix.ENOMEM
				}
			}
			personality(0)
			return executableAt(start)
		}},
	{name: "shared memory attached under READ_IMPLIES_EXEC", op: "mmap", reason: "write-exec",
		try: func() error {
			id, err := unix.SysvShmGet(0 /* IPC_PRIVATE */, 4096, 0o700|unix.IPC_CREAT)
			must(err)
			personality(readImpliesExec)
			b, err := unix.SysvShmAttach(id, 0, 0)
			personality(0)
			if err != nil {
				return err
			}
			return executable(&b[0])
		}},
	{name: "memory that grows down under READ_IMPLIES_EXEC", op: "mmap", reason: "anonymous",
		try: func() error {
			personality(readImpliesExec)
			b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_GROWSDOWN)
			personality(0)
			if err != nil {
				return err
			}
			return executable(&b[0])
		}},
	{name: "program that names a dropped loader", op: "mmap", reason: "foreign-fs",
		refused: map[vm.Kernel]string{"6.1": "the program crashes"},
		try:     func() error { drop("/tmp/loader"); return execute(tmpLoader) }},
	{name: "library named by /etc/ld.so.preload", op: "mmap", reason: "writable-layer",
		try: func() error {
			must(os.WriteFile("/etc/ld.so.preload", []byte(changedCopy(libm, "/home/evil.so.1")+"\n"), 0o644))
			defer os.Remove("/etc/ld.so.preload")
			return loaded("evil.so")
		}},
	{name: "chroot into a tree with another library of that name", op: "mmap", reason: "foreign-fs",
		try: func() error {
			for _, dir := range []string{"/tmp/bin", "/tmp/lib64", "/tmp/lib/x86_64-linux-gnu", "/tmp/proc", "/tmp/dev"} {
				must(os.MkdirAll(dir, 0o755))
			}
			for _, name := range []string{"/bin", "/lib64", "/proc", "/dev"} {
				must(unix.Mount(name, "/tmp"+name, "", unix.MS_BIND, ""))
			}
			changedCopy(libc, "/tmp"+libc)
			return apart(func() error {
				must(unix.Unshare(unix.CLONE_FS))
				must(unix.Chroot("/tmp"))
				must(unix.Chdir("/"))
				return execute("/bin/dash", "-c", "exit 42")
			})
		}},
}

// loadedAnd runs a shell with a library before others.
func loadedAnd(script string, env ...string) error {
	cmd := exec.Command("/bin/dash", "-c", script)
	cmd.Env = env
	return ran(cmd)
}

// executableAt tells by /proc/self/maps whether an address is.
func executableAt(address uintptr) error {
	maps, err := os.ReadFile("/proc/self/maps")
	must(err)
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var prot string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &prot); err != nil {
			must(err)
		}
		if from <= address && address < to {
			if prot[2] != 'x' {
				must(fmt.Errorf("it is %s", prot))
			}
			return nil
		}
	}
	must(errors.New("nothing is mapped there"))
	return nil
}
