// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// pinAttacks hold pages of a file by which they rewrite it after it was judged:
// what is pinned no longer shows in the counters of writers and of writable mappings.
var pinAttacks = []*attack{
	{name: "page pinned by a registered buffer, rewritten after the judgement (mounts)", op: "mmap", reason: "writer", layout: layout{volume: true},
		try: func() error { return rewrittenByRing("/run/x", false) }},
	{name: "page pinned by a registered buffer, rewritten after the judgement (soft)", op: "mmap", reason: "writer", rules: soft,
		try: func() error { return rewrittenByRing("/home/x", false) }},
	{name: "registered buffer cloned into another io_uring (soft)", op: "mmap", reason: "writer", rules: soft,
		refused: map[vm.Kernel]string{"6.1": "the kernel gives EINVAL"},
		try:     func() error { return rewrittenByRing("/home/x", true) }},
	{name: "page pinned by a registered buffer, of a program that runs (soft)", op: "exec", reason: "writer", rules: soft,
		try: func() error {
			pinByRing("/home/x")
			return execute("/home/x")
		}},
	{name: "page pinned by a FUSE read in flight, rewritten after the judgement (soft)", op: "mmap", reason: "writer", rules: soft,
		try: func() error { return rewrittenByFuse("/home/x", false) }},
	{name: "page pinned by a FUSE read in flight, rewritten after the judgement (mounts)", op: "mmap", reason: "writer", layout: layout{volume: true},
		try: func() error { return rewrittenByFuse("/run/x", false) }},
	{name: "page pinned by an asynchronous read in flight (soft)", op: "mmap", reason: "writer", rules: soft,
		try: func() error { return rewrittenByFuse("/home/x", true) }},
	{name: "writable MAP_SHARED kept by a child (soft)", op: "exec", reason: "writer", rules: soft,
		try: func() error {
			copyOf("/bin/fortytwo", "/home/x")
			f, err := os.OpenFile("/home/x", os.O_RDWR, 0)
			must(err)
			cmd := stage("mapper", f)
			_, err = cmd.StdinPipe()
			must(err)
			out, err := cmd.StdoutPipe()
			must(err)
			must(cmd.Start())
			_, err = out.Read(make([]byte, 1))
			must(err)
			must(f.Close())
			return execute("/home/x")
		}},
	{name: "MAP_SHARED that may become writable kept after close (soft)", op: "exec", reason: "writer", rules: soft,
		try: func() error {
			copyOf("/bin/fortytwo", "/home/x")
			b := mapShared("/home/x", unix.PROT_READ)
			err := execute("/home/x")
			must(unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE))
			return err
		}},
	{name: "writable MAP_SHARED of a file of a volume kept after close (mounts)", op: "mmap", reason: "writer", layout: layout{volume: true},
		try: func() error {
			copyOf("/bin/fortytwo", "/run/x")
			data := mapShared("/run/x", unix.PROT_READ|unix.PROT_WRITE)
			code, err := mapCode("/run/x")
			if err != nil {
				return err
			}
			data[0] = 0
			if code[0] != 0 {
				must(errors.New("the code did not change"))
			}
			return nil
		}},
	{name: "file of a volume mapped while it is open for writing elsewhere (mounts)", op: "mmap", reason: "writer", layout: layout{volume: true},
		try: func() error {
			copyOf("/bin/fortytwo", "/run/x")
			_, err := unix.Open("/run/x", unix.O_RDWR, 0)
			must(err)
			_, err = mapCode("/run/x")
			return err
		}},
	{name: "write to a file of a volume that was judged good (mounts)", op: "write", reason: "guarded", layout: layout{volume: true},
		try: func() error {
			must(execute(copyOf("/bin/fortytwo", "/run/x")))
			return open("/run/x", unix.O_WRONLY)
		}},
}

// mapShared maps a whole file shared, and keeps nothing else of it.
func mapShared(name string, prot int) []byte {
	fd, err := unix.Open(name, unix.O_RDWR, 0)
	must(err)
	b, err := unix.Mmap(fd, 0, 4096, prot, unix.MAP_SHARED)
	must(err)
	must(unix.Close(fd))
	return b
}

func mapCode(name string) ([]byte, error) {
	f, err := os.Open(name)
	must(err)
	defer f.Close()
	return unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
}

// pinByRing makes the file a copy of a listed one, of which an io_uring has a page.
func pinByRing(name string) *ring {
	b := mapShared(copyOf("/bin/fortytwo", name), unix.PROT_READ|unix.PROT_WRITE)
	r := newRing(0)
	r.register(registerBuffers, int(pointer(b)), 4096)
	r.pinned = uint64(pointer(b))
	must(unix.Munmap(b))
	return r
}

// rewrittenByRing maps such a file as code, then reads another over the page.
func rewrittenByRing(name string, cloned bool) error {
	r := pinByRing(name)
	if cloned {
		to := newRing(0)
		to.pinned = r.pinned
		if err := to.cloneBuffers(r); err != nil {
			return err
		}
		must(unix.Close(r.fd))
		r = to
	}
	code, err := mapCode(name)
	if err != nil {
		return err
	}
	f, err := os.Open("/opt/unlisted")
	must(err)
	n, err := r.do(sqe{Opcode: opReadFixed, Fd: int32(f.Fd()), Addr: r.pinned, Len: 4096})
	must(err)
	return rewritten(code, n)
}

// rewrittenByFuse has the server of a filesystem answer a read into the page when it was mapped as code.
func rewrittenByFuse(name string, asynchronous bool) error {
	server := newFuse("/tmp/fuse")
	content, err := os.ReadFile("/opt/unlisted")
	must(err)
	server.read(append(content, make([]byte, 4096-len(content))...))
	must(server.start())
	b := mapShared(copyOf("/bin/fortytwo", name), unix.PROT_READ|unix.PROT_WRITE)
	fd, err := unix.Open(server.file(), unix.O_RDONLY, 0)
	must(err)
	done := make(chan int)
	go func() {
		n, err := 0, error(nil)
		if asynchronous {
			n, err = readByAIO(fd, b)
		} else {
			n, err = unix.Pread(fd, b, 0)
		}
		must(err)
		done <- n
	}()
	<-server.asked
	must(unix.Munmap(b))
	code, err := mapCode(name)
	close(server.answer)
	n := <-done
	if err != nil {
		return err
	}
	return rewritten(code, n)
}

// rewritten tells whether n bytes of another program are in executable memory.
func rewritten(code []byte, n int) error {
	want, err := os.ReadFile("/opt/unlisted")
	must(err)
	if n < len(want) {
		must(fmt.Errorf("%d bytes read", n))
	}
	if string(code[:len(want)]) != string(want) {
		must(errors.New("the page is as it was"))
	}
	return nil
}

// mapper is a process that keeps a file mapped, which it has open as descriptor 3.
func mapper() int {
	_, err := unix.Mmap(3, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(err)
	must(unix.Close(3))
	return child()
}

// readByAIO reads a page by io_submit(2), include/uapi/linux/aio_abi.h.
func readByAIO(fd int, to []byte) (int, error) {
	var context uint64
	_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, addressOf(&context), 0)
	must(errnoError(errno))
	type iocb struct {
		_           uint64 // aio_data
		_, _        uint32 // aio_key, aio_rw_flags
		_, _        uint16 // aio_lio_opcode 0, IOCB_CMD_PREAD; aio_reqprio
		fd          uint32
		buf, nbytes uint64
		_, _        uint64 // aio_offset, aio_reserved2
		_, _        uint32 // aio_flags, aio_resfd
	}
	block := &iocb{fd: uint32(fd), buf: uint64(pointer(to)), nbytes: 4096}
	_, _, errno = unix.Syscall(unix.SYS_IO_SUBMIT, uintptr(context), 1, addressOf(&block))
	must(errnoError(errno))
	var event struct {
		data, obj uint64
		res, res2 int64
	}
	_, _, errno = unix.Syscall6(unix.SYS_IO_GETEVENTS, uintptr(context), 1, 1, addressOf(&event), 0, 0)
	must(errnoError(errno))
	if event.res < 0 {
		return 0, syscall.Errno(-event.res)
	}
	return int(event.res), nil
}
