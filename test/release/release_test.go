// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package release makes a release of the commit at hand, without the signature, and installs its
// packages.
package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/gotool"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

// TestRelease makes a release twice, in different folders. It is for this machine alone, because all
// six systems take an hour; that we build for the others is `make cross`.
func TestRelease(t *testing.T) {
	vm.OnlyInAll(t) // goreleaser is to be built
	goreleaser, err := gotool.Path(context.Background(), gotool.Goreleaser)
	if err != nil {
		t.Fatal(err)
	}
	first, second := snapshot(t, goreleaser), snapshot(t, goreleaser)
	want, got := sums(t, first), sums(t, second)
	if !maps.Equal(want, got) {
		t.Errorf("two builds of one commit differ:\n%v\n%v", want, got)
	}
	for _, pattern := range []string{`_linux_amd64\.tar\.gz$`, `_amd64\.deb$`, `\.x86_64\.rpm$`, `_x86_64\.apk$`} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(want)), regexp.MustCompile(pattern).MatchString) {
			t.Errorf("no artifact %s in %v", pattern, want)
		}
	}
	t.Run("deb", func(t *testing.T) { installDeb(t, one(t, first, "*_amd64.deb")) })
	t.Run("rpm", func(t *testing.T) {
		list := run(t, "", "rpm", "-qlp", one(t, first, "*.x86_64.rpm"))
		for _, name := range packaged {
			if !strings.Contains(list, name+"\n") {
				t.Errorf("%s is not in it:\n%s", name, list)
			}
		}
		if scripts := run(t, "", "rpm", "-qp", "--scripts", one(t, first, "*.x86_64.rpm")); !strings.Contains(scripts, "enforce unload") {
			t.Errorf("scripts:\n%s", scripts)
		}
	})
}

// packaged are the files of a package.
var packaged = []string{
	"/usr/bin/sbom-bless",
	"/usr/lib/systemd/system/sbom-bless.service",
	"/usr/share/doc/sbom-bless/examples/oci-hook.json",
	"/usr/share/doc/sbom-bless/copyright",
	"/usr/share/man/man1/sbom-bless.1.gz",
	"/usr/share/bash-completion/completions/sbom-bless",
}

// snapshot makes a release in a clone of its own, and gives the folder of what came out.
func snapshot(t *testing.T, goreleaser string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clone")
	run(t, "", "git", "clone", "--quiet", "../..", dir)
	config, err := os.ReadFile(filepath.Join(dir, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	one := bytes.Replace(config, []byte("goos: [linux, darwin, windows]"), []byte("goos: [linux]"), 1)
	one = bytes.Replace(one, []byte("goarch: [amd64, arm64]"), []byte("goarch: [amd64]"), 1)
	if len(one) >= len(config)-20 {
		t.Fatal(".goreleaser.yaml names other systems")
	}
	file := filepath.Join(filepath.Dir(dir), "config.yaml")
	if err := os.WriteFile(file, one, 0o644); err != nil {
		t.Fatal(err)
	}
	// What signs and makes SBOMs is the workflow's; the rest is the same.
	run(t, dir, goreleaser, "release", "--config", file, "--snapshot", "--skip=sign,sbom,publish")
	return filepath.Join(dir, "dist")
}

// sums are those of the artifacts.
func sums(t *testing.T, dist string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dist, "checksums.txt"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(b)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		content, err := os.ReadFile(filepath.Join(dist, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(content)); got != sum {
			t.Errorf("%s is %s, checksums.txt has %s", name, got, sum)
		}
		all[name] = sum
	}
	return all
}

// installDeb installs the package in a Debian of its own, and removes it.
func installDeb(t *testing.T, deb string) {
	root := filepath.Join(t.TempDir(), "root")
	run(t, "", "mmdebstrap", "--quiet", "--variant=essential", "stable", root)
	run(t, "", "cp", deb, root+"/package.deb")
	in := func(args ...string) string { return run(t, "", append([]string{"chroot", root}, args...)...) }
	in("dpkg", "--install", "/package.deb")
	for _, name := range packaged {
		if _, err := os.Stat(root + name); err != nil && !strings.HasPrefix(name, "/usr/share/") { // dpkg may leave out manuals
			t.Error(err)
		}
	}
	if out := in("dpkg", "--verify", "sbom-bless"); out != "" {
		t.Errorf("dpkg --verify: %s", out)
	}
	if out := in("sbom-bless", "version"); !strings.Contains(out, "sbom-bless") {
		t.Errorf("version: %q", out)
	}
	in("dpkg", "--install", "/package.deb") // an upgrade keeps it
	in("dpkg", "--remove", "sbom-bless")
	if _, err := os.Stat(root + "/usr/bin/sbom-bless"); !os.IsNotExist(err) {
		t.Errorf("after the removal: %v", err)
	}
	if err := os.MkdirAll(root+"/var/lib/sbom-bless/store", 0o700); err != nil {
		t.Fatal(err)
	}
	in("dpkg", "--purge", "sbom-bless")
	if _, err := os.Stat(root + "/var/lib/sbom-bless"); !os.IsNotExist(err) {
		t.Errorf("after the purge: %v", err)
	}
}

func one(t *testing.T, dist, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dist, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v %v", pattern, found, err)
	}
	return found[0]
}

func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}
