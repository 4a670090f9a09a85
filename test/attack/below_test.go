// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"errors"
	"os"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// belowAttacks change a file that was judged in the place where the overlay has it from.
var belowAttacks = []*attack{
	{name: "file below opened with O_TRUNC, from the host's mount namespace", op: "write", reason: "guarded",
		try: func() error {
			return judgedBelow(func(name string) error { return open(name, unix.O_RDONLY|unix.O_TRUNC) })
		}},
	{name: "file below truncated, from the host's mount namespace", op: "setattr", reason: "guarded",
		try: func() error { return judgedBelow(func(name string) error { return unix.Truncate(name, 120) }) }},
	{name: "file below unlinked, from the host's mount namespace", op: "unlink", reason: "guarded",
		try: func() error { return judgedBelow(os.Remove) }},
	{name: "file below renamed over, from the host's mount namespace", op: "rename", reason: "guarded",
		try: func() error {
			return judgedBelow(func(name string) error { return os.Rename(drop("/x"), name) })
		}},
	{name: "file below opened for writing by a handle of it", op: "write", reason: "guarded",
		try: func() error {
			volume, handle := aVolume(), handleOf("/image/bin/fortytwo")
			return judgedBelow(func(name string) error { return byHandle(volume, handle, unix.O_WRONLY) })
		}},
	{name: "file of the writable layer changed from the host's mount namespace (soft)", op: "write", reason: "guarded",
		rules: soft,
		try: func() error {
			must(execute(copyOf("/bin/fortytwo", "/home/x")))
			return onHost(func() error { return open(os.Getenv("UPPER")+"/home/x", unix.O_WRONLY) })
		}},
	{name: "file of the writable layer emptied from the host's mount namespace (soft)", op: "write", reason: "guarded",
		rules: soft,
		try: func() error {
			must(execute(copyOf("/bin/fortytwo", "/home/x")))
			return onHost(func() error { return open(os.Getenv("UPPER")+"/home/x", unix.O_RDONLY|unix.O_TRUNC) })
		}},
	{name: "FS_IOC_SETVERSION of the file below", op: "ioctl", reason: "guarded", layout: layout{disk: true},
		try: func() error { return setVersion(0x40087602) }},
	{name: "EXT4_IOC_SETVERSION of the file below", op: "ioctl", reason: "guarded", layout: layout{disk: true},
		try: func() error { return setVersion(0x40086604) }},
	{name: "layer's disk mounted once more, and the file below opened for writing", op: "write", reason: "guarded", layout: layout{disk: true},
		try: func() error {
			must(execute0(onDisk))
			must(unix.Mount(os.Getenv("DEVICE"), "/data", "ext4", 0, ""))
			return open("/data"+onDisk, unix.O_WRONLY)
		}},
	{name: "file below changed by the host, at the time it had been changed last", op: "exec", reason: "not-listed",
		refused: map[vm.Kernel]string{"6.18": "no change time comes twice", "7.3": "no change time comes twice"},
		layout:  layout{disk: true}, host: changedAtTheSameTime},
}

func soft(r *enforce.Rules) { r.Soft = true }

// judgedBelow changes the file below after it was executed. Others have the
// same image: so what was changed is made anew.
func judgedBelow(change func(name string) error) error {
	const name = "/image/bin/fortytwo"
	must(execute("/bin/fortytwo"))
	return onHost(func() error {
		b, err := os.ReadFile(name)
		must(err)
		if err := change(name); err != nil {
			return err
		}
		must(os.RemoveAll(name))
		must(os.WriteFile(name, b, 0o755))
		return nil
	})
}

// copyOf copies a file, so that it is in nobody's hands afterwards.
func copyOf(from, to string) string {
	b, err := os.ReadFile(from)
	must(err)
	must(os.WriteFile(to, b, 0o755))
	return to
}

// execute0 executes what exits with status 0.
func execute0(name string) error {
	if err := execute(name); err != errExitedWell {
		return err
	}
	return nil
}

// changedProgram is as long as the program on the disk, exits with status evil, and is in no list.
func changedProgram() []byte {
	b := tiny(evil)
	b[15] = 1 // of the header's padding
	return b
}

// setVersion changes the generation of the inode below, which is part of its identity to us.
func setVersion(request uint) error {
	must(execute0(onDisk))
	return onHost(func() error {
		f, err := os.Open(os.Getenv("DISK") + onDisk)
		must(err)
		return unix.IoctlSetPointerInt(int(f.Fd()), request, 77)
	})
}

// changedAtTheSameTime sets the host's clock so that the file changes at the
// time that its inode has already.
func changedAtTheSameTime(c *container) error {
	if err := c.execute(onDisk); err != errExitedWell {
		return untried{err}
	}
	name := c.disk + onDisk
	var before, after unix.Stat_t
	must(unix.Stat(name, &before))
	started, real := time.Now(), unix.Timespec{}
	must(unix.ClockGettime(unix.CLOCK_REALTIME, &real))
	defer func() {
		now := unix.NsecToTimespec(real.Nano() + int64(time.Since(started)))
		must(unix.ClockSettime(unix.CLOCK_REALTIME, &now))
	}()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(err)
	content := changedProgram()
	for range 1000 {
		must(unix.ClockSettime(unix.CLOCK_REALTIME, &before.Ctim))
		_, err := f.WriteAt(content, 0)
		must(err)
		must(unix.Fstat(int(f.Fd()), &after))
		if after.Ctim == before.Ctim {
			break
		}
	}
	must(f.Close())
	if after.Ctim != before.Ctim {
		return errors.New("the file's change time is never the same") // multigrain timestamps, 6.13
	}
	if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, content) {
		must(errors.New("the file is not changed"))
	}
	return c.execute(onDisk)
}
