// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// include/uapi/linux/io_uring.h
const (
	setupSQPoll                                     = 1 << 1
	enterGetEvents, enterWakeup                     = 1, 2
	async                                           = 1 << 4 // have a worker thread do it
	opReadFixed, opOpenat, opRenameat, opUnlinkat   = 4, 18, 35, 36
	opLinkat, opFsetxattr, opSetxattr               = 39, 41, 42
	registerBuffers, registerFiles                  = 0, 2
	offSQRing, offCQRing, offSQEs                   = 0, 0x8000000, 0x10000000
	sqTail, sqMask, sqArray, cqHead, cqTail, cqMask = 40 + 4, 40 + 8, 40 + 24, 80, 80 + 4, 80 + 8
	cqCQEs                                          = 80 + 20
)

// sqe is struct io_uring_sqe.
type sqe struct {
	Opcode, Flags         uint8
	Ioprio                uint16
	Fd                    int32
	Off, Addr             uint64
	Len, OpFlags          uint32
	UserData              uint64
	BufIndex, Personality uint16
	FileIndex             uint32
	Addr3, _              uint64
}

// ring is an io_uring.
type ring struct {
	fd           int
	flags        uint32
	sq, cq, sqes []byte
	pinned       uint64 // where its buffer was
	params       [120]byte
}

func newRing(flags uint32) *ring {
	r := &ring{flags: flags}
	binary.NativeEndian.PutUint32(r.params[8:], flags)
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, pointer(r.params[:]), 0)
	must(errnoError(errno))
	r.fd = int(fd)
	for off, to := range map[int64]*[]byte{offSQRing: &r.sq, offCQRing: &r.cq, offSQEs: &r.sqes} {
		b, err := unix.Mmap(r.fd, off, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(err)
		*to = b
	}
	return r
}

// at is the word of a ring whose place the kernel put at off into the parameters.
func (r *ring) at(b []byte, off int) *uint32 {
	return (*uint32)(unsafe.Pointer(&b[binary.NativeEndian.Uint32(r.params[off:])]))
}

// register gives the kernel descriptors or, as address and length, a buffer.
func (r *ring) register(what uintptr, args ...int) {
	var arg unsafe.Pointer
	n := len(args)
	switch what {
	case registerFiles:
		fds := make([]int32, n)
		for i := range fds {
			fds[i] = int32(args[i])
		}
		arg = unsafe.Pointer(&fds[0])
	case registerBuffers:
		arg, n = unsafe.Pointer(&args[0]), n/2
	}
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), what, uintptr(arg), uintptr(n), 0, 0)
	must(errnoError(errno))
}

// cloneBuffers takes over the buffers of another, struct io_uring_clone_buffers of 6.12 and later.
func (r *ring) cloneBuffers(from *ring) error {
	const cloneBuffers = 30
	arg := binary.NativeEndian.AppendUint32(nil, uint32(from.fd))
	arg = append(arg, make([]byte, 28)...)
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), cloneBuffers, pointer(arg), 1, 0, 0)
	return errnoError(errno)
}

// do has the kernel do one thing and gives its result.
func (r *ring) do(e sqe) (int, error) {
	tail := r.at(r.sq, sqTail)
	slot := *tail & *r.at(r.sq, sqMask)
	*(*sqe)(unsafe.Pointer(&r.sqes[slot*uint32(unsafe.Sizeof(e))])) = e
	binary.NativeEndian.PutUint32(r.sq[binary.NativeEndian.Uint32(r.params[sqArray:])+4*slot:], slot)
	atomic.AddUint32(tail, 1)
	flags := uintptr(enterGetEvents)
	if r.flags&setupSQPoll != 0 {
		flags |= enterWakeup
	}
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 1, 1, flags, 0, 0); errno != 0 {
		return 0, untried{errno}
	}
	head := r.at(r.cq, cqHead)
	// A signal, of which the Go runtime sends many, ends the wait.
	for end := time.Now().Add(10 * time.Second); *head == atomic.LoadUint32(r.at(r.cq, cqTail)) && time.Now().Before(end); {
		if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 0, 1, flags, 0, 0); errno != 0 && errno != unix.EINTR {
			return 0, untried{errno}
		}
	}
	if *head == atomic.LoadUint32(r.at(r.cq, cqTail)) {
		return 0, untried{errors.New("io_uring: no completion")}
	}
	at := binary.NativeEndian.Uint32(r.params[cqCQEs:]) + 16*(*head&*r.at(r.cq, cqMask)) + 8
	res := int32(binary.NativeEndian.Uint32(r.cq[at:]))
	atomic.AddUint32(head, 1)
	if res < 0 {
		return 0, syscall.Errno(-res)
	}
	return int(res), nil
}

// openByRing opens a file by io_uring, in one of its threads.
func openByRing(setup uint32, name string, flags uint32) error {
	path := append([]byte(name), 0)
	fd, err := newRing(setup).do(sqe{Opcode: opOpenat, Flags: async, Fd: unix.AT_FDCWD, Addr: uint64(pointer(path)), OpFlags: flags})
	if err == nil {
		must(unix.Close(fd))
	}
	return err
}

// pathsByRing does one thing with two paths, or one.
func pathsByRing(op uint8, first, second string) error {
	paths := append([]byte(first+"\x00"+second), 0)
	e := sqe{Opcode: op, Fd: unix.AT_FDCWD, Addr: uint64(pointer(paths))}
	if second != "" {
		dir := int32(unix.AT_FDCWD)
		e.Off, e.Len = uint64(pointer(paths[len(first)+1:])), uint32(dir)
	}
	_, err := newRing(0).do(e)
	return err
}
