// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// memoryAttacks make code of memory.
var memoryAttacks = []*attack{
	{name: "mmap of a dropped file under READ_IMPLIES_EXEC", op: "mmap", reason: "writable-layer",
		try: func() error {
			f := create("/home/x")
			personality(readImpliesExec)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
			personality(0)
			if err == nil {
				must(executable(&b[0]))
			}
			return err
		}},
	{name: "mmap readable, mprotect executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			b, err := mapExec("/home/x", unix.PROT_READ)
			must(err)
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
		}},
	{name: "private mapping written, then executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
			must(err)
			copy(b, tiny(evil))
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
		}},
	{name: "listed file mapped writable and executable", op: "mmap", reason: "write-exec",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			_, err = unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE)
			return err
		}},
	{name: "code of a listed file made writable", op: "mprotect", reason: "write-exec",
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
			must(err)
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC)
		}},
	{name: "anonymous memory, writable and executable", op: "mmap", reason: "anonymous",
		try: func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
			return err
		}},
	{name: "anonymous memory, written, then executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			must(err)
			copy(b, tiny(evil))
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
		}},
	{name: "shmat with SHM_EXEC", op: "mmap", reason: "foreign-fs",
		try: func() error {
			id, err := unix.SysvShmGet(0 /* IPC_PRIVATE */, 4096, 0o700|unix.IPC_CREAT)
			must(err)
			_, err = unix.SysvShmAttach(id, 0, 0o110000 /* SHM_RDONLY | SHM_EXEC */)
			return err
		}},
	{name: "/proc/self/mem written over code", op: "write", reason: "hardened",
		refused: map[vm.Kernel]string{"7.3": "the kernel gives EIO"},
		try: func() error {
			f, err := os.Open("/bin/true")
			must(err)
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
			must(err)
			fd, err := unix.Open("/proc/self/mem", unix.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = unix.Pwrite(fd, []byte{0xcc}, address(&b[0]))
			return err
		}},
	{name: "ptrace of another process", op: "ptrace", reason: "hardened",
		try: func() error { return unix.PtraceAttach(victim()) }},
	{name: "PTRACE_TRACEME", op: "ptrace", reason: "hardened",
		try: func() error {
			cmd := exec.Command("/bin/true")
			cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
			if err := cmd.Start(); err != nil {
				return err
			}
			return cmd.Process.Kill()
		}},
	{name: "process_vm_writev", op: "ptrace", reason: "hardened",
		try: func() error {
			// To the same address here and there: both run the same program.
			buf := []byte{0}
			local := []unix.Iovec{{Base: &buf[0], Len: 1}}
			n, err := unix.ProcessVMWritev(victim(), local, []unix.RemoteIovec{{Base: addressOf(&target), Len: 1}}, 0)
			if err == nil && n != 1 {
				return fmt.Errorf("%d bytes written", n)
			}
			return err
		}},
	{name: "userfaultfd", op: "userfaultfd", reason: "hardened",
		try: func() error {
			_, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
			return errnoError(errno)
		}},
	{name: "writable MAP_SHARED kept after close (soft)", op: "exec", reason: "writer",
		rules: func(r *enforce.Rules) { r.Soft = true },
		try: func() error {
			b, err := os.ReadFile("/bin/fortytwo")
			must(err)
			must(os.WriteFile("/home/x", b, 0o755))
			fd, err := unix.Open("/home/x", unix.O_RDWR, 0)
			must(err)
			_, err = unix.Mmap(fd, 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(err)
			must(unix.Close(fd))
			return execute("/home/x")
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
	{name: "memfd mapped executable", op: "mmap", reason: "foreign-fs",
		try: func() error {
			fd, err := unix.MemfdCreate("x", 0)
			must(err)
			_, err = unix.Write(fd, tiny(evil))
			must(err)
			_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
			return err
		}},
	{name: "memfd mapped twice, once writable and once executable", op: "mmap", reason: "foreign-fs",
		try: func() error { return mappedTwice() }},
	{name: "shared anonymous memory, executable", op: "mmap", reason: "anonymous",
		try: func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED|unix.MAP_ANON)
			return err
		}},
	{name: "shared memory attached, then executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			id, err := unix.SysvShmGet(0 /* IPC_PRIVATE */, 4096, 0o700|unix.IPC_CREAT)
			must(err)
			b, err := unix.SysvShmAttach(id, 0, 0)
			must(err)
			copy(b, tiny(evil))
			return unix.Mprotect(b[:4096], unix.PROT_READ|unix.PROT_EXEC)
		}},
	{name: "stack made executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			at, size := stackOf()
			_, _, errno := unix.Syscall(unix.SYS_MPROTECT, at, size, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC)
			return errnoError(errno)
		}},
	{name: "heap made executable", op: "mprotect", reason: "write-exec",
		try: func() error {
			end, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
			start := (end + 4095) &^ 4095
			if got, _, _ := unix.Syscall(unix.SYS_BRK, start+4096, 0, 0); got != start+4096 {
				must(unix.ENOMEM)
			}
			_, _, errno := unix.Syscall(unix.SYS_MPROTECT, start, 4096, unix.PROT_READ|unix.PROT_EXEC)
			return errnoError(errno)
		}},
	{name: "ring of an io_uring mapped executable", op: "mmap", reason: "foreign-fs",
		refused: map[vm.Kernel]string{"6.18": "the kernel gives EPERM", "7.3": "the kernel gives EPERM"},
		try: func() error {
			_, err := unix.Mmap(newRing(0).fd, offSQRing, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED)
			return err
		}},
	{name: "ring of a packet socket mapped executable", op: "mmap", reason: "foreign-fs",
		refused: map[vm.Kernel]string{"7.3": "the kernel gives EPERM"},
		try: func() error {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
			must(err)
			must(unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING,
				&unix.TpacketReq{Block_size: 4096, Block_nr: 1, Frame_size: 2048, Frame_nr: 2}))
			_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED)
			return err
		}},
	{name: "userfaultfd by its device", op: "userfaultfd", reason: "hardened",
		try: func() error {
			fd, err := unix.Open("/dev/userfaultfd", unix.O_RDONLY, 0)
			must(err)
			const create = 0xaa00 // USERFAULTFD_IOC_NEW
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), create, unix.O_CLOEXEC)
			return errnoError(errno)
		}},
	{name: "PTRACE_SEIZE of another process", op: "ptrace", reason: "hardened",
		try: func() error {
			_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(victim()), 0, 0, 0, 0)
			return errnoError(errno)
		}},
	{name: "memory of another process by /proc/PID/mem", op: "write", reason: "hardened",
		try: func() error { return open(fmt.Sprintf("/proc/%d/mem", victim()), unix.O_RDWR) }},
	{name: "memory of another process by /proc/PID/task/TID/mem", op: "write", reason: "hardened",
		try: func() error {
			pid := victim()
			return open(fmt.Sprintf("/proc/%d/task/%d/mem", pid, pid), unix.O_WRONLY)
		}},
	{name: "io_uring opens /proc/self/mem for writing", op: "write", reason: "hardened",
		try: func() error { return openByRing(0, "/proc/self/mem", unix.O_WRONLY) }},
}

func anonymous(prot int) []byte {
	b, err := unix.Mmap(-1, 0, 4096, prot, unix.MAP_PRIVATE|unix.MAP_ANON)
	must(err)
	copy(b, tiny(evil))
	return b
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

// mappedTwice is what a JIT compiler does that never has memory writable and executable at one address.
func mappedTwice() error {
	fd, err := unix.MemfdCreate("jit", 0)
	must(err)
	must(unix.Ftruncate(fd, 4096))
	data, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(err)
	code, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	data[0] = 0xc3
	if code[0] != 0xc3 {
		must(errors.New("not the same memory"))
	}
	return nil
}

// stackOf is the page of the stack that the process began with.
func stackOf() (at, size uintptr) {
	maps, err := os.ReadFile("/proc/self/maps")
	must(err)
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "[stack]") {
			var end uintptr
			_, err := fmt.Sscanf(line, "%x-%x", &at, &end)
			must(err)
			return end - 4096, 4096
		}
	}
	must(errors.New("no stack"))
	return 0, 0
}
