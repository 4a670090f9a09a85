// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// build has the go command make a program for an architecture.
func build(t *testing.T, architecture, dir, pkg string, flags ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), architecture)
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", program, pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// standIn is a small program in the place of ours.
func standIn(t *testing.T, architecture string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module standin\n", "main.go": "package main\n\nfunc main() { println(\"here\") }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return build(t, architecture, dir, ".", "-trimpath", "-ldflags=-buildid=")
}

// The image has both platforms, and the program alone. Making it again, in another order and from
// programs of another path and time, gives the same digest.
func TestReproducible(t *testing.T) {
	amd64, arm64 := standIn(t, "amd64"), standIn(t, "arm64")
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	digest, err := write(one, "1.2", []string{amd64, arm64})
	if err != nil {
		t.Fatal(err)
	}
	again, err := write(two, "1.2", []string{standIn(t, "arm64"), standIn(t, "amd64")})
	if err != nil {
		t.Fatal(err)
	}
	if digest != again {
		t.Errorf("%s, and then %s", digest, again)
	}

	index, err := layout.ImageIndexFromPath(one)
	if err != nil {
		t.Fatal(err)
	}
	if index, err = index.ImageIndex(digest); err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != m.Platform.Architecture || !slices.Equal(config.Config.Entrypoint, []string{"/usr/bin/sbom-bless"}) {
			t.Errorf("%s: %+v", m.Platform, config)
		}
		program := amd64
		if m.Platform.Architecture == "arm64" {
			program = arm64
		}
		holdsAlone(t, image, program)
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("platforms %v", platforms)
	}
}

// holdsAlone fails the test unless the program is the one file of the image.
func holdsAlone(t *testing.T, image v1.Image, program string) {
	t.Helper()
	want, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var names []string
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Mode != 0o755 || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%+v", h)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != string(want) {
			t.Errorf("%s is not the program: %v", h.Name, err)
		}
	}
	if !slices.Equal(names, []string{"usr/", "usr/bin/", "usr/bin/sbom-bless"}) {
		t.Errorf("files %v", names)
	}
}

func TestRefused(t *testing.T) {
	amd64 := standIn(t, "amd64")
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	content, err := os.ReadFile(amd64)
	if err != nil {
		t.Fatal(err)
	}
	content[18] = byte(elf.EM_S390) // e_machine
	if err := os.WriteFile(other, content, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		programs []string
		want     string
	}{
		"two for one platform": {[]string{amd64, amd64}, "a second program for linux/amd64"},
		"no program":           {[]string{script}, "no ELF program"},
		"not static":           {[]string{"/bin/sh"}, "hint: build it with CGO_ENABLED=0"},
		"another machine's":    {[]string{other}, "EM_S390"},
	} {
		dir := filepath.Join(t.TempDir(), "layout")
		if _, err := write(dir, "1", c.programs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a layout is left", name)
		}
	}
	if _, err := write(t.TempDir(), "1", []string{amd64}); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("over a directory: %v", err)
	}
}

// The real image, of this very tool, is blessed and attested by it, and verifies. arm64 is the stand-in:
// TestReproducible shows that its image is made alike.
func TestBlessed(t *testing.T) {
	if testing.Short() {
		t.Skip("builds sbom-bless")
	}
	ours := build(t, "amd64", "../..", ".") // as other tests build it: compiled once
	dir := t.TempDir()
	if _, err := write(filepath.Join(dir, "node"), "1", []string{ours, standIn(t, "arm64")}); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(ours, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "SBOM_BLESS_PASSWORD=", "HOME="+dir, "XDG_CACHE_HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("keygen", "--out", "bless")
	run("bless", "oci:node", "-t", "oci:blessed", "--key", "bless.key")
	said := run("verify", "oci:blessed", "--key", "bless.crt")
	for _, want := range []string{"verified linux/amd64: 1 file", "verified linux/arm64: 1 file", "the attestations say the same"} {
		if !strings.Contains(said, want) {
			t.Errorf("verify does not say %q:\n%s", want, said)
		}
	}
	if sbom := run("sbom", "oci:blessed", "--platform", "linux/amd64"); !strings.Contains(sbom, "github.com/cilium/ebpf") {
		t.Error("the SBOM lacks the modules that the program is made of")
	}
}
