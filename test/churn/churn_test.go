// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package churn has containers come and go by the hundred, agents be killed and
// replaced meanwhile, and looks for what is left behind: in the kernel, in the
// verifier's maps, under its pins, in its state.
package churn

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv("STAGE") == "agent" {
		if err := agent(); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	image    = "/image" // the lower layer of every container
	listed   = "/usr/bin/true"
	unlisted = "/usr/bin/unlisted"
	dropped  = "/home/dropped"
)

var options = enforce.Options{Pins: enforce.DefaultPins, State: enforce.DefaultState}

// bringImage brings the parts of an image that the host has.
func bringImage(t vm.TB, c *vm.Config) {
	t.Helper()
	programs, err := vm.Programs("true")
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range programs {
		c.Files[image+name] = from
	}
}

// makeImage completes the image and lists it, but for one file.
func makeImage() (files []enforce.File, err error) {
	for _, dir := range []string{"home", "proc"} {
		if err := os.Mkdir(filepath.Join(image, dir), 0o755); err != nil {
			return nil, err
		}
	}
	err = filepath.WalkDir(image, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		files = append(files, enforce.File{Path: strings.TrimPrefix(name, image), SHA256: sha256.Sum256(b), Size: uint64(len(b)), Package: "deb test 1"})
		return err
	})
	return files, errors.Join(err, changedCopy(image+unlisted))
}

// changedCopy writes a program that runs, but has another digest.
func changedCopy(name string) error {
	b, err := os.ReadFile(image + listed)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, 0), 0o755)
}

// container is an overlay root filesystem and a cgroup.
type container struct{ name, dir, root, cgroup string }

var containers atomic.Int64

func newContainer() (*container, error) {
	name := fmt.Sprint("container", containers.Add(1))
	dir := "/run/" + name
	c := &container{name: name, dir: dir, root: dir + "/root", cgroup: "/sys/fs/cgroup/" + name}
	for _, d := range []string{c.root, dir + "/upper", dir + "/work", c.cgroup} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", image, dir, dir)
	return c, unix.Mount("overlay", c.root, "overlay", 0, data)
}

func (c *container) remove() error {
	return errors.Join(unix.Unmount(c.root, 0), os.RemoveAll(c.dir), os.Remove(c.cgroup))
}

func (c *container) domain() enforce.Domain {
	return enforce.Domain{Name: c.name, Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}
}

// run runs a program of the container in it.
func (c *container) run(program string) error {
	for {
		// The other worker's child may still hold the file open that this one has just written (golang.org/issue/22315).
		if err := c.runOnce(program); !errors.Is(err, syscall.ETXTBSY) {
			return err
		}
	}
}

func (c *container) runOnce(program string) error {
	cgroup, err := unix.Open(c.cgroup, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(cgroup)
	cmd := exec.Command(program)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, UseCgroupFD: true, CgroupFD: cgroup}
	return cmd.Run()
}

// try runs what must run and what must not.
func (c *container) try() error {
	if err := changedCopy(c.root + dropped); err != nil {
		return err
	}
	if err := c.run(listed); err != nil {
		return fmt.Errorf("%s: %s does not run: %w", c.name, listed, err)
	}
	for _, program := range []string{dropped, unlisted} {
		if err := c.run(program); !errors.Is(err, syscall.EPERM) {
			return fmt.Errorf("%s: %s: %v, want EPERM", c.name, program, err)
		}
	}
	return nil
}

// programsDir is where the programs in force are pinned.
func programsDir() (string, error) {
	found, err := filepath.Glob(enforce.DefaultPins + "/*/complete")
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("pins of programs: %v", found)
	}
	if err != nil {
		return "", err
	}
	return filepath.Dir(found[0]), nil
}
