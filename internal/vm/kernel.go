// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Kernel is a kernel line, named by its version: "6.1".
type Kernel string

// Kernels are the ones this project promises to work on, oldest first: those
// of Debian 12, Debian 13, and two from Debian 13's backports.
var Kernels = []Kernel{"6.1", "6.12", "6.18", "7.3"}

// Image is a kernel unpacked in the cache.
type Image struct {
	Release string // as uname -r says
	Vmlinuz string
	Modules string // the directory lib/modules/RELEASE
}

// check tells whether a release, as uname -r says it, is of k's line.
func (k Kernel) check(release string) error {
	if !strings.HasPrefix(release, string(k)+".") {
		return fmt.Errorf("kernel %s runs, %s was asked for", release, k)
	}
	return nil
}

// Fetch returns Debian's cloud kernel of k's line, from the cache if it is
// there: ~/.cache/sbom-bless/kernels (os.UserCacheDir), shared by concurrent
// processes. Removing k's directory there makes the next call take the newest.
func (k Kernel) Fetch(ctx context.Context) (*Image, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	cache = filepath.Join(cache, "sbom-bless", "kernels")
	dir := filepath.Join(cache, string(k))
	if i, err := findImage(dir); err == nil {
		return i, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if i, err := findImage(dir); err == nil {
		return i, nil // another process was here before
	}
	if err := k.download(ctx, cache, dir); err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	return findImage(dir)
}

// download makes dir, whole or not at all.
func (k Kernel) download(ctx context.Context, cache, dir string) error {
	tmp, err := os.MkdirTemp(cache, "tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	debs, err := k.debs(ctx, filepath.Join(cache, "apt"), tmp)
	if err != nil {
		return err
	}
	root := filepath.Join(tmp, "root")
	for _, deb := range debs {
		if _, err := command(ctx, "", "dpkg", "-x", deb, root); err != nil {
			return err
		}
	}
	if _, err := findImage(root); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(root, dir)
}

// findImage looks where Debian's packages of the last years put things.
func findImage(root string) (*Image, error) {
	var modules string
	for _, pattern := range []string{"usr/lib/modules/*", "lib/modules/*"} {
		if found, _ := filepath.Glob(filepath.Join(root, pattern)); len(found) == 1 {
			modules = found[0]
		}
	}
	if modules == "" {
		return nil, errors.New("no lib/modules in the kernel's packages")
	}
	if _, err := os.Stat(filepath.Join(modules, "modules.builtin")); err != nil {
		return nil, err
	}
	release := filepath.Base(modules)
	for _, file := range []string{filepath.Join(modules, "vmlinuz"), filepath.Join(root, "boot", "vmlinuz-"+release)} {
		if _, err := os.Stat(file); err == nil {
			return &Image{Release: release, Vmlinuz: file, Modules: modules}, nil
		}
	}
	return nil, errors.New("no vmlinuz in the kernel's packages")
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
