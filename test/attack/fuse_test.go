// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// include/uapi/linux/fuse.h
const (
	fuseLookup, fuseForget, fuseGetattr, fuseOpen, fuseRead = 1, 2, 3, 14, 15
	fuseRelease, fuseInit, fuseBatchForget                  = 18, 26, 42
	fuseInitExt, fusePassthrough                            = 1 << 30, 1 << (37 - 32) // of flags, of flags2
	fopenDirectIO, fopenPassthrough                         = 1 << 0, 1 << 7
	fuseBackingOpen                                         = 0x4010e501
)

// fuse serves a filesystem with one file of one page.
type fuse struct {
	dir      string
	fd       int
	open     uint32 // flags of an open file
	backing  string // the file that takes reads and writes, with fopenPassthrough
	content  []byte
	asked    chan struct{} // closed when the first read is asked for
	answer   chan struct{} // reads are answered when this is closed
	askedFor sync.Once
}

// newFuse mounts it.
func newFuse(dir string) *fuse {
	must(os.Mkdir(dir, 0o755))
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR, 0)
	must(err)
	must(unix.Mount("fuse", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)))
	return &fuse{dir: dir, fd: fd, asked: make(chan struct{}), answer: make(chan struct{})}
}

func (s *fuse) file() string { return s.dir + "/file" }

// passTo has the kernel read and write a file in place of this one.
func (s *fuse) passTo(name string) { s.open, s.backing = fopenPassthrough, name }

// read has reads wait until answer is closed, and go past the page cache.
func (s *fuse) read(content []byte) { s.open, s.content = fopenDirectIO, content }

// start serves it. A task that exits would wait for ever for the answer when the
// kernel says that its descriptor is closed: so it learns here that nobody listens to that.
func (s *fuse) start() error {
	go s.serve()
	fd, err := unix.Open(s.file(), unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func (s *fuse) serve() {
	request := make([]byte, 1<<16)
	for {
		n, err := unix.Read(s.fd, request)
		if err != nil {
			return // unmounted
		}
		s.reply(request[:n])
	}
}

func (s *fuse) reply(request []byte) {
	opcode, node := binary.NativeEndian.Uint32(request[4:]), binary.NativeEndian.Uint64(request[16:])
	var out bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			must(binary.Write(&out, binary.NativeEndian, v))
		}
	}
	const root, file = 1, 2
	attr := func(node uint64) { // struct fuse_attr
		mode, links := uint32(unix.S_IFREG|0o777), uint32(1)
		if node == root {
			mode, links = unix.S_IFDIR|0o755, 2
		}
		put(node, uint64(4096), uint64(8), [3]uint64{}, [3]uint32{}, mode, links, [3]uint32{}, uint32(4096), uint32(0))
	}
	errno := unix.Errno(0)
	switch opcode {
	case fuseForget, fuseBatchForget:
		return
	case fuseInit: // struct fuse_init_out
		minor := binary.NativeEndian.Uint32(request[44:])
		put(uint32(7), minor, uint32(0), uint32(fuseInitExt), uint16(0), uint16(0), uint32(4096), uint32(1), uint16(1), uint16(0),
			uint32(fusePassthrough), uint32(2 /* an overlay may be below */), [6]uint32{})
	case fuseLookup: // struct fuse_entry_out
		put(uint64(file), uint64(0), uint64(0), uint64(0), uint64(0))
		attr(file)
	case fuseGetattr: // struct fuse_attr_out
		put(uint64(0), uint64(0))
		attr(node)
	case fuseOpen: // struct fuse_open_out
		id := uint32(0)
		if s.backing != "" {
			if id, errno = s.backingID(); errno != 0 {
				break // ENOTTY before 6.9
			}
		}
		put(uint64(0), s.open, id)
	case fuseRead:
		s.askedFor.Do(func() { close(s.asked) })
		<-s.answer
		offset, size := binary.NativeEndian.Uint64(request[48:]), binary.NativeEndian.Uint32(request[56:])
		from := min(offset, uint64(len(s.content)))
		out.Write(s.content[from:min(from+uint64(size), uint64(len(s.content)))])
	case fuseRelease:
	default:
		errno = unix.ENOSYS
	}
	head := binary.NativeEndian.AppendUint32(nil, uint32(16+out.Len()))
	head = binary.NativeEndian.AppendUint32(head, uint32(-int32(errno)))
	head = append(head, request[8:16]...) // unique
	// The kernel may have given up on the request.
	_, _ = unix.Write(s.fd, append(head, out.Bytes()...))
}

// backingID registers the file that takes reads and writes; it is open for reading only.
func (s *fuse) backingID() (uint32, unix.Errno) {
	fd, err := unix.Open(s.backing, unix.O_RDONLY, 0)
	must(err)
	arg := binary.NativeEndian.AppendUint32(nil, uint32(fd))
	arg = append(arg, make([]byte, 12)...)
	id, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), fuseBackingOpen, pointer(arg))
	return uint32(id), errno
}
