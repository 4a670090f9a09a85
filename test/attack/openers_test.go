// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// openerAttacks have the kernel open what the task itself may not.
var openerAttacks = []*attack{
	{name: "judged file of a volume written through an overlay of one's own", op: "write", reason: "guarded", layout: layout{volume: true},
		try: func() error {
			judgedInVolume()
			must(unix.Mount("overlay", "/data", "overlay", 0, "lowerdir=/opt,upperdir=/run/upper,workdir=/run/work"))
			return open("/data/x", unix.O_WRONLY)
		}},
	{name: "judged file of a volume emptied through an overlay of one's own", op: "setattr", reason: "guarded", layout: layout{volume: true},
		try: func() error {
			judgedInVolume()
			must(unix.Mount("overlay", "/data", "overlay", 0, "lowerdir=/opt,upperdir=/run/upper,workdir=/run/work"))
			return open("/data/x", unix.O_RDONLY|unix.O_TRUNC)
		}},
	{name: "judged file of a volume written through an overlay with metacopy and redirect_dir", op: "write", reason: "guarded", layout: layout{volume: true},
		try: func() error {
			judgedInVolume()
			must(unix.Mount("overlay", "/data", "overlay", 0, "lowerdir=/opt,upperdir=/run/upper,workdir=/run/work,redirect_dir=on,metacopy=on"))
			return open("/data/x", unix.O_RDWR)
		}},
	{name: "judged file of a volume written through an overlay in a user namespace", op: "write", reason: "guarded", layout: layout{volume: true},
		try: func() error {
			judgedInVolume()
			return inUserNamespace(ownOverlay)
		}},
	{name: "judged file of a volume truncated through an overlay of one's own", op: "setattr", reason: "guarded", layout: layout{volume: true},
		try: func() error {
			judgedInVolume()
			must(unix.Mount("overlay", "/data", "overlay", 0, "lowerdir=/opt,upperdir=/run/upper,workdir=/run/work"))
			return unix.Truncate("/data/x", 0)
		}},
	{name: "layer as the upper directory of an overlay, from the host's mount namespace", op: "mount", reason: "hardened",
		try: func() error {
			must(execute("/bin/fortytwo"))
			return onHost(func() error {
				dir := "/volume/" + containerName() + "/"
				for _, name := range []string{"lower", "work", "merged"} {
					must(os.Mkdir(dir+name, 0o755))
				}
				if err := unix.Mount("overlay", dir+"merged", "overlay", 0,
					"lowerdir="+dir+"lower,upperdir=/image,workdir="+dir+"work"); err != nil {
					return err
				}
				defer unix.Unmount(dir+"merged", unix.MNT_DETACH)
				return open(dir+"merged/bin/fortytwo", unix.O_WRONLY)
			})
		}},
	{name: "writable layer as the upper directory of an overlay, from the host's mount namespace (soft)", op: "mount", reason: "hardened",
		rules: soft,
		try: func() error {
			must(execute(copyOf("/bin/fortytwo", "/home/x")))
			return onHost(func() error {
				dir := "/run/container/" + containerName() + "/"
				for _, name := range []string{"lower", "work2", "merged"} {
					must(os.Mkdir(dir+name, 0o755))
				}
				if err := unix.Mount("overlay", dir+"merged", "overlay", 0,
					"lowerdir="+dir+"lower,upperdir="+dir+"upper,workdir="+dir+"work2"); err != nil {
					return err
				}
				defer unix.Unmount(dir+"merged", unix.MNT_DETACH)
				return open(dir+"merged/home/x", unix.O_WRONLY)
			})
		}},
	{name: "FUSE passthrough onto a listed script", op: "write", reason: "guarded", errno: unix.EIO,
		refused: map[vm.Kernel]string{"6.1": "the kernel has no FUSE passthrough"},
		try: func() error {
			server := newFuse("/tmp/fuse")
			server.passTo("/bin/lib.py")
			if err := server.start(); err != nil {
				return err
			}
			return writeThrough(server.file(), "/bin/lib.py")
		}},
	{name: "FUSE passthrough onto a judged file of a volume", op: "write", reason: "guarded", errno: unix.EIO, layout: layout{volume: true},
		refused: map[vm.Kernel]string{"6.1": "the kernel has no FUSE passthrough"},
		try: func() error {
			judgedInVolume()
			server := newFuse("/tmp/fuse")
			server.passTo("/run/upper/x")
			if err := server.start(); err != nil {
				return err
			}
			return writeThrough(server.file(), "/run/upper/x")
		}},
	{name: "fanotify gives a listed file open for writing", op: "write", reason: "guarded",
		try: func() error {
			fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC, unix.O_RDWR)
			must(err)
			must(unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN, unix.AT_FDCWD, "/bin/true"))
			must(open("/bin/true", unix.O_RDONLY))
			event := make([]byte, 256)
			if _, err := unix.Read(fd, event); err != nil {
				return err
			}
			// struct fanotify_event_metadata: the descriptor is behind event_len, vers, reserved, metadata_len and mask.
			got := int32(binary.NativeEndian.Uint32(event[16:]))
			if got < 0 {
				return unix.Errno(-got)
			}
			_, err = unix.Pwrite(int(got), []byte("x"), 0)
			must(err)
			return nil
		}},
	{name: "core dump onto a listed file", op: "unlink", reason: "guarded",
		try: func() error {
			had, err := os.ReadFile("/opt/core")
			must(err)
			cmd := stage("crash")
			cmd.Dir = "/opt"
			if out, err := cmd.CombinedOutput(); err == nil {
				must(fmt.Errorf("no crash: %s", out))
			}
			b, err := os.ReadFile("/opt/core")
			must(err)
			if string(b) == string(had) {
				return fmt.Errorf("no dump: %w", unix.EPERM) // the kernel says nothing; the event does
			}
			return nil
		}},
	{name: "process accounting into a judged file of a volume", op: "write", reason: "guarded", layout: layout{volume: true},
		try: func() error {
			judgedInVolume()
			err := unix.Acct("/run/upper/x")
			if err == nil {
				_, _, errno := unix.Syscall(unix.SYS_ACCT, 0, 0, 0)
				must(errnoError(errno))
			}
			return err
		}},
	{name: "descriptor of a listed file received from elsewhere, reopened for writing", op: "write", reason: "guarded",
		try: func() error {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			must(err)
			fd, err := unix.Open("/bin/true", unix.O_RDONLY, 0)
			must(err)
			must(unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(fd), nil, 0))
			oob := make([]byte, 64)
			_, n, _, _, err := unix.Recvmsg(pair[1], make([]byte, 1), oob, 0)
			must(err)
			messages, err := unix.ParseSocketControlMessage(oob[:n])
			must(err)
			fds, err := unix.ParseUnixRights(&messages[0])
			must(err)
			return open(fmt.Sprintf("/proc/self/fd/%d", fds[0]), unix.O_WRONLY)
		}},
}

// judgedInVolume puts a listed program into the volume and executes it.
func judgedInVolume() {
	for _, name := range []string{"/run/upper", "/run/work"} {
		must(os.Mkdir(name, 0o755))
	}
	must(execute(copyOf("/bin/fortytwo", "/run/upper/x")))
}

// ownOverlay is one in a user namespace, over the volume.
var ownOverlay = &attack{name: "(overlay in a user namespace)", try: func() error {
	must(unix.Mount("overlay", "/data", "overlay", 0, "lowerdir=/opt,upperdir=/run/upper,workdir=/run/work,userxattr"))
	return open("/data/x", unix.O_WRONLY)
}}

// writeThrough opens through for writing, and tells whether the file changed by that.
func writeThrough(through, name string) error {
	fd, err := unix.Open(through, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err = unix.Pwrite(fd, []byte("exit(42)\n"), 0); err != nil {
		return err
	}
	b, err := os.ReadFile(name)
	must(err)
	if string(b[:4]) != "exit" {
		must(errors.New("the file did not change"))
	}
	return nil
}
