// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// truncateAttacks empty a file without asking for the right to write. What was
// copied up by that could be changed at will.
var truncateAttacks = []*attack{
	{name: "O_RDONLY with O_TRUNC of a listed file", op: "write", reason: "guarded",
		try: func() error { return emptied("/bin/true", open("/bin/true", unix.O_RDONLY|unix.O_TRUNC)) }},
	{name: "script emptied by its owner with O_RDONLY and O_TRUNC, rewritten and run", op: "write", reason: "guarded",
		try: func() error {
			return asUser(owner, func() error {
				if err := open("/opt/owned.sh", unix.O_RDONLY|unix.O_TRUNC); err != nil {
					return err
				}
				if err := os.WriteFile("/opt/owned.sh", []byte("#!/bin/dash\nexit 42\n"), 0); err != nil {
					return err
				}
				return execute("/opt/owned.sh")
			})
		}},
	{name: "O_RDONLY with O_TRUNC, then unlinked and replaced", op: "write", reason: "guarded",
		try: func() error {
			if err := open("/bin/lib.py", unix.O_RDONLY|unix.O_TRUNC); err != nil {
				return err
			}
			if err := os.Remove("/bin/lib.py"); err != nil {
				return err
			}
			return os.WriteFile("/bin/lib.py", []byte("exit(42)\n"), 0o644)
		}},
	{name: "O_RDONLY with O_TRUNC, then renamed over", op: "write", reason: "guarded",
		try: func() error {
			if err := open(libm, unix.O_RDONLY|unix.O_TRUNC); err != nil {
				return err
			}
			return os.Rename(drop("/home/x"), libm)
		}},
	{name: "O_RDWR with O_TRUNC of a listed file", op: "write", reason: "guarded",
		try: func() error { return open("/bin/true", unix.O_RDWR|unix.O_TRUNC) }},
	{name: "creat(2) of a listed file", op: "write", reason: "guarded",
		try: func() error {
			path := append([]byte("/bin/true"), 0)
			_, _, errno := unix.Syscall(unix.SYS_CREAT, pointer(path), 0o755, 0)
			return errnoError(errno)
		}},
	{name: "openat2 with O_TRUNC of a listed file", op: "write", reason: "guarded",
		try: func() error {
			_, err := unix.Openat2(unix.AT_FDCWD, "/bin/true", &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_TRUNC})
			return emptied("/bin/true", err)
		}},
	{name: "O_TRUNC of a listed file through /proc/self/fd", op: "write", reason: "guarded",
		try: func() error {
			fd, err := unix.Open("/bin/true", unix.O_PATH, 0)
			must(err)
			return emptied("/bin/true", open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_TRUNC))
		}},
	{name: "O_TRUNC of a mapped file through /proc/self/map_files", op: "write", reason: "guarded",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
			must(err)
			at := uintptr(unsafe.Pointer(&b[0]))
			return open(fmt.Sprintf("/proc/self/map_files/%x-%x", at, at+4096), unix.O_RDONLY|unix.O_TRUNC)
		}},
	{name: "io_uring opens a listed file with O_TRUNC", op: "write", reason: "guarded",
		try: func() error { return emptied("/bin/true", openByRing(0, "/bin/true", unix.O_RDONLY|unix.O_TRUNC)) }},
	{name: "io_uring opens a listed file with O_TRUNC into its own table", op: "write", reason: "guarded",
		try: func() error {
			r := newRing(0)
			r.register(registerFiles, -1)
			path := append([]byte("/bin/true"), 0)
			_, err := r.do(sqe{Opcode: opOpenat, Fd: unix.AT_FDCWD, Addr: uint64(pointer(path)), OpFlags: unix.O_RDONLY | unix.O_TRUNC, FileIndex: 1})
			return emptied("/bin/true", err)
		}},
	{name: "file below emptied by a handle of it", op: "write", reason: "guarded",
		try: func() error {
			volume, handle := aVolume(), handleOf("/image/bin/fortytwo")
			return judgedBelow(func(name string) error { return byHandle(volume, handle, unix.O_RDONLY|unix.O_TRUNC) })
		}},
}

// emptied tells whether the file is empty, unless there is an error already.
func emptied(name string, err error) error {
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	must(err)
	if info.Size() != 0 {
		must(fmt.Errorf("%s has %d bytes", name, info.Size()))
	}
	return nil
}

// handleOf gives the handle of a file of the host, which can be guessed.
func handleOf(name string) (handle unix.FileHandle) {
	must(onHost(func() (err error) {
		handle, _, err = unix.NameToHandleAt(unix.AT_FDCWD, name, 0)
		return err
	}))
	return handle
}

// byHandle opens it through a volume on the same filesystem.
func byHandle(volume int, handle unix.FileHandle, flags int) error {
	fd, err := unix.OpenByHandleAt(volume, handle, flags)
	if err == nil {
		must(unix.Close(fd))
	}
	return err
}

// aVolume is open, and stays so where the host's files are.
func aVolume() int {
	fd, err := unix.Open("/data", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(err)
	return fd
}
