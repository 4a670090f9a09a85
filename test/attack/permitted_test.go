// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"golang.org/x/sys/unix"
)

// permitted is what workloads legitimately do: none of it is denied.
var permitted = []*attack{
	// Entrypoints that change owner or mode of what the image brought.
	{name: "chmod of a shipped program, which then runs (soft)", rules: soft,
		try: func() error {
			must(unix.Chmod("/bin/fortytwo", 0o700))
			return execute("/bin/fortytwo")
		}},
	{name: "chown of a shipped program, which then runs (soft)", rules: soft,
		try: func() error {
			must(unix.Chown("/bin/fortytwo", owner, owner))
			return execute("/bin/fortytwo")
		}},
	{name: "chown of a shipped tree, by name and by link (soft)", rules: soft,
		try: func() error {
			return filepath.WalkDir("/opt", func(name string, _ os.DirEntry, err error) error {
				return errors.Join(err, os.Lchown(name, owner, owner))
			})
		}},
	{name: "chmod of a shipped program to the mode that it has, which then runs", copies: true,
		try: func() error {
			must(unix.Chmod("/bin/fortytwo", 0o755))
			return execute("/bin/fortytwo")
		}},
	{name: "chown of a shipped program to the owner that it has, which then runs", copies: true,
		try: func() error {
			must(unix.Chown("/bin/fortytwo", 0, 0))
			return execute("/bin/fortytwo")
		}},
	{name: "chmod and chown of data of the image",
		try: func() error {
			return errors.Join(unix.Chmod("/opt/plain", 0o600), unix.Chown("/opt/plain", owner, owner), unix.Chmod("/opt/data", 0o700))
		}},

	// Just-in-time compilers.
	{name: "memfd mapped twice, once writable and once executable (jit)", rules: jit, try: mappedTwice},
	{name: "memory of System V mapped executable (jit)", rules: jit,
		try: func() error {
			id, err := unix.SysvShmGet(0 /* IPC_PRIVATE */, 4096, 0o700|unix.IPC_CREAT)
			must(err)
			_, err = unix.SysvShmAttach(id, 0, 0o100000 /* SHM_EXEC */)
			return err
		}},
	{name: "listed program with a segment writable and executable (jit)", rules: jit,
		try: func() error { return execute(writableCode) }},
	{name: "listed program that asks for an executable stack (jit)", rules: jit,
		try: func() error { return execute(execStack) }},
	{name: "heap grown under READ_IMPLIES_EXEC (jit)", rules: jit,
		try: func() error {
			end, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
			personality(readImpliesExec)
			got, _, _ := unix.Syscall(unix.SYS_BRK, end+1<<16, 0, 0)
			personality(0)
			if got == end {
				return unix.ENOMEM
			}
			return executableAt(end + 1<<15)
		}},
	{name: "heap grown",
		try: func() error {
			end, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
			if got, _, _ := unix.Syscall(unix.SYS_BRK, end+1<<16, 0, 0); got == end {
				return unix.ENOMEM
			}
			return nil
		}},

	// Settings of the container's own namespaces.
	{name: "settings of the container's own namespaces",
		try: func() error {
			var errs []error
			for _, name := range []string{"shmmax", "shmall", "shmmni", "msgmax", "msgmnb", "sem", "hostname", "domainname"} {
				b, err := os.ReadFile("/proc/sys/kernel/" + name)
				must(err)
				errs = append(errs, os.WriteFile("/proc/sys/kernel/"+name, b, 0))
			}
			return errors.Join(errs...)
		}},
	{name: "settings of the task itself",
		try: func() error {
			return errors.Join(os.WriteFile("/proc/self/oom_score_adj", []byte("10"), 0), os.WriteFile("/proc/self/comm", []byte("other"), 0))
		}},

	// Files that the container wrote.
	{name: "file of the writable layer unlinked after it ran (soft)", rules: soft,
		try: func() error {
			must(execute(copyOf("/bin/fortytwo", "/home/x")))
			return os.Remove("/home/x")
		}},
	{name: "file of the writable layer renamed after it ran, and run again (soft)", rules: soft,
		try: func() error {
			must(execute(copyOf("/bin/fortytwo", "/home/x")))
			if err := os.Rename("/home/x", "/home/y"); err != nil {
				return err
			}
			return execute("/home/y")
		}},
	{name: "file of the writable layer replaced after it ran, as a package manager does (soft)", rules: soft,
		try: func() error {
			must(execute(copyOf("/bin/fortytwo", "/home/x")))
			if err := os.Rename(copyOf("/bin/fortytwo", "/home/x.dpkg-new"), "/home/x"); err != nil {
				return err
			}
			return execute("/home/x")
		}},
	{name: "program unpacked, made executable and run (soft)", rules: soft,
		try: func() error {
			b, err := os.ReadFile("/bin/fortytwo")
			must(err)
			must(os.WriteFile("/home/x", b, 0o600))
			must(unix.Chmod("/home/x", 0o755))
			must(os.Chtimes("/home/x", time.Time{}, time.Unix(1, 0)))
			return execute("/home/x")
		}},
	{name: "cache of libraries made anew, and links to them (soft)", rules: soft,
		try: func() error {
			must(os.WriteFile("/etc/ld.so.cache~", []byte("cache"), 0o600))
			must(unix.Chmod("/etc/ld.so.cache~", 0o644))
			return errors.Join(os.Rename("/etc/ld.so.cache~", "/etc/ld.so.cache"),
				os.Symlink("libm.so.6", "/usr/lib/x86_64-linux-gnu/libnew.so.6"))
		}},
	{name: "files of one's own written, emptied, renamed and unlinked, whatever their names",
		try: func() error {
			for _, name := range []string{"/home/x", "/home/x.py", "/home/libx.so.1", "/opt/x.sh", "/tmp/x.js", "/data/x"} {
				drop(name)
				if err := errors.Join(open(name, unix.O_RDWR), open(name, unix.O_RDONLY|unix.O_TRUNC), unix.Chmod(name, 0o700),
					os.Rename(name, name+".py"), os.Remove(name+".py")); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			return nil
		}},
	{name: "data of the image emptied, written, renamed and unlinked",
		try: func() error {
			return errors.Join(open("/opt/plain", unix.O_RDONLY|unix.O_TRUNC), os.WriteFile("/opt/plain", []byte("x"), 0),
				os.Rename("/opt/plain", "/opt/other"), os.Remove("/opt/other"), os.Remove("/opt/data/file"))
		}},

	// Links and directories that lead to no code.
	{name: "/etc/localtime linked anew",
		try: func() error {
			return errors.Join(os.Remove("/etc/localtime"), os.Symlink("/usr/share/zoneinfo/Europe/Berlin", "/etc/localtime"))
		}},
	{name: "/var/run and another link in /var replaced",
		try: func() error {
			must(os.Symlink("/run/other", "/var/run.new"))
			must(os.Symlink("data2", "/srv/current.new"))
			return errors.Join(os.Rename("/var/run.new", "/var/run"), os.Rename("/srv/current.new", "/srv/current"))
		}},
	{name: "directory of data moved", op: "rename", reason: "guarded", layout: layout{overlay: "redirect_dir=on"},
		try: func() error { return move("/opt/data", "/opt/moved") }},
	{name: "directory of one's own renamed", layout: layout{overlay: "redirect_dir=on"},
		try: func() error {
			must(os.MkdirAll("/home/a/b", 0o755))
			drop("/home/a/b/x")
			return os.Rename("/home/a", "/home/c")
		}},

	{name: "devices that are nobody's disk",
		try: func() error {
			var errs []error
			for _, name := range []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/fuse"} {
				errs = append(errs, open(name, unix.O_RDWR|unix.O_NOCTTY))
			}
			return errors.Join(append(errs, open("/dev/null", unix.O_WRONLY|unix.O_TRUNC))...)
		}},
	{name: "disk opened for writing (devices)", layout: layout{disk: true}, rules: func(r *enforce.Rules) { r.Devices = true },
		try: func() error { return open(os.Getenv("DEVICE"), unix.O_RDWR) }},
	{name: "disk opened for reading", layout: layout{disk: true},
		try: func() error { return open(os.Getenv("DEVICE"), unix.O_RDONLY) }},
	{name: "shared memory, semaphores and pipes",
		try: func() error {
			must(os.WriteFile("/dev/shm/x", make([]byte, 4096), 0o600))
			b := mapShared("/dev/shm/x", unix.PROT_READ|unix.PROT_WRITE)
			b[0] = 1
			must(unix.Mkfifo("/home/pipe", 0o600))
			return open("/home/pipe", unix.O_RDWR)
		}},
	{name: "shell that runs a script of the image and reads a pipe",
		try: func() error {
			cmd := exec.Command("/bin/sh", "-c", "/opt/owned.sh && echo exit 42 | /bin/dash")
			return ran(cmd)
		}},
}

func jit(r *enforce.Rules) { r.JIT = true }

// move renames a directory, or copies it where that cannot be, as mv(1) does.
func move(from, to string) error {
	if err := os.Rename(from, to); !errors.Is(err, unix.EXDEV) {
		return err
	}
	return errors.Join(os.CopyFS(to, os.DirFS(from)), os.RemoveAll(from))
}
