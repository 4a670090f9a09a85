// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openByRing opens a file by io_uring, in one of its worker threads
// (include/uapi/linux/io_uring.h).
func openByRing(name string, flags uint32) error {
	const (
		opOpenat, async        = 18, 1 << 4
		enterGetEvents         = 1
		offSQRing, offCQRing   = 0, 0x8000000
		offSQEs, sqeSize       = 0x10000000, 64
		prot, entries          = unix.PROT_READ | unix.PROT_WRITE, 1
		sqTail, sqArray        = 40 + 4, 40 + 24 // offsets in struct io_uring_params
		cqHead, cqTail, cqCQEs = 80, 80 + 4, 80 + 20
	)
	params := make([]byte, 120)
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, entries, pointer(params), 0)
	if errno != 0 {
		return untried{errno}
	}
	fd := int(ring)
	defer unix.Close(fd)
	at := func(off int) uint32 { return binary.LittleEndian.Uint32(params[off:]) }
	maps := map[int64][]byte{offSQRing: nil, offCQRing: nil, offSQEs: nil}
	for off := range maps {
		b, err := unix.Mmap(fd, off, 4096, prot, unix.MAP_SHARED)
		must(err)
		maps[off] = b
	}
	path := append([]byte(name), 0)
	sqe := maps[offSQEs][:sqeSize]
	sqe[0], sqe[1] = opOpenat, async
	dir := int32(unix.AT_FDCWD)
	binary.LittleEndian.PutUint32(sqe[4:], uint32(dir))
	binary.LittleEndian.PutUint64(sqe[16:], uint64(pointer(path)))
	binary.LittleEndian.PutUint32(sqe[28:], flags)
	binary.LittleEndian.PutUint32(maps[offSQRing][at(sqArray):], 0)
	binary.LittleEndian.PutUint32(maps[offSQRing][at(sqTail):], 1)
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, ring, 1, 1, enterGetEvents, 0, 0); errno != 0 {
		return untried{errno}
	}
	cqe := maps[offCQRing][at(cqCQEs):]
	res := *(*int32)(unsafe.Pointer(&cqe[8]))
	if res < 0 {
		return syscall.Errno(-res)
	}
	return unix.Close(int(res))
}
