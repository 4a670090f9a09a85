// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// hostAttacks reach the host by its devices and its settings.
var hostAttacks = []*attack{
	{name: "raw write to the disk below a judged file", op: "write", reason: "hardened", layout: layout{disk: true},
		try: func() error {
			must(execute0(onDisk))
			fd, err := unix.Open(os.Getenv("DEVICE"), unix.O_RDWR, 0)
			if err != nil {
				return err
			}
			writeRaw(fd)
			return executeAnew(onDisk)
		}},
	{name: "raw write to the disk through a device file of one's own", op: "write", reason: "hardened", layout: layout{disk: true},
		try: func() error {
			var st unix.Stat_t
			must(unix.Stat(os.Getenv("DEVICE"), &st))
			must(unix.Mknod("/home/disk", unix.S_IFBLK|0o600, int(st.Rdev)))
			return open("/home/disk", unix.O_WRONLY)
		}},
	{name: "io_uring opens the disk for writing", op: "write", reason: "hardened", layout: layout{disk: true},
		try: func() error { return openByRing(0, os.Getenv("DEVICE"), unix.O_RDWR) }},
	{name: "loop device over the disk below a judged file", op: "ioctl", reason: "hardened", layout: layout{disk: true},
		try: func() error {
			name, err := loopDevice(os.Getenv("DEVICE"), os.O_RDWR)
			if err != nil {
				return err
			}
			return open(name, unix.O_RDWR)
		}},
	{name: "swap onto the disk below a judged file", op: "write", reason: "hardened",
		prepare: func(c *container) {
			must(os.WriteFile(c.root+"/../swap", swapSpace(), 0o600))
			device, err := loopDevice(c.root+"/../swap", os.O_RDWR)
			must(err)
			c.device = device
		},
		try: func() error {
			path := append([]byte(os.Getenv("DEVICE")), 0)
			_, _, errno := unix.Syscall(unix.SYS_SWAPON, pointer(path), 0, 0)
			if errno == 0 {
				_, _, errno := unix.Syscall(unix.SYS_SWAPOFF, pointer(path), 0, 0)
				must(errnoError(errno))
			}
			return errnoError(errno)
		}},
	{name: "another file put below a loop device with LOOP_CHANGE_FD", op: "ioctl", reason: "hardened",
		prepare: func(c *container) {
			must(os.WriteFile(c.root+"/../readonly", make([]byte, 1<<16), 0o600))
			device, err := loopDevice(c.root+"/../readonly", os.O_RDONLY)
			must(err)
			c.device = device
		},
		try: func() error {
			must(os.WriteFile("/home/other", make([]byte, 1<<16), 0o600))
			file, err := unix.Open("/home/other", unix.O_RDONLY, 0)
			must(err)
			fd, err := unix.Open(os.Getenv("DEVICE"), unix.O_RDONLY, 0)
			must(err)
			return unix.IoctlSetInt(fd, 0x4C06 /* LOOP_CHANGE_FD */, file)
		}},
	{name: "device mapper asked for a disk", op: "ioctl", reason: "hardened",
		try: func() error {
			fd, err := unix.Open("/dev/mapper/control", unix.O_RDONLY, 0)
			must(err)
			// struct dm_ioctl, include/uapi/linux/dm-ioctl.h
			const create, size, nameAt = 0xc138fd03, 312, 48
			arg := make([]byte, size)
			for i, v := range []uint32{4, 0, 0, size, size} { // version, data_size, data_start
				binary.NativeEndian.PutUint32(arg[4*i:], v)
			}
			copy(arg[nameAt:], fmt.Sprint("attack", os.Getpid(), containerName()))
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), create, pointer(arg))
			return errnoError(errno)
		}},
	{name: "SCSI command that writes, to a disk opened for reading", op: "ioctl", reason: "hardened",
		try: func() error {
			fd, err := unix.Open(scsiFile("block"), unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			return writeBySCSI(fd)
		}},
	{name: "SCSI generic device opened for writing", op: "write", reason: "hardened",
		try: func() error {
			fd, err := unix.Open(scsiFile("scsi_generic"), unix.O_RDWR, 0)
			if err != nil {
				return err
			}
			return writeBySCSI(fd)
		}},
	{name: "SCSI command that writes, to a block generic device", op: "ioctl", reason: "hardened",
		try: func() error {
			fd, err := unix.Open(scsiFile("bsg"), unix.O_RDWR, 0)
			must(err)
			return writeByBSG(fd)
		}},
	{name: "physical memory opened for writing", op: "write", reason: "hardened",
		try: func() error { return open("/dev/mem", unix.O_RDWR) }},

	{name: "write to kernel.modprobe", op: "write", reason: "hardened",
		try: func() error { return open("/proc/sys/kernel/modprobe", unix.O_WRONLY) }},
	{name: "write to kernel.poweroff_cmd", op: "write", reason: "hardened",
		try: func() error { return open("/proc/sys/kernel/poweroff_cmd", unix.O_WRONLY) }},
	{name: "core_pattern emptied with O_RDONLY and O_TRUNC", op: "write", reason: "hardened",
		try: func() error { return open("/proc/sys/kernel/core_pattern", unix.O_RDONLY|unix.O_TRUNC) }},
	{name: "io_uring opens core_pattern for writing", op: "write", reason: "hardened",
		try: func() error { return openByRing(0, "/proc/sys/kernel/core_pattern", unix.O_WRONLY) }},
	{name: "parameter of a module on a sysfs of one's own", op: "write", reason: "hardened",
		try: func() error {
			must(unix.Mount("sysfs", "/tmp", "sysfs", 0, ""))
			return open("/tmp/module/firmware_class/parameters/path", unix.O_WRONLY)
		}},
	{name: "configfs attribute", op: "write", reason: "hardened",
		try: func() error {
			must(unix.Mount("configfs", "/tmp", "configfs", 0, ""))
			return open("/tmp/target/dbroot", unix.O_WRONLY)
		}},
	{name: "debugfs file", op: "write", reason: "hardened",
		try: func() error {
			must(unix.Mount("debugfs", "/tmp", "debugfs", 0, ""))
			return open("/tmp/sched/verbose", unix.O_WRONLY)
		}},
	{name: "kprobe on tracefs", op: "write", reason: "hardened",
		try: func() error {
			must(unix.Mount("tracefs", "/tmp", "tracefs", 0, ""))
			return open("/tmp/kprobe_events", unix.O_WRONLY)
		}},
	{name: "loading a module from a file", op: "module", reason: "hardened",
		try: func() error {
			f, err := os.Open("/opt/unlisted")
			must(err)
			err = unix.FinitModule(int(f.Fd()), "", 0)
			if errors.Is(err, unix.ENOEXEC) {
				return nil // it was read
			}
			return err
		}},
	{name: "kexec_load(2)", op: "module", reason: "hardened",
		try: func() error {
			_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0, 0, 0) // of no segments: unloads
			return errnoError(errno)
		}},
	{name: "kexec_file_load(2)", op: "module", reason: "hardened",
		try: func() error {
			f, err := os.Open("/opt/unlisted")
			must(err)
			none := []byte{0}
			const noInitramfs = 4
			_, _, errno := unix.Syscall6(unix.SYS_KEXEC_FILE_LOAD, f.Fd(), ^uintptr(0), 1, pointer(none), noInitramfs, 0)
			if errno == unix.ENOEXEC {
				errno = 0 // it was read
			}
			return errnoError(errno)
		}},
}

// writeRaw changes the program on the disk to another.
func writeRaw(fd int) {
	const chunk = 1 << 20
	b := make([]byte, chunk)
	n, err := unix.Pread(fd, b, 0)
	must(err)
	old := tiny(0)
	for at := 0; at+len(old) <= n; at += 512 {
		if string(b[at:at+len(old)]) == string(old) {
			_, err := unix.Pwrite(fd, changedProgram(), int64(at))
			must(err)
			must(unix.Fsync(fd))
			return
		}
	}
	must(errors.New("the program is not on the disk"))
}

// executeAnew executes a file that the page cache has no more.
func executeAnew(name string) error {
	must(os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
	return execute(name)
}

// swapSpace is one as mkswap(8) makes it: union swap_header of include/linux/swap.h.
func swapSpace() []byte {
	const page, pages = 4096, 64
	b := make([]byte, page*pages)
	binary.NativeEndian.PutUint32(b[1024:], 1)       // version
	binary.NativeEndian.PutUint32(b[1028:], pages-1) // last_page
	copy(b[page-10:], "SWAPSPACE2")
	return b
}

// scsiFile is a device file of the disk that scsi_debug is, of one kind.
func scsiFile(kind string) string {
	must(unix.Mount("sysfs", "/tmp", "sysfs", 0, ""))
	names, err := filepath.Glob("/tmp/bus/pseudo/devices/adapter*/host*/target*/*:*/" + kind + "/*")
	must(err)
	if len(names) != 1 {
		must(fmt.Errorf("%s: %v", kind, names))
	}
	if kind == "bsg" {
		return "/dev/bsg/" + filepath.Base(names[0])
	}
	return "/dev/" + filepath.Base(names[0])
}

const sgIO = 0x2285 // include/scsi/sg.h

// writeBlock is the SCSI command WRITE(10), of the first block.
var writeBlock = []byte{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}

// writeByBSG gives that to a disk in a struct sg_io_v4, include/uapi/linux/bsg.h.
func writeByBSG(fd int) error {
	block, command := make([]byte, 512), slices.Clone(writeBlock)
	arg := struct {
		guard                       int32
		protocol, subprotocol, size uint32
		command, tag                uint64
		attr, priority, extra, room uint32
		response                    uint64
		outVectors, outLen          uint32
		inVectors, inLen            uint32
		out, in                     uint64
		timeout, flags              uint32
		user                        uint64
		spare                       uint32
		driver, transport, device   uint32
		retry, info, duration       uint32
		responseLen                 uint32
		inResidual, outResidual     int32
		generated                   uint64
		_, _                        uint32
	}{guard: 'Q', size: uint32(len(command)), command: uint64(pointer(command)), outLen: uint32(len(block)), out: uint64(pointer(block)), timeout: 5000}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), sgIO, addressOf(&arg))
	if errno == 0 && (arg.device != 0 || arg.transport != 0) {
		must(fmt.Errorf("SCSI status %d, transport %d", arg.device, arg.transport))
	}
	return errnoError(errno)
}

// writeBySCSI gives it in a struct sg_io_hdr.
func writeBySCSI(fd int) error {
	const toDevice = -2
	block, sense, command := make([]byte, 512), make([]byte, 32), slices.Clone(writeBlock)
	arg := struct {
		interfaceID, direction int32
		commandLen, senseLen   uint8
		vectors                uint16
		dataLen                uint32
		data, command, sense   uintptr
		timeout, flags         uint32
		packID                 int32
		_                      uintptr
		status, masked, msg    uint8
		senseWritten           uint8
		host, driver           uint16
		residual               int32
		duration, info         uint32
	}{
		interfaceID: 'S', direction: toDevice, commandLen: uint8(len(command)), senseLen: uint8(len(sense)), dataLen: uint32(len(block)),
		data: pointer(block), command: pointer(command), sense: pointer(sense), timeout: 5000,
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), sgIO, addressOf(&arg))
	if errno == 0 && (arg.status != 0 || arg.host != 0) {
		must(fmt.Errorf("SCSI status %d, host status %d", arg.status, arg.host))
	}
	return errnoError(errno)
}
