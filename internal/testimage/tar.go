// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Entry is one entry of a tar archive. archive/tar writes it, in the format
// that Header.Format asks for.
type Entry struct {
	tar.Header
	Body []byte
	// Raw replaces header and content by these bytes, as they are.
	Raw []byte
}

// File is a regular file that root owns.
func File(name string, mode int64, body []byte) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body)), ModTime: Created}, Body: body}
}

// Dir is a directory of mode 0755.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: Created}}
}

// Link is a hard link.
func Link(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: Created}}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: Created}}
}

// Device is a character device.
func Device(name string, major, minor int64) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o600, Devmajor: major, Devminor: minor, ModTime: Created}}
}

// Fifo is a named pipe.
func Fifo(name string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o600, ModTime: Created}}
}

// Whiteout takes name away from the layers below. A name that is a whiteout
// already, such as "dir/.wh..wh..opq", stays as it is.
func Whiteout(name string) Entry {
	dir, base := path.Split(name)
	if !strings.HasPrefix(base, ".wh.") {
		base = ".wh." + base
	}
	return File(dir+base, 0o644, nil)
}

// With returns the entry with PAX records given as key, value, key, value.
func (e Entry) With(records ...string) Entry {
	e.Format, e.PAXRecords = tar.FormatPAX, map[string]string{}
	for i := 0; i < len(records); i += 2 {
		e.PAXRecords[records[i]] = records[i+1]
	}
	return e
}

// Raw is an entry made of blocks that the caller wrote.
func Raw(blocks ...[]byte) Entry { return Entry{Raw: bytes.Join(blocks, nil)} }

// Tar writes an archive, end marker included.
func Tar(entries ...Entry) []byte {
	var out bytes.Buffer
	for i := range entries {
		e := &entries[i]
		if e.Raw != nil {
			out.Write(e.Raw)
			continue
		}
		tw := tar.NewWriter(&out)
		must(tw.WriteHeader(&e.Header))
		_, err := tw.Write(e.Body)
		must(err)
		must(tw.Flush()) // pads; no end marker
	}
	out.Write(make([]byte, 1024))
	return out.Bytes()
}

// Header is one ustar header block with a right checksum, however wrong its
// fields: the size need not be that of any content.
func Header(name string, typeflag byte, size int64) []byte {
	var h [512]byte
	copy(h[0:100], name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", size, Epoch))
	h[156] = typeflag
	copy(h[257:], "ustar\x0000")
	sign(h[:])
	return h[:]
}

// sign sets the checksum of a header block.
func sign(h []byte) {
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// Pad appends zeros up to a whole number of blocks.
func Pad(content []byte) []byte {
	return append(content[:len(content):len(content)], make([]byte, -len(content)&511)...)
}

// Records is a PAX extended header with these records as they stand, each
// "key=value": duplicates and nonsense included.
func Records(records ...string) []byte {
	var body []byte
	for _, r := range records {
		n := len(r) + 2 // space and newline
		for len(fmt.Sprint(n))+len(r)+2 != n {
			n = len(fmt.Sprint(n)) + len(r) + 2
		}
		body = fmt.Appendf(body, "%d %s\n", n, r)
	}
	return append(Header("PaxHeaders/0", tar.TypeXHeader, int64(len(body))), Pad(body)...)
}

// Compress compresses with compress/gzip or klauspost's zstd at their default
// levels, or not at all.
func Compress(content []byte, how string) []byte {
	var out bytes.Buffer
	switch how {
	case "":
		return content
	case "gzip":
		w := gzip.NewWriter(&out)
		_, err := w.Write(content)
		must(err)
		must(w.Close())
	case "zstd":
		w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		must(err)
		_, err = w.Write(content)
		must(err)
		must(w.Close())
	default:
		panic("testimage: no such compression: " + how)
	}
	return out.Bytes()
}

// must panics: what is built in memory fails only when its description is wrong.
func must(err error) {
	if err != nil {
		panic("testimage: " + err.Error())
	}
}
