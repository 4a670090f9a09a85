// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// otherWays are other system calls to the same ends.
var otherWays = []*attack{
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
	{name: "pkey_mprotect to executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			b := anonymous(unix.PROT_READ | unix.PROT_WRITE)
			_, _, errno := unix.Syscall6(unix.SYS_PKEY_MPROTECT, pointer(b), 4096, unix.PROT_READ|unix.PROT_EXEC, ^uintptr(0), 0, 0)
			return errnoError(errno)
		}},
	{name: "anonymous memory under READ_IMPLIES_EXEC", op: "mmap", reason: "anonymous",
		try: func() error {
			personality(readImpliesExec)
			b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			personality(0)
			if err == nil {
				must(executable(&b[0]))
			}
			return err
		}},
	{name: "mprotect under READ_IMPLIES_EXEC", op: "mprotect", reason: "write-exec",
		try: func() error {
			b := anonymous(unix.PROT_READ | unix.PROT_WRITE)
			personality(readImpliesExec)
			err := unix.Mprotect(b, unix.PROT_READ)
			personality(0)
			if err == nil {
				must(executable(&b[0]))
			}
			return err
		}},
	{name: "remap_file_pages under READ_IMPLIES_EXEC", op: "mmap", reason: "foreign-fs",
		try: func() error {
			f, err := os.OpenFile(drop("/home/x"), os.O_RDWR, 0)
			must(err)
			must(f.Truncate(2 * 4096))
			b, err := unix.Mmap(int(f.Fd()), 0, 2*4096, unix.PROT_READ, unix.MAP_SHARED)
			must(err)
			personality(readImpliesExec)
			_, _, errno := unix.Syscall6(unix.SYS_REMAP_FILE_PAGES, pointer(b), 4096, 0, 1, 0, 0)
			personality(0)
			if errno == 0 {
				must(executable(&b[0]))
			}
			return errnoError(errno)
		}},
	{name: "userfaultfd fills executable memory", op: "mmap", reason: "anonymous",
		try: func() error {
			b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return err
			}
			return fill(b, tiny(evil))
		}},
	{name: "mmap of /dev/zero, executable", op: "mmap", reason: "foreign-fs",
		try: func() error {
			f, err := os.Open("/dev/zero")
			must(err)
			_, err = unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
			return err
		}},
	{name: "/proc/thread-self/mem", op: "write", reason: "hardened",
		try: func() error { return open("/proc/thread-self/mem", unix.O_RDWR) }},
	{name: "pidfd_getfd from another process", op: "ptrace", reason: "hardened",
		try: func() error {
			pid, err := unix.PidfdOpen(victim(), 0)
			must(err)
			_, err = unix.PidfdGetfd(pid, 0, 0)
			return err
		}},

	{name: "io_uring opens a listed file for writing", op: "write", reason: "guarded",
		try: func() error { return openByRing("/bin/true", unix.O_WRONLY) }},
	{name: "listed file reopened for writing through /proc/self/fd", op: "write", reason: "guarded",
		try: func() error {
			fd, err := unix.Open("/bin/true", unix.O_PATH, 0)
			must(err)
			return open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR)
		}},
	{name: "copy_file_range into a listed file", op: "write", reason: "guarded",
		try: func() error {
			return into("/bin/true", func(from, to int) error {
				_, err := unix.CopyFileRange(from, nil, to, nil, 8, 0)
				return err
			})
		}},
	{name: "splice into a listed file", op: "write", reason: "guarded",
		try: func() error {
			return into("/bin/true", func(from, to int) error {
				p := make([]int, 2)
				must(unix.Pipe(p))
				_, err := unix.Splice(from, nil, p[1], nil, 8, 0)
				must(err)
				_, err = unix.Splice(p[0], nil, to, nil, 8, 0)
				return err
			})
		}},
	{name: "fallocate of a listed file", op: "write", reason: "guarded",
		try: func() error {
			return into("/bin/true", func(_, to int) error {
				return unix.Fallocate(to, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 8)
			})
		}},
	{name: "loop device over a listed file", op: "write", reason: "guarded",
		try: func() error {
			control, err := unix.Open("/dev/loop-control", unix.O_RDWR, 0)
			must(err)
			n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
			must(err)
			device, err := unix.Open(fmt.Sprint("/dev/loop", n), unix.O_RDWR, 0)
			must(err)
			return into("/opt/large", func(_, to int) error {
				must(unix.IoctlSetInt(device, unix.LOOP_SET_FD, to))
				_, err := unix.Write(device, make([]byte, 4096))
				return errors.Join(err, unix.IoctlSetInt(device, unix.LOOP_CLR_FD, 0))
			})
		}},
	{name: "process accounting into a listed file", op: "write", reason: "guarded",
		try: func() error {
			err := unix.Acct("/bin/true")
			if err == nil {
				_, _, errno := unix.Syscall(unix.SYS_ACCT, 0, 0, 0)
				must(errnoError(errno))
			}
			return err
		}},
	{name: "RENAME_EXCHANGE with a listed file", op: "rename", reason: "guarded",
		try: func() error {
			return unix.Renameat2(unix.AT_FDCWD, drop("/home/x"), unix.AT_FDCWD, "/bin/true", unix.RENAME_EXCHANGE)
		}},
	{name: "access list on a listed file", op: "xattr", reason: "guarded",
		try: func() error { return unix.Setxattr("/bin/true", "system.posix_acl_access", accessList(), 0) }},
	{name: "file_setattr of a listed file", op: "ioctl", reason: "guarded",
		refused: map[vm.Kernel]string{"6.1": "the kernel gives ENOSYS", "6.12": "the kernel gives ENOSYS"},
		try: func() error {
			attr := make([]byte, 24) // struct file_attr, 6.17
			path := append([]byte("/bin/true"), 0)
			const getattr, setattr = 468, 469
			dir := unix.AT_FDCWD
			for _, nr := range []uintptr{getattr, setattr} {
				if _, _, errno := unix.Syscall6(nr, uintptr(dir), pointer(path), pointer(attr), uintptr(len(attr)), 0, 0); errno != 0 {
					return errno
				}
			}
			return nil
		}},

	{name: "clone3 into another cgroup", op: "exec", reason: "foreign-fs",
		try: func() error {
			fd, err := unix.Open("/sys/fs/cgroup", unix.O_RDONLY, 0)
			must(err)
			cmd := exec.Command(drop("/tmp/x"))
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
			return ran(cmd)
		}},
	{name: "write to the file below, from the host's mount namespace", op: "write", reason: "guarded",
		try: func() error {
			must(execute("/bin/fortytwo"))
			must(unix.Unshare(unix.CLONE_FS))
			must(unix.Setns(hostMounts, unix.CLONE_NEWNS))
			return open("/image/bin/fortytwo", unix.O_WRONLY)
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
}

var attacks = append(plainAttacks, otherWays...)

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

// containerName tells containers apart in names that are the host's.
func containerName() string { return filepath.Base(filepath.Dir(os.Getenv("ROOT"))) }

// fsmount makes a filesystem that is mounted nowhere, and gives its descriptor.
func fsmount(kind string) int {
	fs, err := unix.Fsopen(kind, 0)
	must(err)
	must(unix.FsconfigCreate(fs))
	fd, err := unix.Fsmount(fs, 0, 0)
	must(err)
	return fd
}

func anonymous(prot int) []byte {
	b, err := unix.Mmap(-1, 0, 4096, prot, unix.MAP_PRIVATE|unix.MAP_ANON)
	must(err)
	copy(b, tiny(evil))
	return b
}

// into opens a listed file for writing and has write write to it, from a copy.
func into(name string, write func(from, to int) error) error {
	b, err := os.ReadFile(name)
	must(err)
	must(os.WriteFile("/home/copy", b, 0o644))
	from, err := unix.Open("/home/copy", unix.O_RDONLY, 0)
	must(err)
	to, err := unix.Open(name, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	return write(from, to)
}

// accessList is struct posix_acl_xattr_header and entries
// (include/uapi/linux/posix_acl_xattr.h): user 1 may write.
func accessList() []byte {
	var b bytes.Buffer
	none := ^uint32(0)
	for _, v := range []any{
		uint32(2),
		uint16(0x01), uint16(7), none, // ACL_USER_OBJ
		uint16(0x02), uint16(7), uint32(1), // ACL_USER
		uint16(0x04), uint16(5), none, // ACL_GROUP_OBJ
		uint16(0x10), uint16(7), none, // ACL_MASK
		uint16(0x20), uint16(5), none, // ACL_OTHER
	} {
		must(binary.Write(&b, binary.LittleEndian, v))
	}
	return b.Bytes()
}

// fill has userfaultfd put content into a page that was never touched
// (include/uapi/linux/userfaultfd.h).
func fill(page, content []byte) error {
	const api, register, copyPage = 0xc018aa3f, 0xc020aa00, 0xc028aa03
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	must(errnoError(errno))
	source := anonymous(unix.PROT_READ | unix.PROT_WRITE)
	copy(source, content)
	at, from := uint64(pointer(page)), uint64(pointer(source))
	for _, call := range []struct {
		request uintptr
		arg     []uint64
	}{
		{api, []uint64{0xaa, 0, 0}},
		{register, []uint64{at, 4096, 1 /* missing pages */, 0}},
		{copyPage, []uint64{at, from, 4096, 0, 0}},
	} {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, call.request, uintptr(unsafe.Pointer(&call.arg[0])))
		must(errnoError(errno))
	}
	if !bytes.Equal(page[:len(content)], content) {
		return errors.New("the page does not hold it")
	}
	return nil
}
