// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPackages(t *testing.T) {
	names := strings.Fields(`
		linux-image-6.1.0-9-cloud-amd64 linux-image-6.1.0-50-cloud-amd64 linux-image-6.1.0-50-amd64
		linux-image-6.1.0-99-cloud-amd64-unsigned linux-image-6.12.9+deb13-cloud-amd64
		linux-image-7.3.4+deb13-cloud-amd64 linux-binary-7.3.4+deb13-cloud-amd64 linux-modules-7.3.4+deb13-cloud-amd64
		linux-base-7.3.4+deb13-cloud-amd64 linux-binary-7.3.3+deb13-cloud-amd64`)
	for k, want := range map[Kernel][]string{
		"6.1":  {"linux-image-6.1.0-50-cloud-amd64"},
		"6.12": {"linux-image-6.12.9+deb13-cloud-amd64"},
		"7.3": {
			"linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64", "linux-base-7.3.4+deb13-cloud-amd64",
		},
	} {
		got, err := k.packages(context.Background(), names)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", k, d)
		}
	}
	if got, err := Kernel("6.18").packages(context.Background(), names); err == nil {
		t.Errorf("6.18: %v, want an error", got)
	}
}

// cpio(1) reads what archive writes.
func TestArchive(t *testing.T) {
	src := t.TempDir()
	for name, content := range map[string]string{"a": "", "b": "1", "c": "four"} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../elsewhere", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	a := newArchive(&b)
	if err := a.tree("/deep/er", src); err != nil {
		t.Fatal(err)
	}
	if err := a.tree("/deep/one", filepath.Join(src, "c")); err != nil {
		t.Fatal(err)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	dst := t.TempDir()
	cmd := exec.Command("cpio", "-id", "--quiet", "--no-absolute-filenames")
	cmd.Dir, cmd.Stdin = dst, &b
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v (Debian package cpio)\n%s", err, out)
	}
	got := map[string]string{}
	err := filepath.WalkDir(dst, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dst, p)
		if to, err := os.Readlink(p); err == nil {
			got[rel] = "-> " + to
			return nil
		}
		content, err := os.ReadFile(p)
		info, _ := d.Info()
		got[rel] = info.Mode().String() + " " + string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"deep/er/a": "-rw-r----- ", "deep/er/b": "-rw-r----- 1", "deep/er/c": "-rw-r----- four",
		"deep/er/link": "-> ../elsewhere", "deep/one": "-rw-r----- four",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// What a test binary printed comes out with the outcome of each test; one that
// did not end has none.
func TestResults(t *testing.T) {
	const mark = "\x16"
	root, err := results([]byte(strings.ReplaceAll(`@=== RUN   TestA
@=== RUN   TestA/x
    a_test.go:1: words
        of two lines
@--- FAIL: TestA/x (0.00s)
@=== RUN   TestA/y
@--- SKIP: TestA/y (0.00s)
@=== RUN   TestA/z
panic: oh
`, "@", mark)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range root.sub[0].sub {
		got[s.name] = s.outcome + ":" + strings.Join(s.output, "|")
	}
	want := map[string]string{"x": "fail:    a_test.go:1: words|        of two lines", "y": "skip:", "z": ":panic: oh"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestChoose(t *testing.T) {
	t.Setenv(EnvKernel, "7.3,6.1")
	got, err := choose([]Kernel{"6.12", "7.3"})
	if d := cmp.Diff([]Kernel{"7.3"}, got); d != "" || err != nil {
		t.Error(d, err)
	}
	t.Setenv(EnvKernel, "7.3")
	if got, err := choose([]Kernel{"6.1", "6.12"}); err == nil || !strings.Contains(err.Error(), "takes [6.1 6.12]") {
		t.Errorf("%v, %v for a kernel that the test does not take", got, err)
	}
	t.Setenv(EnvKernel, "5.10")
	if got, err := choose(nil); err == nil {
		t.Errorf("%v for a kernel that is none", got)
	}
}

func TestKernelCheck(t *testing.T) {
	for release, want := range map[string]bool{"6.1.0-50-cloud-amd64": true, "6.12.9+deb13-cloud-amd64": false, "6.1": false, "7.3.4": false} {
		if err := Kernel("6.1").check(release); (err == nil) != want {
			t.Errorf("%s: %v", release, err)
		}
	}
}

func TestPrograms(t *testing.T) {
	files, err := Programs("cp")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range files {
		names = append(names, filepath.Base(name))
	}
	for _, want := range []string{"cp", "libc.so.6", "ld-linux-x86-64.so.2"} {
		if !slices.Contains(names, want) {
			t.Errorf("%v lacks %s", names, want)
		}
	}
}
