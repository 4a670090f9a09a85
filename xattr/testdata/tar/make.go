// SPDX-License-Identifier: Apache-2.0

// Command make writes the archives of this folder that archive/tar makes, and
// those that no tool makes, by hand.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"log"
	"os"
	"strings"
	"time"
)

func main() {
	long := strings.Repeat("directory/", 12) + "name"
	for name, format := range map[string]tar.Format{"go-ustar.tar": tar.FormatUSTAR, "go-pax.tar": tar.FormatPAX, "go-gnu.tar": tar.FormatGNU} {
		headers := []tar.Header{
			{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
			{Name: "./data", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1000},
			{Name: "./empty", Typeflag: tar.TypeReg, Mode: 0o4755},
			{Name: "./hard", Typeflag: tar.TypeLink, Linkname: "./data"},
			{Name: "./soft", Typeflag: tar.TypeSymlink, Linkname: "data"},
			{Name: "./fifo", Typeflag: tar.TypeFifo, Mode: 0o600},
			{Name: "./null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
			{Name: "./.wh.gone", Typeflag: tar.TypeReg},
		}
		if format != tar.FormatUSTAR {
			headers = append(headers, tar.Header{Name: long, Typeflag: tar.TypeReg, Mode: 0o644, Size: 10},
				tar.Header{Name: "long", Typeflag: tar.TypeSymlink, Linkname: long},
				tar.Header{Name: "café", Typeflag: tar.TypeReg, Uid: 3000000, Gid: 3000000, Uname: "jürgen", Gname: "gruppe"})
		}
		if format == tar.FormatPAX {
			headers = append(headers,
				tar.Header{Name: "noted", Typeflag: tar.TypeReg, Size: 3, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "a=b\nc", "VENDOR.key": "value"}},
				tar.Header{Name: "signed", Typeflag: tar.TypeReg, Size: 3, PAXRecords: map[string]string{"SCHILY.xattr.security.ima": "\x04\x04" + strings.Repeat("\x00", 32)}})
		}
		write(name, archive(format, headers...))
	}

	plain := archive(tar.FormatUSTAR, tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 600}, tar.Header{Name: "b", Typeflag: tar.TypeReg, Size: 5})
	end := make([]byte, 1024)
	body := plain[:len(plain)-1024]
	write("hand-no-end.tar", body)
	write("hand-one-zero-block.tar", append(bytes.Clone(body), end[:512]...))
	write("hand-trailing-zeros.tar", append(bytes.Clone(plain), make([]byte, 700)...))
	write("hand-trailing-bytes.tar", append(bytes.Clone(plain), bytes.Repeat([]byte("x"), 700)...))
	write("hand-end-only.tar", end)
	write("hand-empty.tar", nil)

	entry := header("a", '0', 3, nil)
	content := pad([]byte("abc"))
	x := func(edit func(*[512]byte), records string) []byte {
		return append(header("PaxHeaders/a", 'x', len(records), edit), pad([]byte(records))...)
	}
	name := strings.Repeat("n", 120)
	gnuLong := append(header("././@LongLink", 'L', 121, gnu), pad([]byte(name+"\x00"))...)
	const note = "26 SCHILY.xattr.user.n=ok\n"
	write("hand-pax-empty.tar", join(x(nil, ""), entry, content, end))
	write("hand-pax-before-long.tar", join(x(nil, note), gnuLong, header(name[:100], '0', 3, gnu), content, end))
	write("hand-long-before-pax.tar", join(gnuLong, x(nil, note), header(name[:100], '0', 3, gnu), content, end))
	write("hand-blanks.tar", join(
		x(func(b *[512]byte) { copy(b[124:], fmt.Sprintf("%11o ", len(note))) }, note),
		header("a", '0', 3, func(b *[512]byte) { copy(b[124:], "          3 "); copy(b[100:], "   644 \x00") }), content, end))
	write("hand-base256.tar", join(
		x(func(b *[512]byte) {
			copy(b[124:], "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"+string(rune(len(note))))
		}, note),
		header("a", '0', 3, func(b *[512]byte) { copy(b[124:], "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03") }), content, end))
	write("hand-sun-checksum.tar", join(
		sun(x(func(b *[512]byte) { copy(b[:], "\xff\xfe") }, note)), sun(header("latin\xe9", '0', 3, nil)), content, end))
	write("hand-contiguous.tar", join(header("a", '7', 3, nil), content, header("b/", 0, 0, nil), header("c", 0, 3, nil), content, end))
}

func write(name string, b []byte) {
	if err := os.WriteFile(name, b, 0o644); err != nil {
		log.Fatal(err)
	}
}

// archive is made by archive/tar.
func archive(format tar.Format, headers ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Format = format
		h.ModTime = time.Unix(1700000000, 0)
		if err := w.WriteHeader(&h); err != nil {
			log.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("g"), int(h.Size))); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return b.Bytes()
}

// header is a ustar header block, changed by edit before it is summed up.
func header(name string, kind byte, size int, edit func(*[512]byte)) []byte {
	var b [512]byte
	copy(b[:100], name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 1700000000))
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	if edit != nil {
		edit(&b)
	}
	sum := 8 * int(' ')
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b[:]
}

func gnu(b *[512]byte) { copy(b[257:], "ustar  \x00") }

// sun sums a header block up as signed bytes.
func sun(b []byte) []byte {
	sum := 8 * int(' ')
	for i, c := range b[:512] {
		if i < 148 || i >= 156 {
			sum += int(int8(c))
		}
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func pad(b []byte) []byte { return append(b, make([]byte, (512-len(b)%512)%512)...) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
