// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// suite is the Debian release that real images are made of.
const suite = "bookworm"

// A step makes one more layer of a Debian image.
type step struct {
	packages string  // installed on top of the layers below, separated by spaces
	files    []Entry // or a layer of just these
}

var medium = []step{
	{packages: "nginx python3 perl vim python3-numpy"},
	{files: application},
}

var large = []step{
	{packages: "gcc g++ make git"},
	{packages: "clang llvm"},
	{packages: "openjdk-17-jdk-headless maven"},
	{packages: "golang-go nodejs npm"},
	{packages: "rustc cargo"},
	{packages: "python3-scipy libboost-all-dev"},
}

// application is what a Dockerfile's COPY and RUN rm leave behind.
var application = []Entry{
	Dir("srv/app/"),
	File("srv/app/app.py", 0o755, []byte("#!/usr/bin/python3\nimport numpy\nprint(numpy.arange(6).sum())\n")),
	File("srv/app/run.sh", 0o755, []byte("#!/bin/sh\nexec nginx -g 'daemon off;'\n")),
	File("srv/app/settings.json", 0o644, []byte("{\"listen\": 8080, \"workers\": 2}\n")),
	File("srv/app/static/index.html", 0o644, []byte("<!doctype html>\n<title>test</title>\n<p>It works.</p>\n")),
	File("srv/app/static/empty.css", 0o644, nil),
	Symlink("srv/app/current", "app.py"),
	Whiteout("etc/nginx/sites-enabled/default"),
	Dir("usr/share/nginx/html/"),
	Whiteout("usr/share/nginx/html/.wh..opq"),
	File("usr/share/nginx/html/index.html", 0o644, []byte("<!doctype html>\n<p>Replaced.</p>\n")),
}

// debian returns the builder of a Debian base system with a layer for each step.
func debian(steps ...step) func(context.Context, *builder) error {
	return func(ctx context.Context, b *builder) error {
		if _, err := exec.LookPath("mmdebstrap"); err != nil {
			return errors.New("mmdebstrap is missing: hack/install-tools.sh demo")
		}
		if len(steps) > 0 && os.Getuid() != 0 {
			return errors.New("root is needed: layers are made with overlayfs")
		}
		base := filepath.Join(b.tmp, "0.tar")
		if err := run(ctx, mmdebstrap("minbase", "", base)...); err != nil {
			return err
		}
		var lower string
		if len(steps) > 0 {
			lower = filepath.Join(b.tmp, "0")
			if err := os.Mkdir(lower, 0o755); err != nil {
				return err
			}
			if err := run(ctx, "tar", "-C", lower, "-xpf", base, "--numeric-owner", "--xattrs", "--xattrs-include=*"); err != nil {
				return err
			}
		}
		if err := b.add(ctx, base, "mmdebstrap --variant=minbase "+suite); err != nil {
			return err
		}
		for i, s := range steps {
			file := filepath.Join(b.tmp, fmt.Sprintf("%d.tar", i+1))
			if s.files != nil {
				if err := os.WriteFile(file, Tar(s.files...), 0o644); err != nil {
					return err
				}
				if err := b.add(ctx, file, "copy of the application"); err != nil {
					return err
				}
				continue
			}
			upper := filepath.Join(b.tmp, fmt.Sprint(i+1))
			if err := install(ctx, lower, upper, s.packages); err != nil {
				return err
			}
			if err := pack(ctx, upper, file); err != nil {
				return err
			}
			if err := b.add(ctx, file, "apt-get install "+s.packages); err != nil {
				return err
			}
			lower = upper + ":" + lower
		}
		return nil
	}
}

// mmdebstrap returns the command that installs packages into target: a tar file
// for a whole base system, or the directory of an existing one for variant custom.
func mmdebstrap(variant, packages, target string, options ...string) []string {
	cmd := []string{
		"mmdebstrap", "--verbose", "--variant=" + variant,
		// Runtimes fill /dev, and names of the machine that builds have no place in an image.
		"--skip=output/dev",
		`--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"`,
		// As Docker's slim images.
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright",
	}
	if packages != "" {
		cmd = append(cmd, "--include="+strings.ReplaceAll(packages, " ", ","))
	}
	cmd = append(cmd, options...)
	cmd = append(cmd, suite, target)
	// A machine of the same release has sources that work for it; others use Debian's own mirror.
	if release, err := os.ReadFile("/etc/os-release"); err == nil && strings.Contains(string(release), "VERSION_CODENAME="+suite) {
		for _, sources := range []string{"/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"} {
			if info, err := os.Stat(sources); err == nil && info.Size() > 0 {
				return append(cmd, sources)
			}
		}
	}
	return cmd
}

// install adds packages to the system that the directories lower make when
// stacked; what changes is left in the new directory upper.
func install(ctx context.Context, lower, upper, packages string) error {
	work, merged := upper+".work", upper+".merged"
	for _, dir := range []string{upper, work, merged} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	// The mount goes with the command, which has a mount namespace of its own.
	// Without redirect_dir and metacopy an upper directory holds whole files.
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off,metacopy=off,index=off", lower, upper, work)
	cmd := []string{"unshare", "--mount", "sh", "-euc",
		`mount -t overlay -o "$0" overlay "$1"; shift; exec "$@"`, options, merged}
	cmd = append(cmd, mmdebstrap("custom", packages, merged,
		"--mode=root", "--format=directory", "--skip=check/empty,check/signed-by",
		// update-alternatives of Java packages stumbles over the excluded directory (Debian bug 863199).
		`--setup-hook=mkdir -p "$1/usr/share/man/man1"`)...)
	if err := run(ctx, cmd...); err != nil {
		return err
	}
	// mmdebstrap left device nodes, which it refuses to find there next time.
	devices, err := filepath.Glob(filepath.Join(upper, "dev", "*"))
	for _, path := range devices {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// pack writes the upper directory of an overlay as the tar of a layer: overlay's
// whiteouts (kernel, Documentation/filesystems/overlayfs.rst) become those of
// the OCI layer specification.
func pack(ctx context.Context, upper, file string) error {
	err := filepath.WalkDir(upper, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			value := make([]byte, 1)
			if n, _ := syscall.Getxattr(path, "trusted.overlay.opaque", value); n == 1 && value[0] == 'y' {
				return os.WriteFile(filepath.Join(path, ".wh..wh..opq"), nil, 0o644)
			}
		case d.Type()&fs.ModeCharDevice != 0:
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Sys().(*syscall.Stat_t).Rdev != 0 {
				return nil
			}
			if err := os.Remove(path); err != nil {
				return err
			}
			dir, name := filepath.Split(path)
			return os.WriteFile(filepath.Join(dir, ".wh."+name), nil, 0o644)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return run(ctx, "tar", "-C", upper, "-cf", file, "--format=posix", "--sort=name", "--numeric-owner",
		"--mtime=@"+strconv.Itoa(Epoch), "--clamp-mtime", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
		"--xattrs", "--xattrs-include=security.capability", ".")
}

// run runs a command; the end of what it prints becomes part of its error.
func run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.Itoa(Epoch), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", args[0], err, out[max(0, len(out)-4096):])
	}
	return nil
}
