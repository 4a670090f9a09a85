// SPDX-License-Identifier: Apache-2.0

package xattr_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/xattr"
)

func TestStripUndoesSet(t *testing.T) {
	accepted := 0
	for name, source := range corpus(t) {
		if _, err := scan(source, 0, nil); err != nil {
			continue
		}
		accepted++
		t.Run(name, func(t *testing.T) { checkEdits(t, source) })
	}
	if accepted < 60 {
		t.Errorf("only %d archives of the corpus were accepted", accepted)
	}
}

// checkEdits holds Set and StripEdit to what they promise.
func checkEdits(t *testing.T, source []byte) {
	bare, err := strip(t, source)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(source, []byte("security.")) && !bytes.Equal(bare, source) {
		t.Error("an archive without attributes of ours changes when they are stripped")
	}
	attrs := attributes()
	blessed, err := set(t, source, attrs)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := set(t, blessed, attrs); err != nil || !bytes.Equal(again, blessed) {
		t.Errorf("the same attributes once more change the archive: %v", err)
	}
	back, err := strip(t, blessed)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back, bare) {
		t.Error("stripped, the archive differs from the source")
	}
	other := map[string][]byte{xattr.EVM: []byte("e"), xattr.IMA: {}}
	direct, err := set(t, bare, other)
	if err != nil {
		t.Fatal(err)
	}
	if over, err := set(t, blessed, other); err != nil || !bytes.Equal(over, direct) {
		t.Errorf("attributes set over others differ from the same set on the bare archive: %v", err)
	}

	before, err := scan(source, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := scan(blessed, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range after.entries {
		was := before.entries[i]
		if before.files[i] != after.files[i] {
			t.Errorf("%+v became %+v", before.files[i], after.files[i])
		}
		if e.Type != '0' {
			continue
		}
		for name, value := range was.Xattrs {
			if !strings.HasPrefix(name, "security.") && !bytes.Equal(e.Xattrs[name], value) {
				t.Errorf("%s: %s changed from %q to %q", e.Name, name, value, e.Xattrs[name])
			}
		}
		if !bytes.Equal(e.Xattrs[xattr.IMA], attrs[xattr.IMA]) || !bytes.Equal(e.Xattrs[xattr.Bless], attrs[xattr.Bless]) || e.Xattrs[xattr.EVM] != nil {
			t.Errorf("%s has %q", e.Name, e.Xattrs)
		}
	}
}

// one gives the edit that f makes of the only entry of an archive.
func one(t *testing.T, archive []byte, f func(*xattr.Entry) (xattr.Edit, bool, error)) (xattr.Edit, bool, error) {
	t.Helper()
	r, err := scan(archive, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f(r.entries[0])
}

// What is inserted is part of the format: base layers must come out the same
// with every version.
func TestInsertedBytes(t *testing.T) {
	archive := join(long('L', strings.Repeat("n", 120)+"\x00"), header("n", '0', 3, gnu), blocks("abc"), end)
	edit, ok, err := one(t, archive, func(e *xattr.Entry) (xattr.Edit, bool, error) {
		return e.Set(map[string][]byte{xattr.IMA: []byte("i"), xattr.Bless: []byte("b")})
	})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	want := join(header("./PaxHeaders/sbom-bless", 'x', 68),
		blocks("37 SCHILY.xattr.security.bpf.bless=b\n31 SCHILY.xattr.security.ima=i\n"))
	if edit.Off != 0 || edit.Len != 0 || !bytes.Equal(edit.New, want) {
		t.Errorf("%d, %d:\n%q, want\n%q", edit.Off, edit.Len, edit.New, want)
	}
}

// Of an extended header that was there, only size and checksum change.
func TestExtendedHeaderKeepsItsStyle(t *testing.T) {
	const note = "22 SCHILY.xattr.a.n=k\n"
	style := func(size string) []byte {
		return header("some/name", 'x', 0, field(100, "   644 \x00"), field(124, size), field(136, "        123 "))
	}
	archive := join(style("         26 "), blocks(note), header("a", '0', 0), end)
	edit, ok, err := one(t, archive, func(e *xattr.Entry) (xattr.Edit, bool, error) {
		return e.Set(map[string][]byte{xattr.IMA: []byte("i")})
	})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	want := join(style("         65 "), blocks(note+"31 SCHILY.xattr.security.ima=i\n"))
	if edit.Off != 0 || edit.Len != 1024 || !bytes.Equal(edit.New, want) {
		t.Errorf("%d, %d:\n%q, want\n%q", edit.Off, edit.Len, edit.New, want)
	}
}

func TestSetReplacesWhatOthersWrote(t *testing.T) {
	for name, records := range map[string][]string{
		"star's form":           {"SCHILY.xattr.security.ima=old"},
		"libarchive's form":     {"LIBARCHIVE.xattr.security.ima=b2xk"},
		"both":                  {"LIBARCHIVE.xattr.security.ima=b2xk", "SCHILY.xattr.security.ima=old"},
		"percent-encoded":       {"LIBARCHIVE.xattr.security%2Eima=b2xk"},
		"another one":           {"SCHILY.xattr.security.evm=old"},
		"libarchive's, the new": {"LIBARCHIVE.xattr.security.ima=bmV3"},
	} {
		archive := join(extended(append(records, "SCHILY.xattr.user.a=b")...), header("a", '0', 0), end)
		edit, ok, err := one(t, archive, func(e *xattr.Entry) (xattr.Edit, bool, error) {
			return e.Set(map[string][]byte{xattr.IMA: []byte("new")})
		})
		if err != nil || !ok {
			t.Fatalf("%s: %v, %v", name, ok, err)
		}
		if want := extended("SCHILY.xattr.user.a=b", "SCHILY.xattr.security.ima=new"); !bytes.Equal(edit.New, want) {
			t.Errorf("%s: %q, want %q", name, edit.New, want)
		}
	}
	for name, records := range map[string][]string{
		"star's form": {"SCHILY.xattr.security.ima=new", "SCHILY.xattr.user.a=b"},
		"both":        {"SCHILY.xattr.security.ima=new", "LIBARCHIVE.xattr.security.ima=bmV3"},
	} {
		archive := join(extended(records...), header("a", '0', 0), end)
		if edit, ok, err := one(t, archive, func(e *xattr.Entry) (xattr.Edit, bool, error) {
			return e.Set(map[string][]byte{xattr.IMA: []byte("new")})
		}); err != nil || ok {
			t.Errorf("%s: what is there already was written again: %+v, %v", name, edit, err)
		}
	}
}

func TestStripTakesOnlyWhatIsNamed(t *testing.T) {
	archive := join(extended("SCHILY.xattr.security.evm=e", "SCHILY.xattr.security.ima=i", "SCHILY.xattr.security.capability=c"), header("a", '0', 0), end)
	edit, ok, err := one(t, archive, func(e *xattr.Entry) (xattr.Edit, bool, error) {
		return e.StripEdit(xattr.EVM, "security.capability")
	})
	if want := extended("SCHILY.xattr.security.ima=i", "SCHILY.xattr.security.capability=c"); err != nil || !ok || !bytes.Equal(edit.New, want) {
		t.Errorf("%v, %v: %q, want %q", ok, err, edit.New, want)
	}
	if _, ok, err := one(t, archive, func(e *xattr.Entry) (xattr.Edit, bool, error) { return e.StripEdit(xattr.Bless) }); ok || err != nil {
		t.Errorf("an attribute that is not there was stripped: %v", err)
	}
}

func TestSetRefusesWhatCouldNotBeUndone(t *testing.T) {
	file := header("a", '0', 0)
	note := extended("SCHILY.xattr.user.a=b")
	dirty := bytes.Clone(note)
	dirty[len(dirty)-1] = 1
	mine := header("./PaxHeaders/sbom-bless", 'x', 0)
	for name, archive := range map[string][]byte{
		"padding that is not zero":              join(dirty, file, end),
		"an empty header that looks like ours":  join(mine, file, end),
		"a size field without room":             join(header("x", 'x', 0, field(124, "26\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")), blocks("22 SCHILY.xattr.a.n=k\n"), file, end),
		"a header that would grow beyond 1 MiB": join(extended("comment="+strings.Repeat("c", 1<<20-30)), file, end),
	} {
		if edit, ok, err := one(t, archive, func(e *xattr.Entry) (xattr.Edit, bool, error) {
			return e.Set(attributes())
		}); err == nil {
			t.Errorf("%s: %v, %q", name, ok, edit.New)
		}
	}
	if _, _, err := one(t, join(file, end), func(e *xattr.Entry) (xattr.Edit, bool, error) {
		return e.Set(map[string][]byte{"security.capability": nil})
	}); err == nil {
		t.Error("set an attribute of others")
	}
}

func FuzzScanner(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, archive []byte) {
		archive = summedUp(archive)
		ours, err := bounded(archive)
		if err != nil {
			return
		}
		theirs, err := readGo(archive)
		if err != nil {
			if errors.Is(err, tar.ErrHeader) {
				return // it checks fields of headers that carry nothing here
			}
			t.Fatalf("accepted what archive/tar refuses: %v", err)
		}
		for i := range theirs {
			theirs[i].IMA = ours[i].IMA // it has no LIBARCHIVE form, and skips empty values
		}
		if err := disagree("archive/tar", theirs, ours); err != nil {
			t.Error(err)
		}
	})
}

func FuzzSetStrip(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, archive []byte) {
		archive = summedUp(archive)
		if _, err := bounded(archive); err != nil {
			return
		}
		blessed, err := set(t, archive, attributes())
		if err != nil {
			return
		}
		if again, err := set(t, blessed, attributes()); err != nil || !bytes.Equal(again, blessed) {
			t.Errorf("the same attributes once more change the archive: %v", err)
		}
		bare, err := strip(t, archive)
		if err != nil {
			return
		}
		if back, err := strip(t, blessed); err != nil || !bytes.Equal(back, bare) {
			t.Errorf("stripped, the archive differs from the source: %v", err)
		}
		if again, err := strip(t, bare); err != nil || !bytes.Equal(again, bare) {
			t.Errorf("stripped twice, it differs: %v", err)
		}
	})
}

func seed(f *testing.F) {
	for _, archive := range corpus(f) {
		if len(archive) < 10000 {
			f.Add(archive)
		}
	}
}

// summedUp makes the checksums right of what seem to be headers, or a fuzzer
// would hardly ever get past the first.
func summedUp(archive []byte) []byte {
	b := bytes.Clone(archive)
	for off := 0; off+512 <= len(b); {
		h := b[off : off+512]
		off += 512
		if bytes.Count(h, []byte{0}) == 512 {
			continue
		}
		sum := 8 * int(' ')
		for i, c := range h {
			if i < 148 || i >= 156 {
				sum += int(c)
			}
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		if size, err := strconv.ParseUint(string(bytes.Trim(h[124:136], " \x00")), 8, 32); err == nil && (h[156] < '1' || h[156] > '6') {
			off += int(size+511) &^ 511
		}
	}
	return b
}

var errLarge = errors.New("too large for a fuzzer")

// bounded is readOurs for archives that do not expand to more than 16 MiB.
func bounded(archive []byte) ([]seen, error) {
	s := xattr.NewScanner(&reader{edit: func(e *xattr.Entry) (xattr.Edit, bool, error) {
		if e.Size > 16<<20 {
			return xattr.Edit{}, false, errLarge
		}
		return xattr.Edit{}, false, nil
	}})
	if _, err := io.Copy(s, bytes.NewReader(archive)); err != nil {
		return nil, err
	}
	return readOurs(archive)
}
