// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// guardAttacks change what was judged.
var guardAttacks = []*attack{
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
	{name: "write to a copy that was judged good (soft)", op: "write", reason: "guarded",
		rules: func(r *enforce.Rules) { r.Soft = true },
		try: func() error {
			b, err := os.ReadFile("/bin/fortytwo")
			must(err)
			must(os.WriteFile("/home/x", b, 0o755))
			must(execute("/home/x"))
			return open("/home/x", unix.O_WRONLY)
		}},
	{name: "io_uring opens a listed file for writing", op: "write", reason: "guarded",
		try: func() error { return openByRing(0, "/bin/true", unix.O_WRONLY) }},
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
			return into("/opt/large", func(_, to int) error {
				control, err := unix.Open("/dev/loop-control", unix.O_RDWR, 0)
				must(err)
				n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
				must(err)
				device, err := unix.Open(fmt.Sprint("/dev/loop", n), unix.O_RDWR, 0)
				must(err)
				must(unix.IoctlSetInt(device, unix.LOOP_SET_FD, to))
				_, err = unix.Write(device, make([]byte, 4096))
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
	{name: "write to the file below, from the host's mount namespace", op: "write", reason: "guarded",
		try: func() error {
			must(execute("/bin/fortytwo"))
			must(unix.Unshare(unix.CLONE_FS))
			must(unix.Setns(hostMounts, unix.CLONE_NEWNS))
			return open("/image/bin/fortytwo", unix.O_WRONLY)
		}},
	{name: "listed file written after a chmod to the mode that it has", op: "write", reason: "guarded",
		try: func() error {
			must(unix.Chmod("/bin/fortytwo", 0o755))
			return open("/bin/fortytwo", unix.O_WRONLY)
		}},
	{name: "listed file unlinked after a chown to the owner that it has", op: "unlink", reason: "guarded",
		try: func() error {
			must(unix.Chown("/bin/fortytwo", 0, 0))
			return os.Remove("/bin/fortytwo")
		}},
	{name: "listed file written after a chmod, once it ran (soft)", op: "write", reason: "guarded", rules: soft,
		try: func() error {
			must(unix.Chmod("/bin/fortytwo", 0o700))
			must(execute("/bin/fortytwo"))
			return open("/bin/fortytwo", unix.O_WRONLY)
		}},
	{name: "chmod u+s of a listed file (soft)", op: "setattr", reason: "guarded", rules: soft,
		try: func() error { return unix.Chmod("/bin/fortytwo", 0o4755) }},
	{name: "times of a listed file set, so that it is copied up, then unlinked", op: "setattr", reason: "guarded",
		try: func() error {
			if err := os.Chtimes("/bin/lib.py", time.Time{}, time.Unix(1, 0)); err != nil {
				return err
			}
			return os.Remove("/bin/lib.py")
		}},
	{name: "attribute of one's own on a listed file, so that it is copied up, then unlinked", op: "xattr", reason: "guarded",
		try: func() error {
			if err := unix.Setxattr("/bin/lib.py", "trusted.x", []byte("x"), 0); err != nil {
				return err
			}
			return os.Remove("/bin/lib.py")
		}},
	{name: "fchmodat2 of a listed file, not opened", op: "setattr", reason: "guarded",
		refused: map[vm.Kernel]string{"6.1": "the kernel gives ENOSYS"},
		try: func() error {
			fd, err := unix.Open("/bin/true", unix.O_PATH, 0)
			must(err)
			empty := []byte{0}
			const fchmodat2 = 452
			_, _, errno := unix.Syscall6(fchmodat2, uintptr(fd), pointer(empty), 0o4755, unix.AT_EMPTY_PATH, 0, 0)
			return errnoError(errno)
		}},
	{name: "fchownat of a listed file, not opened", op: "setattr", reason: "guarded",
		try: func() error {
			fd, err := unix.Open("/bin/true", unix.O_PATH, 0)
			must(err)
			return unix.Fchownat(fd, "", 1, 1, unix.AT_EMPTY_PATH)
		}},
	{name: "linkat of a listed file, by its descriptor", op: "link", reason: "guarded",
		try: func() error {
			fd, err := unix.Open("/bin/true", unix.O_PATH, 0)
			must(err)
			return unix.Linkat(fd, "", unix.AT_FDCWD, "/bin/43", unix.AT_EMPTY_PATH)
		}},
	{name: "setxattrat on a listed file", op: "xattr", reason: "guarded",
		refused: map[vm.Kernel]string{"6.1": "the kernel gives ENOSYS", "6.12": "the kernel gives ENOSYS"},
		try: func() error {
			path, name, value := append([]byte("/bin/true"), 0), append([]byte("security.bpf.bless"), 0), []byte("other")
			args := struct { // struct xattr_args, 6.13
				value       uint64
				size, flags uint32
			}{value: uint64(pointer(value)), size: uint32(len(value))}
			const setxattrat = 463
			dir := unix.AT_FDCWD
			_, _, errno := unix.Syscall6(setxattrat, uintptr(dir), pointer(path), 0, pointer(name), addressOf(&args), unsafe.Sizeof(args))
			return errnoError(errno)
		}},
	{name: "FS_IOC_FSSETXATTR on a listed file", op: "ioctl", reason: "guarded",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			attr := make([]byte, 28) // struct fsxattr
			for _, request := range []uintptr{0x801c581f /* FS_IOC_FSGETXATTR */, 0x401c5820} {
				if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, pointer(attr)); errno != 0 {
					return errno
				}
			}
			return nil
		}},
	{name: "write to a listed file through a bind mount", op: "write", reason: "guarded",
		try: func() error {
			must(unix.Mount("/bin", "/data", "", unix.MS_BIND, ""))
			return open("/data/true", unix.O_WRONLY)
		}},
	{name: "write to a listed file through /proc/self/root", op: "write", reason: "guarded",
		try: func() error { return open("/proc/self/root/bin/true", unix.O_WRONLY) }},
	{name: "write to a listed file through a detached copy of the mount", op: "write", reason: "guarded",
		try: func() error {
			fd, err := unix.OpenTree(unix.AT_FDCWD, "/bin", unix.OPEN_TREE_CLONE)
			must(err)
			return open(fmt.Sprintf("/proc/self/fd/%d/true", fd), unix.O_WRONLY)
		}},
	{name: "mapped file reopened for writing through /proc/self/map_files", op: "write", reason: "guarded",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
			must(err)
			return open(fmt.Sprintf("/proc/self/map_files/%x-%x", pointer(b), pointer(b)+4096), unix.O_RDWR)
		}},
	{name: "write to a listed script by its owner, who has no capability", op: "write", reason: "guarded",
		try: func() error {
			return asUser(owner, func() error { return open("/opt/owned.sh", unix.O_WRONLY) })
		}},
	{name: "chmod of a listed script by its owner, who has no capability", op: "setattr", reason: "guarded",
		try: func() error {
			return asUser(owner, func() error { return unix.Chmod("/opt/owned.sh", 0o777) })
		}},
	{name: "io_uring with a thread of the kernel's (SQPOLL) opens a listed file for writing", op: "write", reason: "guarded",
		try: func() error { return openByRing(setupSQPoll, "/bin/true", unix.O_WRONLY) }},
	{name: "io_uring unlinks a listed file", op: "unlink", reason: "guarded",
		try: func() error { return pathsByRing(opUnlinkat, "/bin/fortytwo", "") }},
	{name: "io_uring renames over a listed file", op: "rename", reason: "guarded",
		try: func() error { return pathsByRing(opRenameat, drop("/home/x"), "/bin/true") }},
	{name: "io_uring makes a hard link to a listed file", op: "link", reason: "guarded",
		try: func() error { return pathsByRing(opLinkat, "/bin/true", "/bin/43") }},
	{name: "io_uring sets an attribute of a listed file", op: "xattr", reason: "guarded",
		try: func() error {
			name, value, path := append([]byte("security.bpf.bless"), 0), []byte("other"), append([]byte("/bin/true"), 0)
			_, err := newRing(0).do(sqe{Opcode: opSetxattr, Addr: uint64(pointer(name)), Off: uint64(pointer(value)), Addr3: uint64(pointer(path)), Len: uint32(len(value))})
			return err
		}},
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
