// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fuzz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"golang.org/x/sys/unix"
)

const (
	image = "/image" // the lower layer of every container
	evil  = 42       // exit status of what must not run
	page  = 4096
)

// elf is a static executable of one segment.
func elf(text ...byte) []byte {
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(text))
	var b bytes.Buffer
	for _, v := range []any{
		[16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, uint16(2), uint16(62), uint32(1), uint64(base + headers),
		uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(page),
	} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return append(b.Bytes(), text...)
}

// entry is where the text of elf begins.
const entry = 64 + 56

func exiting(code byte) []byte {
	return elf(0xbf, code, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05) // mov edi, code; mov eax, exit; syscall
}

// waiting is a program that ends at once, or with an argument not by itself.
func waiting() []byte {
	return elf(
		0x8b, 0x04, 0x24, // mov eax, [rsp]: the number of its arguments
		0xff, 0xc8, // dec eax
		0x75, 9, // jne wait
		0x31, 0xff, // xor edi, edi
		0xb8, 60, 0, 0, 0, // mov eax, exit
		0x0f, 0x05, // syscall
		0xb8, 34, 0, 0, 0, // wait: mov eax, pause
		0x0f, 0x05, // syscall
		0xeb, 0xf7) // jmp wait
}

func padded(b []byte, size int) []byte { return append(b, make([]byte, size-len(b))...) }

// file is one of the image.
type file struct {
	name     string
	content  []byte
	mode     os.FileMode
	unlisted bool
	plain    bool // no code: guarded with guard-all only
}

var imageFiles = []file{
	{name: "/bin/true", content: exiting(0), mode: 0o755},
	{name: "/bin/wait", content: waiting(), mode: 0o755},
	{name: "/bin/large", content: padded(exiting(0), 16<<10), mode: 0o755},
	{name: "/bin/set-id", content: append(exiting(0), 1), mode: 0o755 | os.ModeSetuid},
	{name: "/bin/script.sh", content: []byte("#!/bin/true\n"), mode: 0o755},
	{name: "/lib/lib.so.1", content: append(waiting(), 1), mode: 0o644},
	{name: "/lib/module.py", content: []byte("pass\n"), mode: 0o644},
	{name: "/opt/unlisted", content: padded(exiting(evil), 2*page), mode: 0o755, unlisted: true},
	{name: "/opt/plain", content: []byte("no code"), mode: 0o644, plain: true},
	{name: control, content: append(exiting(0), 2), mode: 0o755},
}

// control is a listed program that no step touches: it must always run.
const control = "/bin/control"

// listed are the contents of the image's list.
var listed [][]byte

// makeImage writes the lower layer, where the player is already, and lists it.
func makeImage() (enforce.Set, error) {
	set := enforce.Set{Name: fmt.Sprintf("registry.example/app@sha256:%064x", 1), Digest: fmt.Sprintf("sha256:%064x", 1), Sizes: true}
	for _, dir := range []string{"bin", "lib", "opt", "home", "data", "mnt", "proc", "sys/fs/cgroup"} {
		if err := os.MkdirAll(filepath.Join(image, dir), 0o755); err != nil {
			return set, err
		}
	}
	if err := errors.Join(os.Chmod(image+"/home", 0o1777), os.Symlink("true", image+"/bin/link")); err != nil {
		return set, err
	}
	b, err := os.ReadFile(image + "/bin/player")
	if err != nil {
		return set, err
	}
	add := func(name string, content []byte) {
		sum := sha256.Sum256(content)
		listed = append(listed, content)
		set.Files = append(set.Files, enforce.File{Path: name, SHA256: sum, Size: uint64(len(content)), Package: "deb test 1"})
	}
	add("/bin/player", b)
	// So that what is newer than the image is told from it by its time.
	old := time.Unix(1_000_000_000, 0)
	for _, f := range imageFiles {
		name := image + f.name
		err := os.WriteFile(name, f.content, 0o644)
		if err := errors.Join(err, os.Chmod(name, f.mode), os.Chtimes(name, old, old)); err != nil {
			return set, err
		}
		if !f.unlisted {
			add(f.name, f.content)
		}
	}
	return set, nil
}

// container is an overlay root filesystem, a volume on a tmpfs, and a cgroup.
type container struct{ dir, root, cgroup string }

var containers int

// newContainer makes one; options are further ones of its overlay.
func newContainer(options string) (*container, error) {
	containers++
	dir := fmt.Sprint("/run/fuzz", containers)
	c := &container{dir: dir, root: dir + "/root", cgroup: fmt.Sprint("/sys/fs/cgroup/fuzz", containers)}
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755")); err != nil {
		return nil, err
	}
	for _, d := range []string{c.root, dir + "/upper", dir + "/work", c.cgroup} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work%s", image, dir, dir, options)
	if err := unix.Mount("overlay", c.root, "overlay", 0, data); err != nil {
		return nil, fmt.Errorf("overlay%s: %w", options, err)
	}
	for _, m := range []struct {
		from, to, kind string
		flags          uintptr
		data           string
	}{
		{"/proc", "/proc", "", unix.MS_BIND, ""},
		{"tmpfs", "/data", "tmpfs", 0, "mode=1777"},
		{"/sys/fs/cgroup", "/sys/fs/cgroup", "", unix.MS_BIND, ""},
	} {
		if err := unix.Mount(m.from, c.root+m.to, m.kind, m.flags, m.data); err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.to, err)
		}
	}
	for _, d := range []string{"/mnt/1", "/mnt/2", "/mnt/overlay", "/data/upper", "/data/work", "/home/upper", "/home/work"} {
		if err := errors.Join(os.MkdirAll(c.root+d, 0o777), os.Chmod(c.root+d, 0o777)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *container) remove() error {
	for _, m := range []string{"/root/sys/fs/cgroup", "/root/data", "/root/proc", "/root", ""} {
		if err := unix.Unmount(c.dir+m, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("umount %s: %w", m, err)
		}
	}
	// A cgroup is busy until its last task is reaped.
	var err error
	for range 200 {
		if err = os.Remove(c.cgroup); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.Join(err, os.Remove(c.dir))
}
