// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Init is the whole of PID 1. It does not return.
func Init() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err) // the console
	}
	// QEMU is told not to reboot: it ends here.
	fmt.Fprintln(os.Stderr, "init:", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
}

func serve() error {
	setErr := setUp()
	file, err := openPort("/dev/ttyS1")
	if err != nil {
		return errors.Join(setErr, err)
	}
	p := &port{out: json.NewEncoder(file)}
	if setErr != nil {
		return p.say(message{Error: setErr.Error()})
	}
	status, err := runProgram(p)
	if err != nil {
		return p.say(message{Error: err.Error()})
	}
	return p.say(message{Exit: &status})
}

// port is the way to the host: one message at a time.
type port struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (p *port) say(m message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Encode(m)
}

// setUp gives the program the system it expects.
func setUp() error {
	if err := switchRoot(); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"devpts", "/dev/pts"},
		{"tmpfs", "/dev/shm"}, {"mqueue", "/dev/mqueue"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
		{"securityfs", "/sys/kernel/security"}, {"debugfs", "/sys/kernel/debug"},
		{"tracefs", "/sys/kernel/tracing"}, {"bpf", "/sys/fs/bpf"}, {"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := mount(m.kind, m.dir); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	for link, to := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, link); err != nil {
			return err
		}
	}
	return loopback()
}

func mount(kind, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	options := ""
	if kind == "tmpfs" {
		options = "mode=1777"
	}
	return unix.Mount(kind, dir, kind, unix.MS_NOSUID, options)
}

// switchRoot moves every file of the initrd to a tmpfs and makes that the root.
func switchRoot() error {
	const root = "/newroot"
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	// The default limit is half of the memory; the initrd may hold more.
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755,size=90%"); err != nil {
		return err
	}
	list, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name() == filepath.Base(root) {
			continue
		}
		if err := moveTree("/"+e.Name(), root); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}

// moveTree copies from to root+from and removes it, a file at a time, so that
// hardly more memory is needed than the initrd takes already.
func moveTree(from, root string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		to := root + p
		mode := info.Sys().(*syscall.Stat_t).Mode
		switch info.Mode().Type() {
		case fs.ModeDir:
			if err := os.Mkdir(to, 0o755); err != nil {
				return err
			}
			return unix.Chmod(to, mode&0o7777)
		case fs.ModeSymlink:
			link, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return os.Symlink(link, to)
		case 0:
			if err := copyFile(to, p, mode&0o7777); err != nil {
				return err
			}
			return os.Remove(p)
		}
		return nil // the kernel's own /dev/console
	})
}

func copyFile(to, from string, mode uint32) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	if err := dst.Close(); err != nil {
		return err
	}
	return unix.Chmod(to, mode)
}

// loopback brings 127.0.0.1 up.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(uint16(net.FlagUp))
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return nil
}

// openPort opens a serial port that passes every byte as it is.
func openPort(name string) (*os.File, error) {
	port, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t.Oflag = 0
	t.Lflag = 0
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return port, nil
}

// runProgram checks the kernel, loads the modules, runs the program and gives its exit status.
func runProgram(to *port) (int, error) {
	data, err := os.ReadFile(programFile)
	if err != nil {
		return 0, err
	}
	var p program
	if err := json.Unmarshal(data, &p); err != nil {
		return 0, err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return 0, err
	}
	if err := p.Kernel.check(unix.ByteSliceToString(u.Release[:])); err != nil {
		return 0, err
	}
	for _, m := range p.Modules {
		if err := loadModule(m); err != nil {
			return 0, fmt.Errorf("%s: %w", m, err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	child, err := os.StartProcess(p.Argv[0], p.Argv, &os.ProcAttr{
		Dir: "/", Env: p.Env, Files: []*os.File{null, w, w}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, err
	}
	w.Close()
	copied := make(chan error, 1)
	go func() { copied <- forward(to, r) }()
	status, err := reap(child.Pid)
	if err != nil {
		return 0, err
	}
	select {
	case err = <-copied:
	case <-time.After(2 * time.Second): // a daemon it left behind holds the pipe
	}
	return status, err
}

func loadModule(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

func forward(to *port, r io.Reader) error {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := to.say(message{Output: buf[:n]}); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// reap waits for everybody, as PID 1 must, until pid has ended.
func reap(pid int) (int, error) {
	for {
		var s unix.WaitStatus
		got, err := unix.Wait4(-1, &s, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case got == pid && s.Signaled():
			return 128 + int(s.Signal()), nil
		case got == pid:
			return s.ExitStatus(), nil
		}
	}
}
