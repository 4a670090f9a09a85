// SPDX-License-Identifier: Apache-2.0

package xattr_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/xattr"
)

func TestPiecesOfAnySizeGiveTheSame(t *testing.T) {
	for name, archive := range corpus(t) {
		want, wantErr := scan(archive, 0, nil)
		for _, n := range []int{1, 7, 511, 512, 513, 4096} {
			if n < 500 && len(archive) > 20000 {
				continue
			}
			got, err := scan(archive, n, nil)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("%s in pieces of %d: %v, whole: %v", name, n, err, wantErr)
			}
			if d := cmp.Diff(want.files, got.files); d != "" {
				t.Errorf("%s in pieces of %d (-whole +pieces):\n%s", name, n, d)
			}
		}
	}
}

// Offsets are what bless builds on: an entry begins where the one before may
// end, and what it stores lies between.
func TestEntriesFollowEachOther(t *testing.T) {
	for name, archive := range corpus(t) {
		r, err := scan(archive, 0, nil)
		if err != nil {
			continue
		}
		next := int64(0)
		for _, e := range r.entries {
			if e.Off < next || e.Off%512 != 0 || e.Next() < e.Off+512+e.Stored() || e.Next() > int64(len(archive)) {
				t.Errorf("%s: %s at %d, stored %d, next %d; the last one ended at %d", name, e.Name, e.Off, e.Stored(), e.Next(), next)
			}
			next = e.Next()
		}
	}
}

func TestHandlerErrorsStopTheScan(t *testing.T) {
	stop := errors.New("stop")
	archive := corpus(t)["gnu-gnu.tar"]
	s := xattr.NewScanner(&reader{edit: func(*xattr.Entry) (xattr.Edit, bool, error) { return xattr.Edit{}, false, stop }})
	if n, err := s.Write(archive); err != stop || n == len(archive) {
		t.Errorf("Write: %d, %v", n, err)
	}
	if _, err := s.Write(archive); err != stop {
		t.Errorf("second Write: %v", err)
	}
	if err := s.Close(); err != stop {
		t.Errorf("Close: %v", err)
	}
}

// header is a header block; edit changes it before it is summed up.
func header(name string, kind byte, size int, edit ...func(b []byte)) []byte {
	b := make([]byte, 512)
	copy(b[:100], name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	for _, f := range edit {
		f(b)
	}
	sum := 8 * int(' ')
	for i, c := range b {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// field writes s at off.
func field(off int, s string) func([]byte) { return func(b []byte) { copy(b[off:], s) } }

var gnu = field(257, "ustar  \x00")

// blocks fills b up to whole blocks.
func blocks(b string) []byte { return append([]byte(b), make([]byte, -len(b)&511)...) }

// extended is an extended header with these records.
func extended(records ...string) []byte {
	var data string
	for _, r := range records {
		n := len(r) + 2
		for len(fmt.Sprint(n))+len(r)+2 != n {
			n++
		}
		data += fmt.Sprintf("%d %s\n", n, r)
	}
	return append(header("x", 'x', len(data)), blocks(data)...)
}

func long(kind byte, name string) []byte {
	return append(header("././@LongLink", kind, len(name), gnu), blocks(name)...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

var end = make([]byte, 1024)

func TestArchivesThatReadersDisagreeOnAreRefused(t *testing.T) {
	file, text := header("a", '0', 3), blocks("abc")
	raw := func(data string) []byte { return join(header("x", 'x', len(data)), blocks(data), file, text, end) }
	pax := func(records ...string) []byte { return join(extended(records...), file, text, end) }
	sparse := func(stored int, records ...string) []byte {
		return join(extended(records...), header("a", '0', stored), make([]byte, (stored+511)&^511), end)
	}
	oldSparse := func(edit ...func([]byte)) []byte {
		return join(header("a", 'S', 0, append([]func([]byte){gnu, field(483, "00000001000\x00")}, edit...)...), end)
	}
	for _, row := range []struct {
		name    string
		archive []byte
		want    string
	}{
		{"a wrong checksum", join(append([]byte("b"), file[1:]...), text, end), "checksum"},
		{"a checksum in base 256", join(field256(file), text, end), "checksum"},
		{"a size below zero", join(header("a", '0', 0, field(124, strings.Repeat("\xff", 12))), end), "out of range"},
		{"a size beyond 63 bits", join(header("a", '0', 0, field(124, "\x80"+strings.Repeat("\x7f", 11))), end), "size field"},
		{"a size in base 256 with other first bits", join(header("a", '0', 0, field(124, "\x81\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03")), end), "size field"},
		{"a size behind a NUL", join(header("a", '0', 0, field(124, "\x000000000003\x00")), text, end), "size field"},
		{"a size of blanks", join(header("a", '0', 0, field(124, "            ")), end), "size field"},
		{"a size with a digit that is not octal", join(header("a", '0', 0, field(124, "00000000008\x00")), end), "size field"},
		{"a size with something behind its end", join(header("a", '0', 0, field(124, "0000003\x00004\x00")), text, end), "size field"},
		{"a mode that is no number", join(header("a", '0', 0, field(100, "rw-r--r-")), end), "mode field"},
		{"a uid below zero", join(header("a", '0', 0, field(108, strings.Repeat("\xff", 8))), end), "out of range"},
		{"a uid beyond 32 bits", pax("uid=4294967296"), "out of range"},
		{"an unknown magic that begins like ustar", join(header("a", '0', 0, field(257, "ustar!00")), end), "magic"},
		{"a prefix where the old format has none", join(header("a", '0', 0, field(257, "\x00\x00\x00\x00\x00\x00\x00\x00"), field(345, "p")), end), "what it is called"},
		{"a time where tarfile has the prefix", join(header("a", '0', 0, gnu, field(345, "14000000000\x00")), end), "what it is called"},
		{"a star prefix that is not terminated", join(header("a", '0', 0, field(345, strings.Repeat("p", 131)), field(508, "tar\x00")), end), "not terminated"},
		{"a block with nothing but a checksum", join(file, text, make([]byte, 148), []byte("0"), make([]byte, 363), end), "checksum"},
		{"a star header with a time that is none", join(header("a", '0', 0, field(476, "1234567890a "), field(508, "tar\x00")), end), "times"},
		{"a real size that only libarchive heeds", join(header("a", '0', 3, gnu, field(483, "00000000002\x00")), text, end), "libarchive"},
		{"an unknown type", join(header("a", 'V', 0), end), "unknown"},
		{"a multi-volume continuation", join(header("a", 'M', 0, gnu), end), "unknown"},
		{"a Solaris extended header", join(header("a", 'X', 0), end), "unknown"},
		{"a directory with content", join(header("a/", '5', 3), text, end), "3 bytes of content"},
		{"an old directory with content", join(header("a/", 0, 3), text, end), "3 bytes of content"},
		{"a symbolic link with content", join(header("a", '2', 3, field(157, "b")), text, end), "3 bytes of content"},
		{"a hard link with content", join(header("a", '1', 3, field(157, "b")), text, end), "3 bytes of content"},
		{"a device with content", join(header("a", '3', 3), text, end), "3 bytes of content"},
		{"a hard link to nowhere", join(header("a", '1', 0), end), "nowhere"},
		{"no name", join(header("", '0', 0), end), "no name"},
		{"a file whose name ends in a slash", join(header("a/", '0', 0), end), "slash"},
		{"an old file that only its extended header calls a directory", join(extended("path=a/"), header("a", 0, 0), end), "slash"},
		{"an old directory that its extended header calls a file", join(extended("path=a"), header("a/", 0, 0), end), "slash"},

		{"a record without a length", raw(" path=a\n"), "malformed"},
		{"a record longer than the header", raw("99 path=a\n"), "malformed"},
		{"a record without a newline", raw("9 path=a "), "malformed"},
		{"a record without an equals sign", raw("7 path\n"), "malformed"},
		{"a record without a key", raw("5 =a\n"), "malformed"},
		{"a record length with a leading zero", raw("010 path=a\n"), "malformed"},
		{"a record length with a sign", raw("+9 path=a\n"), "malformed"},
		{"a record length far too long", raw("99999999999999999999 path=a\n"), "malformed"},
		{"a key with a NUL", raw("9 pa\x00h=a\n"), "malformed"},
		{"zeros behind the records", raw("9 path=a\n\x00\x00"), "malformed"},
		{"a key twice", pax("path=a", "path=b"), "twice"},
		{"an attribute twice", pax("SCHILY.xattr.user.a=b", "SCHILY.xattr.user.a=c"), "twice"},
		{"an empty path", pax("path="), "empty"},
		{"a path with a NUL", pax("path=a\x00b"), "NUL"},
		{"an owner with a NUL", pax("uname=a\x00b"), "NUL"},
		{"a larger size than the header's", pax("size=1024"), "next entry"},
		{"a smaller size than the header's", pax("size=0"), "next entry"},
		{"a size with a sign", pax("size=+3"), "no number"},
		{"a negative size", pax("size=-3"), "no number"},
		{"a size beyond 64 bits", pax("size=99999999999999999999"), "no number"},
		{"a uid that is no number", pax("uid=root"), "no number"},
		{"a time that is none", pax("mtime=yesterday"), "no time"},
		{"an unknown character set", pax("hdrcharset=KOI8-R"), "character set"},
		{"star's real size", pax("SCHILY.realsize=9"), "not every reader"},
		{"Solaris' holes", pax("SUN.holesdata= 0 3"), "not every reader"},
		{"attributes that contradict each other", pax("SCHILY.xattr.user.a=x", "LIBARCHIVE.xattr.user.a=eQ"), "another value"},
		{"an attribute without a name", pax("SCHILY.xattr.=x"), "malformed name"},
		{"an attribute whose base 64 is broken", pax("LIBARCHIVE.xattr.user.a=!"), "base64"},
		{"two extended headers", join(extended("comment=a"), extended("comment=b"), file, text, end), "second header"},
		{"an extended header that nothing follows", join(extended("path=a"), end), "no entry follows"},
		{"an extended header at the very end", extended("path=a"), "no entry follows"},
		{"an extended header of 2 MiB", join(header("x", 'x', 2<<20), make([]byte, 2<<20), file, text, end), "limit"},
		{"an extended header of a negative size", join(header("x", 'x', 0, field(124, strings.Repeat("\xff", 12))), end), "size field"},
		{"a long name of 1 TiB", join(header("x", 'L', 0, gnu, field(124, "\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00")), end), "limit"},
		{"two long names", join(long('L', "b"), long('L', "c"), file, text, end), "second header"},
		{"two long links", join(long('K', "b"), long('K', "c"), file, text, end), "second header"},
		{"an empty long name", join(long('L', ""), file, text, end), "empty"},
		{"a long name with a NUL inside", join(long('L', "b\x00c"), file, text, end), "NUL"},
		{"a long name that is another one than the path", join(long('L', "b\x00"), extended("path=c"), file, text, end), "another one"},
		{"a long link that is another one than the linkpath", join(long('K', "b\x00"), extended("linkpath=c"), header("a", '2', 0), end), "another one"},
		{"a long name that nothing follows", join(long('L', "b"), end), "no entry follows"},
		{"a global header with a path", join(header("g", 'g', 9), blocks("9 path=b\n"), file, text, end), "global"},
		{"a global header with a size", join(header("g", 'g', 9), blocks("9 size=1\n"), file, text, end), "global"},
		{"a global header with a time", join(header("g", 'g', 11), blocks("11 mtime=1\n"), file, text, end), "global"},
		{"a global header with an attribute", join(header("g", 'g', 25), blocks("25 SCHILY.xattr.user.a=b\n"), file, text, end), "global"},
		{"a global header between the headers of an entry", join(extended("comment=a"), header("g", 'g', 12), blocks("12 comment=b"), file, text, end), "between"},

		{"a sparse size without a map", sparse(0, "GNU.sparse.realsize=9"), "two sparse formats"},
		{"a sparse name alone", sparse(0, "GNU.sparse.name=b"), "GNU.sparse.size"},
		{"an unknown sparse format", sparse(0, "GNU.sparse.major=2", "GNU.sparse.minor=0", "GNU.sparse.name=b", "GNU.sparse.realsize=9"), "unknown"},
		{"two sparse formats", sparse(512, "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=b", "GNU.sparse.realsize=9", "GNU.sparse.map=0,0"), "two sparse formats"},
		{"an unknown sparse record", sparse(0, "GNU.sparse.size=9", "GNU.sparse.numblocks=0", "GNU.sparse.colour=red"), "unknown record"},
		{"a sparse map of another length than it says", sparse(0, "GNU.sparse.size=9", "GNU.sparse.numblocks=2", "GNU.sparse.map=0,0"), "for 2 spans"},
		{"a sparse map of an odd number of numbers", sparse(0, "GNU.sparse.size=9", "GNU.sparse.numblocks=1", "GNU.sparse.map=0"), "1 numbers"},
		{"a sparse map out of order", sparse(0, "GNU.sparse.size=9", "GNU.sparse.numblocks=1", "GNU.sparse.numbytes=0", "GNU.sparse.offset=0"), "out of order"},
		{"sparse spans that overlap", sparse(1024, "GNU.sparse.size=9999", "GNU.sparse.numblocks=2", "GNU.sparse.map=0,512,511,512"), "overlaps"},
		{"a sparse span beyond the file", sparse(512, "GNU.sparse.size=511", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,512"), "overlaps"},
		{"a sparse span whose end overflows", sparse(0, "GNU.sparse.size=9", "GNU.sparse.numblocks=1", "GNU.sparse.map=9223372036854775807,9223372036854775807"), "overlaps"},
		{"a sparse span within a block", sparse(3, "GNU.sparse.size=9999", "GNU.sparse.numblocks=2", "GNU.sparse.map=0,1,4096,2"), "within a block"},
		{"less stored than the sparse map says", sparse(512, "GNU.sparse.size=1024", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,1024"), "are stored"},
		{"more stored than the sparse map says", sparse(1024, "GNU.sparse.size=512", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,512"), "are stored"},
		{"a hole at the end that the sparse map does not tell of", sparse(512, "GNU.sparse.size=9999", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,512"), "GNU tar goes by"},
		{"a sparse file without a span", sparse(0, "GNU.sparse.size=9999", "GNU.sparse.numblocks=0"), "GNU tar goes by"},
		{"a size of a sparse file", sparse(512, "size=512", "GNU.sparse.size=9999", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,512"), "one of two"},
		{"a path behind a sparse name", sparse(512, "GNU.sparse.name=b", "path=c", "GNU.sparse.size=9999", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,512"), "behind GNU.sparse.name"},
		{"a sparse map that is no number", join(extended("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=b", "GNU.sparse.realsize=9"), header("a", '0', 512), blocks("one\n"), end), "no number"},
		{"a sparse map longer than its content", join(extended("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=b", "GNU.sparse.realsize=9"), header("a", '0', 512), blocks("1\n0\n"), end), "longer than the content"},
		{"a sparse map of a billion spans", join(extended("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=b", "GNU.sparse.realsize=9"), header("a", '0', 512), blocks("1000000000\n"), end), "spans"},
		{"a PAX sparse map on a GNU header", join(extended("GNU.sparse.size=512", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,512"), header("a", '0', 512, gnu), make([]byte, 512), end), "another format"},
		{"a sparse directory", join(extended("GNU.sparse.size=9", "GNU.sparse.numblocks=0"), header("a/", '5', 0), end), "regular file"},
		{"a sparse contiguous file", join(extended("GNU.sparse.size=512", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,512"), header("a", '7', 512), make([]byte, 512), end), "regular file"},
		{"an old sparse header without GNU's magic", join(header("a", 'S', 0), end), "GNU's magic"},
		{"an old sparse span without a length", oldSparse(field(386, "00000000000\x00")), "span"},
		{"an old sparse map with something behind its end", oldSparse(field(434, ".")), "behind its end"},
		{"an old sparse map that goes on behind its end", oldSparse(field(482, "\x01")), "behind its end"},
		{"an old sparse header with a real size below zero", oldSparse(field(483, strings.Repeat("\xff", 12))), "out of range"},

		{"a lone zero block", join(make([]byte, 512), file, text, end), "lone zero block"},
		{"a second archive whose file is not a table of contents", join(file, text, end, header("stargz.index.jsoN", '0', 4), blocks("text"), end), "second archive"},
		{"two tables of contents behind the end", join(file, text, end, header("stargz.index.json", '0', 4), blocks("text"), header("stargz.index.json", '0', 4), blocks("text"), end), "second archive"},
		{"a table of contents cut off", join(file, text, end, header("stargz.index.json", '0', 4)), "unexpected EOF"},
		{"a second archive", join(file, text, end, file, text, end), "second archive"},
		{"a second archive behind garbage", join(file, text, end, blocks("garbage"), file, text, end), "second archive"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := scan(row.archive, 0, nil)
			var format *xattr.FormatError
			if !errors.As(err, &format) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want something with %q; saw %+v", err, row.want, r.files)
			}
		})
	}
}

// field256 says the checksum of a header block in base 256.
func field256(block []byte) []byte {
	b := bytes.Clone(block)
	var sum int
	fmt.Sscanf(string(b[148:154]), "%o", &sum)
	copy(b[148:], []byte{0x80, 0, 0, 0, 0, 0, byte(sum >> 8), byte(sum)})
	return b
}

// What writers in use leave in headers, and every reader takes in the same way.
func TestArchivesThatReadersAgreeOnAreTaken(t *testing.T) {
	text, end := blocks("text"), make([]byte, 1024)
	plain := header("file", '0', 4)
	for _, c := range []struct {
		name    string
		archive []byte
	}{
		{"blank owners", join(header("file", '0', 4, field(108, "       \x00       \x00")), text, end)},
		{"owners without a name, as node-tar writes them", join(extended("uname=", "gname="), plain, text, end)},
		{"star's global header", join(header("g", 'g', 56), blocks("27 SCHILY.archtype=exustar\n29 SCHILY.release=star 1.5.3\n"), plain, text, end)},
		{"a table of contents behind the end, as lossless eStargz has it", join(plain, text, end, header("stargz.index.json", '0', 700), make([]byte, 1024), end)},
		{"an empty one", join(plain, text, end, header("stargz.index.json", '0', 0), end)},
	} {
		r, err := scan(c.archive, 0, nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if len(r.entries) != 1 || r.entries[0].Name != "file" || r.entries[0].UID != 0 {
			t.Errorf("%s: %d entries", c.name, len(r.entries))
		}
	}
}

func TestTruncatedArchivesAreRefused(t *testing.T) {
	for name, archive := range corpus(t) {
		r, err := scan(archive, 0, nil)
		if err != nil || len(r.entries) == 0 {
			continue
		}
		whole := map[int64]bool{} // where it may end: behind an entry, or one zero block
		last := int64(0)
		for _, e := range r.entries {
			last = e.Next()
			whole[last] = true
		}
		whole[last+512] = true
		for n := int64(1); n < min(last+1024, int64(len(archive))); n += max(last/200, 1) {
			got, err := scan(archive[:n], 0, nil)
			if whole[n] {
				if err != nil {
					t.Errorf("%s: ends at byte %d between two entries: %v", name, n, err)
				}
				continue
			}
			if err == nil && !onlyGlobal(archive[:n]) {
				t.Errorf("%s: ends at byte %d, accepted: %+v", name, n, got.files)
			}
			if n < last && n%512 != 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: ends at byte %d: %v", name, n, err)
			}
		}
	}
}

// onlyGlobal tells whether the archive ends behind a global header.
func onlyGlobal(b []byte) bool { return len(b) == 1024 && b[156] == 'g' }

func TestLimits(t *testing.T) {
	archive := join(extended("comment="+strings.Repeat("c", 600)), header("a", '0', 0), end)
	r := &reader{}
	s := xattr.NewScanner(r)
	s.Limits.Header = 500
	if _, err := s.Write(archive); err == nil || !strings.Contains(err.Error(), "more than the limit of 500") {
		t.Errorf("%v", err)
	}
}

func BenchmarkScanner(b *testing.B) {
	for _, size := range []int{1 << 20, 20000, 1000} {
		entry := join(header("usr/share/name", '0', size), make([]byte, size+(-size&511)))
		archive := append(bytes.Repeat(entry, 1+(64<<20)/len(entry)), end...)
		b.Run(fmt.Sprintf("files of %d bytes", size), func(b *testing.B) {
			b.SetBytes(int64(len(archive)))
			b.ReportAllocs()
			for b.Loop() {
				s := xattr.NewScanner(discard{})
				for rest := archive; len(rest) > 0; rest = rest[min(256<<10, len(rest)):] {
					if _, err := s.Write(rest[:min(256<<10, len(rest))]); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type discard struct{}

func (discard) Entry(*xattr.Entry) error { return nil }
func (discard) Content([]byte) error     { return nil }
func (discard) End() error               { return nil }
