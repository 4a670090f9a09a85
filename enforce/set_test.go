// SPDX-License-Identifier: Apache-2.0

package enforce_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/enforce"
)

// The list is what sha256sum prints, in text and in binary mode.
func TestParseSetOfSha256sum(t *testing.T) {
	dir := t.TempDir()
	var want []enforce.File
	for _, name := range []string{"a", "name with  spaces", "line\nfeed", `back\slash`} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		want = append(want, enforce.File{Path: path, SHA256: sha256.Sum256([]byte(name))})
	}
	for _, mode := range []string{"--text", "--binary"} {
		out, err := exec.Command("sha256sum", mode, want[0].Path, want[1].Path, want[2].Path, want[3].Path).Output()
		if err != nil {
			t.Fatalf("sha256sum: %v (Debian package coreutils)", err)
		}
		set, err := enforce.ParseSet("x", bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(enforce.Set{Name: "x", Files: want}, set); diff != "" {
			t.Errorf("%s: %s", mode, diff)
		}
	}
}

// What is written is read back, whatever names the image's author chose.
func TestSetWithOddNames(t *testing.T) {
	set := enforce.Set{Name: "x"}
	for _, path := range []string{"/a\nb", "/tab\tdeb evil 1", `/back\slash\n`, "/\r", "/\xff", "/ "} {
		set.Files = append(set.Files, enforce.File{Path: path, SHA256: sha256.Sum256([]byte(path)), Package: "deb good 1"})
	}
	var b bytes.Buffer
	if err := set.Write(&b); err != nil {
		t.Fatal(err)
	}
	read, err := enforce.ParseSet("x", &b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(set, read); diff != "" {
		t.Error(diff)
	}
}

// Sizes and the images that were joined are read back; a list of which one line lacks a size
// has none.
func TestSetWithSizes(t *testing.T) {
	file := func(path, pkg string, size uint64) enforce.File {
		return enforce.File{Path: path, SHA256: sha256.Sum256([]byte(path)), Package: pkg, Size: size}
	}
	own := enforce.Set{Name: "app", Files: []enforce.File{file("/a", "deb a 1", 1<<40), file("/\t", "", 0)}, Sizes: true}
	set := own.Join(
		enforce.Set{Name: "tool\n@1", Files: []enforce.File{file("/t", "deb t 1", 7)}, Sizes: true},
		enforce.Set{Name: "other", Files: []enforce.File{file("/o", "", 8)}, Sizes: true})
	var b bytes.Buffer
	if err := set.Write(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	read, err := enforce.ParseSet("app", &b)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "", "tool?@1", "other"}
	for i := range read.Files {
		if got := read.Files[i]; got.Image != want[i] {
			t.Errorf("%s is of %q, want %q", got.Path, got.Image, want[i])
		}
		read.Files[i].Image = set.Files[i].Image
	}
	read.Digest = set.Digest
	if diff := cmp.Diff(set, read); diff != "" {
		t.Error(diff)
	}
	if read, err = enforce.ParseSet("x", strings.NewReader(strings.Replace(text, "\t8", "", 1))); err != nil || read.Sizes || read.Files[0].Size != 0 {
		t.Errorf("sizes %t, %v", read.Sizes, err)
	}
	if read, err = enforce.ParseSet("x", strings.NewReader("")); err != nil || read.Sizes {
		t.Errorf("of no file: sizes %t, %v", read.Sizes, err)
	}
}

// What is joined changes the digest, in whatever order; without it the set is as it was.
func TestJoinChangesTheDigest(t *testing.T) {
	set := func(digest string, sizes bool) enforce.Set {
		return enforce.Set{Name: digest, Digest: digest, Sizes: sizes, Files: []enforce.File{{Path: "/" + digest}}}
	}
	own := set("own", true)
	if diff := cmp.Diff(own, own.Join()); diff != "" {
		t.Error(diff)
	}
	ab, ba, a := own.Join(set("a", true), set("b", false)), own.Join(set("b", false), set("a", true)), own.Join(set("a", true))
	seen := map[string]bool{own.Digest: true}
	for _, s := range []enforce.Set{ab, ba, a} {
		if seen[s.Digest] || s.Name != "own" {
			t.Errorf("%s: digest %s", s.Name, s.Digest)
		}
		seen[s.Digest] = true
	}
	if ab.Sizes || !a.Sizes || len(ab.Files) != 3 || len(own.Files) != 1 {
		t.Errorf("%+v, %+v, %+v", ab, a, own)
	}
}

func TestParseSetRefuses(t *testing.T) {
	sum := strings.Repeat("0", 64)
	for name, text := range map[string]string{
		"no path":                sum,
		"an empty path":          sum + "  ",
		"no path but a package":  sum + "  \tdeb x 1",
		"one space":              sum + " /x",
		"a digest too short":     sum[2:] + "  /x",
		"a digest too long":      sum + "00  /x",
		"no hexadecimal":         strings.Repeat("g", 64) + "  /x",
		"another digest's lines": "SHA256 (/x) = " + sum,
		"a size that is none":    sum + "  /x\tdeb x 1\tbig",
		"a negative size":        sum + "  /x\t\t-1",
	} {
		if set, err := enforce.ParseSet("x", strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", name, set)
		}
	}
}

func FuzzParseSet(f *testing.F) {
	sum := strings.Repeat("0", 64)
	f.Add(sum + "  /bin/sh\n")
	f.Add(sum + " */bin/sh\tdeb dash 0.5\n\n")
	f.Add("# of two images\n" + sum + "  /bin/sh\tdeb dash 0.5\t17\n# image tool\n" + sum + "  /bin/tool\t\t0\n")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := enforce.ParseSet("x", strings.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := set.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := enforce.ParseSet("x", &b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(set, again); diff != "" {
			t.Error(diff)
		}
	})
}
