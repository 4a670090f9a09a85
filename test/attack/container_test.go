// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
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

// makeImage completes the lower layer.
func makeImage() error {
	for _, dir := range []string{"bin", "opt", "home", "tmp", "proc", "data", "run", "dev/shm", "sys/fs/bpf", "sys/fs/cgroup", "sys/fs/cgroup1"} {
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
	} {
		if err := os.WriteFile(image+name, content, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(image+"/opt/plain", []byte("no code"), 0o644); err != nil {
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

// container is an overlay root filesystem and a cgroup.
type container struct {
	root, upper, data, cgroup string
}

var containers atomic.Int32

func newContainer(t *testing.T) *container {
	t.Helper()
	n := strconv.Itoa(int(containers.Add(1)))
	dir := "/run/container/" + n
	c := &container{root: dir + "/root", upper: dir + "/upper", data: dir + "/data", cgroup: "/sys/fs/cgroup/container" + n}
	work := dir + "/work"
	for _, d := range []string{c.root, c.upper, work, c.data, c.cgroup} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", image, c.upper, work)
	if err := unix.Mount("overlay", c.root, "overlay", 0, options); err != nil {
		t.Fatalf("overlay: %v", err)
	}
	return c
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

func (c *container) command(ctx context.Context, stage, attack string) (*exec.Cmd, error) {
	cgroup, err := unix.Open(c.cgroup, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), "STAGE=runtime", "NEXT="+stage, "ATTACK="+attack, "ROOT="+c.root, "DATA="+c.data, "UPPER="+c.upper)
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
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := os.Setenv("STAGE", os.Getenv("NEXT")); err != nil {
		return err
	}
	return syscall.Exec("/bin/program", []string{"program"}, os.Environ())
}

// cgroupV1 is where a container finds a hierarchy of version 1.
const cgroupV1 = "/sys/fs/cgroup1"

// hostMounts is the descriptor of the host's mount namespace.
const hostMounts = 100
