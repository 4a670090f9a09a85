// SPDX-License-Identifier: Apache-2.0

package filelist_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
)

var packages = []filelist.Package{{Type: "deb", Name: "openssl", Version: "3.0.15-1"}, {Type: "pypi", Name: "pip", Version: ""}}

func files() []filelist.File {
	return []filelist.File{
		{Path: "usr/bin/openssl", SHA256: sha256.Sum256([]byte("a")), Mode: 0o755, Flags: filelist.Code, Package: 0},
		{Path: "\xff\nodd", SHA256: sha256.Sum256([]byte("b")), Mode: 0o4711, UID: 1<<32 - 1, GID: 65534, Package: -1},
		{Path: "usr.x", SHA256: sha256.Sum256([]byte("c")), Mode: 0o644, Flags: filelist.HardLink, Package: 1},
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	in := files()
	raw, err := filelist.Encode(in, packages)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(files(), in); d != "" {
		t.Errorf("Encode changed its argument:\n%s", d)
	}
	l, err := filelist.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := []filelist.File{in[2], in[0], in[1]}
	var got []filelist.File
	for i := range l.Len() {
		got = append(got, l.File(i))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	if d := cmp.Diff(packages, l.Packages()); d != "" {
		t.Errorf("packages (-want +got):\n%s", d)
	}
	for _, f := range in {
		if g, ok := l.Find(f.Path); !ok || g != f {
			t.Errorf("%q: found %v, %v", f.Path, g, ok)
		}
	}
	for _, p := range []string{"", "usr", "zzz", "usr/bin/openss"} {
		if _, ok := l.Find(p); ok {
			t.Errorf("%q found", p)
		}
	}
	again, _ := filelist.Encode(want, packages)
	if !bytes.Equal(raw, again) {
		t.Error("the order of the argument changes the bytes")
	}
	if s := l.Packages()[0].String(); s != "deb openssl 3.0.15-1" {
		t.Errorf("package is written %q", s)
	}
}

// TestBytes holds the layout that docs/attestation.md documents, with the zstd program as decoder.
func TestBytes(t *testing.T) {
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Fatal("zstd is missing: apt-get install zstd")
	}
	raw, err := filelist.Encode([]filelist.File{{Path: "b", Mode: 0o644, UID: 1, GID: 2, Flags: 3, Package: 0, SHA256: [32]byte{0: 0xaa, 31: 0xbb}}}, packages[:1])
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "list.zst")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command("zstd", "-dc", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "sbom-bless files" + "\x01\x00\x00\x00" + "\x01\x00\x00\x00" + "\x01\x00\x00\x00" + "\x13\x00\x00\x00" +
		"\xaa" + strings.Repeat("\x00", 30) + "\xbb" + "\x00\x00\x00\x00" + "\x01\x00" + "\xa4\x01" + "\x01\x00\x00\x00" + "\x02\x00\x00\x00" + "\x03\x00" + "\x00\x00" + "\x01\x00\x00\x00" +
		"\x01\x00\x00\x00\x03\x00\x00\x00" + "\x04\x00\x00\x00\x07\x00\x00\x00" + "\x0b\x00\x00\x00\x08\x00\x00\x00" +
		"bdebopenssl3.0.15-1"
	if d := cmp.Diff([]byte(want), got); d != "" {
		t.Errorf("bytes (-want +got):\n%s", d)
	}
}

func TestRefuses(t *testing.T) {
	for name, files := range map[string][]filelist.File{
		"twice":   {{Path: "a", Package: -1}, {Path: "a", Package: -1}},
		"empty":   {{Package: -1}},
		"package": {{Path: "a", Package: 2}},
	} {
		if _, err := filelist.Encode(files, packages); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	raw, err := filelist.Encode(files(), packages)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		if _, err := filelist.Decode(raw[:i]); err == nil {
			t.Errorf("%d of %d bytes were enough", i, len(raw))
		}
	}
}

func many(n int) []filelist.File {
	files := make([]filelist.File, n)
	for i := range files {
		files[i] = filelist.File{Path: fmt.Sprintf("usr/lib/python3/dist-packages/module%d/file%d.py", i/50, i), SHA256: sha256.Sum256(fmt.Append(nil, i)), Mode: 0o644, Package: i % 2}
	}
	return files
}

func BenchmarkDecode100000(b *testing.B) {
	raw, err := filelist.Encode(many(100_000), packages)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := filelist.Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(raw)), "bytes")
}

func FuzzDecode(f *testing.F) {
	for _, files := range [][]filelist.File{nil, files(), many(100)} {
		raw, err := filelist.Encode(files, packages)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := filelist.Decode(raw)
		if err != nil {
			return
		}
		var files []filelist.File
		for i := range l.Len() {
			file := l.File(i)
			if got, ok := l.Find(file.Path); !ok || got != file {
				t.Errorf("%q is not found", file.Path)
			}
			files = append(files, file)
		}
		if _, err := filelist.Encode(files, l.Packages()); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
