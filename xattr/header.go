// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Where the fields of a header block lie (POSIX.1-2017, pax, "ustar Interchange
// Format"): name 0, mode 100, uid 108, gid 116, size 124, mtime 136, chksum 148,
// typeflag 156, linkname 157, magic 257, uname 265, gname 297, devmajor 329,
// devminor 337, prefix 345.

// magic of the formats, version included.
const (
	magicUstar = "ustar\x00"
	magicGNU   = "ustar  \x00"
	magicStar  = "tar\x00" // at 508, beside magicUstar
)

// checksums adds up the bytes of a header block, the checksum field as blanks:
// as unsigned bytes, which POSIX says, and as signed ones, as old Sun tar did.
func checksums(b *[blockSize]byte) (unsigned, signed int64) {
	const low = 0x00ff00ff00ff00ff
	var lanes uint64 // four sums of at most 64*510
	high := 0
	for i := 0; i < blockSize; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		lanes += x&low + x>>8&low
		high += bits.OnesCount64(x & 0x8080808080808080)
	}
	unsigned = int64(lanes&0xffff + lanes>>16&0xffff + lanes>>32&0xffff + lanes>>48)
	for _, c := range b[148:156] {
		unsigned -= int64(c)
		high -= int(c >> 7)
	}
	unsigned += 8 * ' '
	return unsigned, unsigned - int64(high)<<8
}

// checkHeader tells whether b is a header block that all readers take for one.
func checkHeader(b *[blockSize]byte) error {
	sum, ok := number(b[148:156])
	if unsigned, signed := checksums(b); !ok || b[148] >= 0x80 || sum != unsigned && sum != signed {
		return errors.New("not a tar header: its checksum is wrong")
	}
	for _, f := range [...]struct {
		name string
		raw  []byte
	}{{"mode", b[100:108]}, {"uid", b[108:116]}, {"gid", b[116:124]}, {"size", b[124:136]}, {"mtime", b[136:148]}} {
		if _, ok := number(f.raw); !ok && (f.name == "size" || !isEnd(f.raw)) { // blanks alone are zero, for all readers
			return fmt.Errorf("%s field %q", f.name, f.raw)
		}
	}
	for _, raw := range [...][]byte{b[329:337], b[337:345]} {
		if _, ok := number(raw); !ok && !isEnd(raw) {
			return fmt.Errorf("device field %q", raw)
		}
	}
	return nil
}

// number reads a numeric field as every reader does: octal digits, blanks before
// them, NULs or blanks behind; nothing but NULs, which is zero; or GNU's base 256,
// a first byte of 0x80 or 0xff and a big-endian two's complement number behind it.
func number(field []byte) (n int64, ok bool) {
	switch field[0] {
	case 0x80, 0xff:
		if field[0] == 0xff {
			n = -1
		}
		for _, c := range field[1:] {
			if n > 1<<55-1 || n < -1<<55 {
				return 0, false
			}
			n = n<<8 | int64(c)
		}
		return n, true
	case 0:
		return 0, len(bytes.Trim(field, "\x00")) == 0
	}
	i := 0
	for i < len(field) && field[i] == ' ' {
		i++
	}
	digits := i
	for i < len(field) && field[i] >= '0' && field[i] <= '7' {
		n = n<<3 | int64(field[i]-'0')
		i++
	}
	return n, i > digits && isEnd(field[i:])
}

// isEnd tells whether b is what may stand behind a number: NULs and blanks.
func isEnd(b []byte) bool {
	for _, c := range b {
		if c != 0 && c != ' ' {
			return false
		}
	}
	return true
}

// text reads a field that ends at its first NUL.
func text(field []byte) []byte {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		return field[:i]
	}
	return field
}

// rawName is the name in the header block itself. What lies in the prefix field
// must be a prefix for all readers or for none: Python's tarfile takes it for
// one whatever the magic, so where GNU keeps times there, readers disagree.
func rawName(b *[blockSize]byte) (string, error) {
	name, prefix := text(b[:100]), text(b[345:500])
	switch magic := string(b[257:265]); {
	case magic[:6] == magicUstar:
		if string(b[508:]) == magicStar {
			_, atime := number(b[476:488])
			_, ctime := number(b[488:500])
			if b[345+130] != 0 || !atime || !ctime {
				return "", errors.New("star header with a prefix that is not terminated, or with times that are no numbers")
			}
		}
		if len(prefix) > 0 {
			return string(prefix) + "/" + string(name), nil
		}
	case magic == magicGNU && b[156] == 'S':
	case magic[:5] == "ustar" && magic != magicGNU:
		return "", fmt.Errorf("unknown magic %q", magic)
	case magic == magicGNU && len(bytes.Trim(b[386:495], "\x00")) > 0:
		return "", errors.New("GNU header with a sparse map or a real size, which libarchive heeds, and a type that is not sparse, which others go by")
	case len(prefix) > 0:
		return "", errors.New("header in the old format with bytes where ustar has the prefix of the name: readers disagree on what it is called")
	}
	return string(name), nil
}
