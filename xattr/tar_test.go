// SPDX-License-Identifier: Apache-2.0

package xattr_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// seen is what a reader makes of an entry.
type seen struct {
	Name, Link string
	Type       byte
	Size       int64
	Sum        string // of the content of a regular file
}

// collector is a Handler that keeps entries and content digests.
type collector struct {
	entries []*xattr.Entry
	seen    []seen
	sum     interface {
		io.Writer
		Sum([]byte) []byte
		Reset()
	}
}

func (c *collector) Entry(e *xattr.Entry) error {
	c.entries = append(c.entries, e)
	c.seen = append(c.seen, seen{Name: e.Name, Link: e.Linkname, Type: e.Type, Size: e.Size})
	c.sum.Reset()
	return nil
}

func (c *collector) Content(p []byte) error { c.sum.Write(p); return nil }

func (c *collector) End() error {
	if s := &c.seen[len(c.seen)-1]; s.Type == '0' {
		s.Sum = fmt.Sprintf("%x", c.sum.Sum(nil))
	}
	return nil
}

// scan reads an archive in pieces of n bytes.
func scan(archive []byte, n int) (*collector, error) {
	c := &collector{sum: sha256.New()}
	s := xattr.NewScanner(c)
	for rest := archive; len(rest) > 0; rest = rest[min(n, len(rest)):] {
		if _, err := s.Write(rest[:min(n, len(rest))]); err != nil {
			return c, err
		}
	}
	return c, s.Close()
}

// edited applies to each entry the edit that f makes.
func edited(archive []byte, f func(*xattr.Entry) (xattr.Edit, bool, error)) ([]byte, error) {
	c, err := scan(archive, len(archive)+1)
	if err != nil {
		return nil, err
	}
	var out []byte
	at := int64(0)
	for _, e := range c.entries {
		edit, ok, err := f(e)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", e.Name, err)
		}
		if ok {
			out = append(append(out, archive[at:edit.Off]...), edit.New...)
			at = edit.Off + edit.Len
		}
	}
	return append(out, archive[at:]...), nil
}

func set(archive []byte, attrs map[string][]byte) ([]byte, error) {
	return edited(archive, func(e *xattr.Entry) (xattr.Edit, bool, error) { return e.Set(attrs) })
}

func strip(archive []byte) ([]byte, error) {
	return edited(archive, func(e *xattr.Entry) (xattr.Edit, bool, error) {
		return e.StripEdit(xattr.IMA, xattr.EVM, xattr.Bless)
	})
}

// attrs are values with every byte that could upset a record.
var attrs = map[string][]byte{
	xattr.IMA:   append([]byte("\x03\x02\x04abcd\x00\x48=\n\x00"), bytes.Repeat([]byte{0, '\n', '=', 0xff}, 18)...),
	xattr.Bless: bytes.Repeat([]byte("\x30\x00\n 12 x=y\n"), 18),
}

// archives are those of testimage that are good, and Go's own.
func archives(t testing.TB) map[string][]byte {
	all := map[string][]byte{}
	for _, c := range testimage.Cases() {
		if c.Refused || c.Name == "large-file" {
			continue
		}
		for h, blob := range c.Make().Blobs {
			if z, err := gunzip(blob); err == nil {
				all[c.Name+"-"+h.Hex[:8]] = z
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(runtime.GOROOT(), "src/archive/tar/testdata/*.tar"))
	if err != nil || len(files) < 30 {
		t.Fatalf("Go's test archives: %d, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all["go-"+filepath.Base(f)] = b
	}
	return all
}

func TestSetThenStripGivesTheArchiveBack(t *testing.T) {
	accepted := 0
	for name, archive := range archives(t) {
		t.Run(name, func(t *testing.T) {
			with, err := set(archive, attrs)
			if err != nil {
				if !strings.HasPrefix(name, "go-") {
					t.Fatal(err)
				}
				t.Skipf("refused: %v", err)
			}
			accepted++
			again, err := set(with, attrs)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, with) {
				t.Error("setting the same attributes again changed the archive")
			}
			other, err := set(with, map[string][]byte{xattr.EVM: []byte("x")})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range [][]byte{with, other} {
				back, err := strip(a)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(back, archive) && !bytes.Contains(archive, []byte("security.")) {
					t.Error("stripped, the archive differs from the source")
				}
			}
			before, err := scan(archive, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			after, err := scan(with, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before.seen, after.seen); d != "" {
				t.Errorf("entries changed (-before +after):\n%s", d)
			}
			for _, e := range after.entries {
				for name, value := range attrs {
					if !bytes.Equal(e.Xattrs[name], value) {
						t.Errorf("%q: %s = %q", e.Name, name, e.Xattrs[name])
					}
				}
			}
		})
	}
	if accepted < 40 {
		t.Errorf("only %d archives were accepted", accepted)
	}
}

func TestPiecesOfAnySizeGiveTheSame(t *testing.T) {
	for name, archive := range archives(t) {
		want, wantErr := scan(archive, len(archive)+1)
		for _, n := range []int{1, 511, 512, 513, 4099} {
			if n < 500 && len(archive) > 100_000 {
				continue
			}
			got, err := scan(archive, n)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("%s in pieces of %d: %v, whole %v", name, n, err, wantErr)
			}
			if d := cmp.Diff(want.seen, got.seen); d != "" {
				t.Errorf("%s in pieces of %d:\n%s", name, n, d)
			}
		}
	}
}

// goEntries is what archive/tar makes of an archive.
func goEntries(archive []byte) ([]seen, error) {
	var all []seen
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		s := seen{Name: h.Name, Link: h.Linkname, Type: h.Typeflag, Size: h.Size}
		switch s.Type {
		case 0, '7', 'S':
			s.Type = '0'
		}
		if s.Type == '0' {
			sum := sha256.New()
			if _, err := io.Copy(sum, r); err != nil {
				return all, err
			}
			s.Sum = fmt.Sprintf("%x", sum.Sum(nil))
		}
		all = append(all, s)
	}
}

func TestScannerReadsWhatArchiveTarReads(t *testing.T) {
	for name, archive := range archives(t) {
		got, err := scan(archive, len(archive)+1)
		if err != nil {
			continue // it refuses more
		}
		want, err := goEntries(archive)
		if err != nil {
			t.Errorf("%s: archive/tar: %v", name, err)
		}
		if d := cmp.Diff(want, got.seen); d != "" {
			t.Errorf("%s (-archive/tar +scanner):\n%s", name, d)
		}
	}
}

// names lists an archive with a tool that we did not write.
func names(t *testing.T, file string, command ...string) []string {
	t.Helper()
	out, err := exec.Command(command[0], append(command[1:], file)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command[0], err, out)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

const pyList = `
import sys, tarfile, hashlib
for m in tarfile.open(sys.argv[1]):
    h = hashlib.sha256(tarfile.open(sys.argv[1]).extractfile(m).read()).hexdigest() if m.isreg() else ''
    x = m.pax_headers.get('SCHILY.xattr.security.ima')
    print(repr(m.name), m.size, h, bool(x))
`

func TestFourReadersSeeTheSameEntriesAsBefore(t *testing.T) {
	body := bytes.Repeat([]byte("content\n"), 200)
	long := strings.Repeat("directory/", 15) + "file"
	var entries []testimage.Entry
	for _, f := range []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU} {
		e := testimage.File("plain-"+f.String(), 0o755, body)
		e.Format = f
		entries = append(entries, e)
		if f != tar.FormatUSTAR {
			e = testimage.File(long+f.String(), 0o644, body)
			e.Format = f
			entries = append(entries, e)
		}
	}
	entries = append(entries, testimage.Dir("d/"), testimage.Link("hard", "plain-USTAR"), testimage.Symlink("soft", "plain-USTAR"),
		testimage.File("noted", 0o644, body).With("SCHILY.xattr.user.note", "x"),
		testimage.SparseGNU("sparse-gnu", 1<<20, testimage.Span{Off: 4096, Data: body}),
		testimage.SparsePAX("sparse-pax", 1<<20, testimage.Span{Off: 4096, Data: body}))
	source := testimage.Tar(entries...)
	with, err := set(source, attrs)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"before.tar": source, "after.tar": with} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before, after := filepath.Join(dir, "before.tar"), filepath.Join(dir, "after.tar")
	for _, command := range [][]string{
		{"tar", "--list", "--verbose", "--numeric-owner", "--full-time", "--file"},
		{"bsdtar", "--list", "--verbose", "--numeric-owner", "--file"},
	} {
		if d := cmp.Diff(names(t, before, command...), names(t, after, command...)); d != "" {
			t.Errorf("%s (-before +after):\n%s", command[0], d)
		}
	}
	py := filepath.Join(dir, "list.py")
	if err := os.WriteFile(py, []byte(pyList), 0o644); err != nil {
		t.Fatal(err)
	}
	was, is := names(t, before, "python3", py), names(t, after, "python3", py)
	for i := range was {
		was[i] = strings.TrimSuffix(was[i], "False") + "True"
	}
	if d := cmp.Diff(was, is); d != "" {
		t.Errorf("tarfile (-before +after):\n%s", d)
	}
	wantGo, err := goEntries(source)
	if err != nil {
		t.Fatal(err)
	}
	gotGo, err := goEntries(with)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(wantGo, gotGo); d != "" {
		t.Errorf("archive/tar (-before +after):\n%s", d)
	}
}

func TestHostileArchivesAreRefused(t *testing.T) {
	file := func(records ...string) []byte {
		return append(testimage.Records(records...), testimage.Header("a", '0', 0)...)
	}
	end := make([]byte, 1024)
	for name, archive := range map[string][]byte{
		"an empty path":                           append(file("path="), end...),
		"a path with a NUL":                       append(file("path=a\x00b"), end...),
		"a size that is no number":                append(file("size=0x10"), end...),
		"a size below zero":                       append(file("size=-1"), end...),
		"two PAX headers":                         append(append(testimage.Records("comment=a"), file("comment=b")...), end...),
		"a global header between x and entry":     append(append(testimage.Records("comment=a"), testimage.Header("g", 'g', 0)...), end...),
		"attributes that contradict each other":   append(file("SCHILY.xattr.user.a=x", "LIBARCHIVE.xattr.user.a=eQ"), end...),
		"a directory with content":                append(testimage.Header("a/", '5', 512), make([]byte, 1536)...),
		"a hard link with content":                append(testimage.Header("a", '1', 512), make([]byte, 1536)...),
		"an unknown type":                         append(testimage.Header("a", 'V', 0), end...),
		"an end in the middle of a header":        testimage.Header("a", '0', 0)[:300],
		"an end in the middle of the content":     append(testimage.Header("a", '0', 1000), make([]byte, 512)...),
		"an end behind a PAX header":              testimage.Records("path=a"),
		"a lone zero block before another header": append(make([]byte, 512), testimage.Header("a", '0', 0)...),
		"a character set that is unknown":         append(file("hdrcharset=KOI8-R"), end...),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := scan(archive, len(archive)+1)
			if err == nil {
				t.Errorf("accepted: %+v", c.seen)
			}
		})
	}
}

func FuzzScanner(f *testing.F) {
	for _, archive := range archives(f) {
		if len(archive) < 20_000 {
			f.Add(archive)
		}
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		got, err := scan(archive, 700)
		if err != nil {
			return
		}
		for _, s := range got.seen {
			if s.Size > 1<<24 {
				return // of holes: archive/tar would take long
			}
		}
		want, err := goEntries(archive)
		if err != nil {
			if strings.Contains(err.Error(), "invalid tar header") || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Skip() // archive/tar parses fields that we do not
			}
			t.Fatalf("accepted, archive/tar says %v", err)
		}
		if d := cmp.Diff(want, got.seen); d != "" {
			t.Errorf("(-archive/tar +scanner):\n%s", d)
		}
		with, err := set(archive, attrs)
		if err != nil {
			return // not to be undone
		}
		back, err := strip(with)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := strip(archive); err == nil && !bytes.Equal(back, plain) {
			t.Error("stripped, the archive differs from the source")
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	var entries []testimage.Entry
	body := make([]byte, 20_000)
	for i := range 2000 {
		entries = append(entries, testimage.File(fmt.Sprintf("d%d/f%d", i%50, i), 0o644, body))
	}
	archive := testimage.Tar(entries...)
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		s := xattr.NewScanner(discard{})
		for rest := archive; len(rest) > 0; rest = rest[min(256<<10, len(rest)):] {
			if _, err := s.Write(rest[:min(256<<10, len(rest))]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

type discard struct{}

func (discard) Entry(*xattr.Entry) error { return nil }
func (discard) Content([]byte) error     { return nil }
func (discard) End() error               { return nil }
