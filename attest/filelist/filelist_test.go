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
	"github.com/klauspost/compress/zstd"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
)

var packages = []filelist.Package{{Type: "deb", Name: "openssl", Version: "3.0.15-1"}, {Type: "pypi", Name: "pip", Version: ""}}

func files() []filelist.File {
	return []filelist.File{
		{Path: "usr/bin/openssl", SHA256: sha256.Sum256([]byte("a")), Mode: 0o755, Flags: filelist.Code, Package: 0, Size: 1 << 40},
		{Path: "\xff\nodd", SHA256: sha256.Sum256([]byte("b")), Mode: 0o4711, UID: 1<<32 - 1, GID: 65534, Package: -1, Size: 7},
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
	raw, err := filelist.Encode([]filelist.File{{Path: "b", Mode: 0o644, UID: 1, GID: 2, Flags: 3, Package: 0, Size: 0x102030405060708, SHA256: [32]byte{0: 0xaa, 31: 0xbb}}}, packages[:1])
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
	want := "sbom-bless files" + "\x02\x00\x00\x00" + "\x01\x00\x00\x00" + "\x01\x00\x00\x00" + "\x13\x00\x00\x00" +
		"\xaa" + strings.Repeat("\x00", 30) + "\xbb" + "\x00\x00\x00\x00" + "\x01\x00" + "\xa4\x01" + "\x01\x00\x00\x00" + "\x02\x00\x00\x00" + "\x03\x00" + "\x00\x00" + "\x01\x00\x00\x00" + "\x08\x07\x06\x05\x04\x03\x02\x01" +
		"\x01\x00\x00\x00\x03\x00\x00\x00" + "\x04\x00\x00\x00\x07\x00\x00\x00" + "\x0b\x00\x00\x00\x08\x00\x00\x00" +
		"bdebopenssl3.0.15-1"
	if d := cmp.Diff([]byte(want), got); d != "" {
		t.Errorf("bytes (-want +got):\n%s", d)
	}
}

func TestRefuses(t *testing.T) {
	for want, files := range map[string][]filelist.File{
		"a: listed twice":   {{Path: "a", Package: -1}, {Path: "a", Package: -1}},
		"empty path":        {{Package: -1}},
		"a: package 2 of 2": {{Path: "a", Package: 2}},
		"a: size -1":        {{Path: "a", Package: -1, Size: -1}},
	} {
		if _, err := filelist.Encode(files, packages); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("encoded: error %v, want %q", err, want)
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
	for want, edit := range map[string]func(plain []byte){
		"version 3, this program reads versions 1 and 2": func(b []byte) { b[16] = 3 },
		"usr.x: size out of range":                       func(b []byte) { b[32+63] = 0x80 },
		"size does not match the header":                 func(b []byte) { b[16] = 1 }, // records of version 2 as those of version 1
	} {
		plain := unpack(t, raw)
		edit(plain)
		if _, err := filelist.Decode(pack(plain)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("decoded: error %v, want %q", err, want)
		}
	}
}

// version1 is a list as earlier releases wrote it: "a" and "b" of no package, without sizes.
func version1() []byte {
	b := append([]byte("sbom-bless files"), "\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00"...)
	for i := range byte(2) {
		b = append(b, strings.Repeat(string(rune('1'+i)), 32)...)
		b = append(b, i, 0, 0, 0, 1, 0, 0xa4, 0x01) // path, mode 0644
		b = append(b, make([]byte, 16)...)          // owner, flags, package
	}
	return pack(append(b, "ab"...))
}

// Images that were blessed before the list had sizes can still be verified.
func TestVersion1(t *testing.T) {
	l, err := filelist.Decode(version1())
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{"a", "b"} {
		want := filelist.File{Path: path, Mode: 0o644, Package: -1, Size: -1, SHA256: [32]byte(bytes.Repeat([]byte{byte('1' + i)}, 32))}
		if got, ok := l.Find(path); !ok || got != want || l.File(i) != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func pack(plain []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(plain, nil)
}

func unpack(t *testing.T, compressed []byte) []byte {
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	plain, err := r.DecodeAll(compressed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain
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
	f.Add(version1())
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := filelist.Decode(raw)
		if err != nil {
			return
		}
		var files []filelist.File
		sizes := true
		for i := range l.Len() {
			file := l.File(i)
			if got, ok := l.Find(file.Path); !ok || got != file {
				t.Errorf("%q is not found", file.Path)
			}
			files = append(files, file)
			sizes = sizes && file.Size >= 0
		}
		if _, err := filelist.Encode(files, l.Packages()); (err == nil) != sizes {
			t.Errorf("what was read, with sizes: %t, is written: %v", sizes, err)
		}
	})
}
