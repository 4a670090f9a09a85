// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

const image = "/image" // the lower layer of every container

// tiny is a static executable that exits with status code, and does nothing
// else: ELF header, one program header, three instructions.
func tiny(code byte) []byte {
	text := []byte{
		0xbf, code, 0, 0, 0, // mov edi, code
		0xb8, 60, 0, 0, 0, // mov eax, exit
		0x0f, 0x05, // syscall
	}
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(text))
	var b bytes.Buffer
	for _, v := range []any{
		[16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, uint16(2), uint16(62), uint32(1), uint64(base + headers),
		uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000),
	} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return append(b.Bytes(), text...)
}

const evil = 42 // exit status of what must not run

const (
	owner         = 1000 // of /opt/owned.sh
	linkedLibrary = "/usr/lib/x86_64-linux-gnu/liblink.so.1"
)

// makeImage completes the lower layer.
func makeImage() error {
	for _, dir := range []string{
		"bin", "opt/data", "opt/code", "home", "tmp", "proc", "data", "run", "etc", "var", "srv", "usr/share/zoneinfo",
		"dev/shm", "sys/fs/bpf", "sys/fs/cgroup", "sys/fs/cgroup1",
	} {
		if err := os.MkdirAll(filepath.Join(image, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Link("/bin/program", image+"/bin/program"); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"/bin/true":       tiny(0),
		"/bin/control":    append(tiny(0), 0),
		"/bin/fortytwo":   tiny(evil),
		"/opt/unlisted":   append(tiny(evil), 0),
		"/bin/tmp-script": []byte("#!/tmp/interpreter\n"),
		"/bin/lib.py":     []byte("pass\n"),
		"/opt/owned.sh":   []byte("#!/bin/dash\nexit 0\n"),
		"/opt/core":       tiny(0), // named as the kernel names a dump
		"/opt/code/x":     tiny(0),
		execStack:         program{text: onStack, stack: 7}.elf(),
		writableCode:      program{text: changesItself, segment: 7}.elf(),
		tmpLoader:         program{text: exiting(0), loader: "/tmp/loader"}.elf(),
		stackLibrary:      withExecutableStack(image + libm),
	} {
		if err := os.WriteFile(image+name, content, 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"/opt/plain", "/opt/data/file", "/usr/share/zoneinfo/UTC"} {
		if err := os.WriteFile(image+name, []byte("no code"), 0o644); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{
		"/bin/sh": "dash", "/bin/python3": "/bin/fortytwo", "/opt/tool": "../bin/fortytwo",
		linkedLibrary:    "libm.so.6",
		"/etc/localtime": "/usr/share/zoneinfo/UTC", "/var/run": "/run", "/srv/current": "data",
	} {
		if err := os.Symlink(to, image+name); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chown(image+"/opt/owned.sh", owner, owner), unix.Mkfifo(image+"/opt/pipe.sh", 0o644)); err != nil {
		return err
	}
	if err := os.WriteFile(image+"/opt/large", tiny(evil), 0o755); err != nil {
		return err
	}
	if err := os.Truncate(image+"/opt/large", 17<<20); err != nil {
		return err
	}
	digest := sha256.Sum256(tiny(0))
	return errors.Join(
		unix.Setxattr(image+"/bin/true", "security.ima", append([]byte{4, 4}, digest[:]...), 0),
		unix.Setxattr(image+"/bin/true", "security.bpf.bless", []byte("signature"), 0),
		unix.Setxattr(image+"/bin/true", "security.evm", evmSignature, 0),
		unix.Setxattr(image+"/bin/true", "security.capability", fileCaps, 0))
}

// evmSignature has the type of a portable one, EVM_XATTR_PORTABLE_DIGSIG, and no more.
var evmSignature = []byte{5, 2, 4, 0, 0, 0, 0, 0, 0}

// fileCaps is struct vfs_cap_data, revision 2, with no capability in it.
var fileCaps = []byte{0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// imageSet lists the image, but for one file.
func imageSet() (enforce.Set, error) {
	set := enforce.Set{Name: "registry.example/app@sha256:" + fmt.Sprintf("%064x", 1)}
	err := filepath.WalkDir(image, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || name == image+"/opt/unlisted" {
			return err
		}
		b, err := os.ReadFile(name)
		set.Files = append(set.Files, enforce.File{Path: name[len(image):], SHA256: sha256.Sum256(b), Size: uint64(len(b)), Package: "deb test 1"})
		return err
	})
	return set, err
}

// sha256sum is the line that the program of this name prints.
func sha256sum(name string) string {
	b, err := os.ReadFile(name)
	must(err)
	return fmt.Sprintf("%x  %s\n", sha256.Sum256(b), name)
}

// layout is what a container may have beside the usual.
type layout struct {
	overlay string // further options of the root's mount
	disk    bool   // a layer on a block device of its own, with /opt/disk in it
	volume  bool   // a tmpfs at /run
}

// container is an overlay root filesystem and a cgroup.
type container struct {
	root, upper, data, cgroup string
	disk, device              string // where the layer on a block device is mounted, and the device
	from                      *container
}

var containers atomic.Int32

func newContainer(t *testing.T) *container { t.Helper(); return layout{}.container(t) }

func (l layout) container(t *testing.T) *container {
	t.Helper()
	n := strconv.Itoa(int(containers.Add(1)))
	dir := "/run/container/" + n
	// The volume is on the filesystem that has the image, as a node's disk has both.
	c := &container{root: dir + "/root", upper: dir + "/upper", data: "/volume/" + n, cgroup: "/sys/fs/cgroup/container" + n}
	work := dir + "/work"
	for _, d := range []string{c.root, c.upper, work, c.data, c.cgroup} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower := image
	if l.disk {
		c.disk = dir + "/disk"
		if err := c.mountDisk(); err != nil {
			t.Fatalf("disk: %v", err)
		}
		lower = c.disk + ":" + image
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, c.upper, work)
	if l.overlay != "" {
		options += "," + l.overlay
	}
	if err := unix.Mount("overlay", c.root, "overlay", 0, options); err != nil {
		t.Fatalf("overlay: %v", err)
	}
	if l.volume {
		if err := unix.Mount("tmpfs", c.root+"/run", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// diskFile is an ext4 filesystem with one program, onDisk.
const (
	diskFile = "/disk.ext4"
	onDisk   = "/opt/disk/program"
)

// makeDisk makes that on the host.
func makeDisk(t vm.TB) string {
	t.Helper()
	dir := t.TempDir()
	tree, file := filepath.Join(dir, "tree"), filepath.Join(dir, "disk")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(tree, filepath.Dir(onDisk)), 0o755),
		os.WriteFile(filepath.Join(tree, onDisk), tiny(0), 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/sbin/mkfs.ext4", "-q", "-I", "256", "-O", "^has_journal,^metadata_csum", "-d", tree, file, "1M").CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s (Debian package e2fsprogs)", err, out)
	}
	return file
}

// mountDisk gives the container a copy of it.
func (c *container) mountDisk() error {
	b, err := os.ReadFile(diskFile)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.disk+".ext4", b, 0o600); err != nil {
		return err
	}
	if c.device, err = loopDevice(c.disk+".ext4", os.O_RDWR); err != nil {
		return err
	}
	if err := os.MkdirAll(c.disk, 0o755); err != nil {
		return err
	}
	return unix.Mount(c.device, c.disk, "ext4", 0, "")
}

// loopDevice makes a block device of a file, for reading only or for both.
func loopDevice(file string, flags int) (string, error) {
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(control)
	n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", err
	}
	name := fmt.Sprint("/dev/loop", n)
	device, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(device)
	f, err := os.OpenFile(file, flags, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return name, unix.IoctlSetInt(device, unix.LOOP_SET_FD, int(f.Fd()))
}

// start runs a stage of this program in the container, as root with every
// capability, and gives what it printed.
func (c *container) start(stage, attack string) ([]byte, error) {
	// An attack that hangs is one that could not be tried.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd, err := c.command(ctx, stage, attack)
	if err != nil {
		return nil, err
	}
	return cmd.Output()
}

// execute has a task of the container execute a file of it.
func (c *container) execute(name string) error {
	out, err := c.start("attacker", executing+name)
	if err != nil {
		return untried{fmt.Errorf("%w: %s", err, out)}
	}
	var o outcome
	if err := json.Unmarshal(out, &o); err != nil {
		return untried{fmt.Errorf("%w: %s", err, out)}
	}
	return o.err()
}

func (c *container) command(ctx context.Context, stage, attack string) (*exec.Cmd, error) {
	cgroup, err := unix.Open(c.cgroup, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), "STAGE=runtime", "NEXT="+stage, "ATTACK="+attack, "ROOT="+c.root, "DATA="+c.data, "UPPER="+c.upper,
		"DISK="+c.disk, "DEVICE="+c.device)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // so that it says where
	cmd.WaitDelay = 5 * time.Second
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		UseCgroupFD: true,
		CgroupFD:    cgroup,
	}
	return cmd, nil
}

// prepare is what a runtime does in the new namespaces: mounts, pivot_root, execve.
func prepare() error {
	if err := enter(); err != nil {
		return err
	}
	if err := os.Setenv("STAGE", os.Getenv("NEXT")); err != nil {
		return err
	}
	return syscall.Exec("/bin/program", []string{"program"}, os.Environ())
}

// enter is prepare up to the execve.
func enter() error {
	root := os.Getenv("ROOT")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, m := range []struct {
		from, to, kind string
		flags          uintptr
		data           string
	}{
		{"proc", "/proc", "proc", 0, ""},
		{"tmpfs", "/tmp", "tmpfs", 0, ""},
		{"/dev", "/dev", "", unix.MS_BIND, ""},
		{"tmpfs", "/dev/shm", "tmpfs", 0, ""},
		{os.Getenv("DATA"), "/data", "", unix.MS_BIND, ""},
		{"/sys/fs/bpf", "/sys/fs/bpf", "", unix.MS_BIND, ""},
		{"/sys/fs/cgroup", "/sys/fs/cgroup", "", unix.MS_BIND, ""},
		{"cgroup", cgroupV1, "cgroup", 0, "none,name=host"}, // as a host has it that uses both versions
	} {
		if err := unix.Mount(m.from, root+m.to, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.to, err)
		}
	}
	// What nsenter would find under a host's /proc.
	ns, err := os.Open("/proc/1/ns/mnt")
	if err != nil {
		return err
	}
	if err := unix.Dup2(int(ns.Fd()), hostMounts); err != nil { // without close-on-exec
		return err
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	return unix.Unmount(".", unix.MNT_DETACH)
}

// cgroupV1 is where a container finds a hierarchy of version 1.
const cgroupV1 = "/sys/fs/cgroup1"

// hostMounts is the descriptor of the host's mount namespace.
const hostMounts = 100
