// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// interpreterAttacks give a listed interpreter what it may not read.
var interpreterAttacks = []*attack{
	{name: "interpreter given a FIFO in the writable layer", op: "read-code", reason: "writable-layer",
		try: func() error {
			must(unix.Mkfifo("/home/x.sh", 0o600))
			return fed("/home/x.sh")
		}},
	{name: "interpreter given a FIFO on tmpfs", op: "read-code", reason: "foreign-fs",
		try: func() error {
			must(unix.Mkfifo("/tmp/x.sh", 0o600))
			return fed("/tmp/x.sh")
		}},
	{name: "interpreter given a FIFO of the image", op: "read-code", reason: "writer",
		try: func() error { return fed("/opt/pipe.sh") }},
	{name: "interpreter given a block device named as a script", op: "read-code", reason: "writable-layer",
		prepare: func(c *container) {
			must(os.WriteFile(c.root+"/../script", []byte("exit 42\n"+strings.Repeat("\n", 4096)), 0o600))
			device, err := loopDevice(c.root+"/../script", os.O_RDWR)
			must(err)
			c.device = device
		},
		try: func() error {
			var st unix.Stat_t
			must(unix.Stat(os.Getenv("DEVICE"), &st))
			must(unix.Mknod("/home/x.sh", unix.S_IFBLK|0o600, int(st.Rdev)))
			return execute("/bin/dash", "/home/x.sh")
		}},
	{name: "interpreter given a script through /proc/self/fd", op: "read-code", reason: "writable-layer",
		try: func() error {
			must(os.WriteFile("/home/x.sh", []byte("exit 42\n"), 0o644))
			fd, err := unix.Open("/home/x.sh", unix.O_PATH, 0)
			must(err)
			cmd := exec.Command("/bin/dash", "/proc/self/fd/3")
			cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "x.sh")}
			return ran(cmd)
		}},
	{name: "interpreter given a link without a suffix to a dropped script", op: "read-code", reason: "foreign-fs",
		try: func() error {
			must(os.WriteFile("/tmp/x.sh", []byte("exit 42\n"), 0o644))
			must(os.Symlink("/tmp/x.sh", "/home/x"))
			return execute("/bin/dash", "/home/x")
		}},
	{name: "interpreter given a memfd named as a script", op: "read-code", reason: "foreign-fs",
		try: func() error {
			fd, err := unix.MemfdCreate("x.sh", 0)
			must(err)
			_, err = unix.Write(fd, []byte("exit 42\n"))
			must(err)
			return execute("/bin/dash", "/proc/"+strconv.Itoa(os.Getpid())+"/fd/"+strconv.Itoa(fd))
		}},
	{name: "interpreter given a file of a volume", op: "read-code", reason: "foreign-fs",
		try: func() error {
			must(os.WriteFile("/data/x.sh", []byte("exit 42\n"), 0o644))
			return execute("/bin/dash", "/data/x.sh")
		}},
}

// fed runs a shell that reads its script from a FIFO.
func fed(name string) error {
	// Opened for reading, too, so that neither end waits for the other.
	fd, err := unix.Open(name, unix.O_RDWR, 0)
	must(err)
	_, err = unix.Write(fd, []byte("exit 42\n"))
	must(err)
	return execute("/bin/dash", name)
}
