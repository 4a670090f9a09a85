// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxOctal is the least size that the 11 octal digits of a ustar field cannot say.
const maxOctal = 1 << 33

// parseNumber reads a numeric field: octal digits between blanks and an end of
// NULs or blanks, or base 256 where the first bit is set (GNU tar manual,
// "Extensions").
func parseNumber(field []byte) (int64, error) {
	if field[0]&0x80 != 0 {
		negative := field[0]&0x40 != 0
		var n int64
		for i, c := range field {
			if i == 0 {
				c &= 0x7f
				if negative {
					c |= 0x80
					n = -1
				}
			}
			if n > 1<<54 || n < -(1<<54) {
				return 0, errors.New("a number that is too large")
			}
			n = n<<8 | int64(c)
		}
		return n, nil
	}
	s := strings.TrimLeft(string(field), " ")
	if i := strings.IndexAny(s, "\x00 "); i >= 0 {
		if strings.Trim(s[i:], "\x00 ") != "" {
			return 0, fmt.Errorf("number %q", field)
		}
		s = s[:i]
	}
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 8, 62)
	if err != nil {
		return 0, fmt.Errorf("number %q", field)
	}
	return int64(n), nil
}

// headerSum is the sum of the bytes of a header block, the checksum field as
// blanks.
func headerSum(b []byte) (n int64) {
	for i, c := range b[:blockSize] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		n += int64(c)
	}
	return n
}

func checkSum(b []byte) error {
	want, err := parseNumber(b[148:156])
	if err != nil || want != headerSum(b) {
		return errors.New("no tar header: the checksum is wrong")
	}
	return nil
}

// text reads a field that a NUL ends or that is full.
func text(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}

// extensions are the headers that stand before an entry's own.
type extensions struct {
	off  int64 // of the first
	kind byte  // of the one at hand
	// at hand, and then kept for 'x':
	block    []byte
	blockOff int64
	size     int

	pax          []byte
	paxOff       int64
	records      []record
	name, link   *string // GNU long names
	seen, global bool
}

// any tells whether an entry has begun.
func (x *extensions) any() bool { return x.seen }

func (x *extensions) begin(b []byte, off int64) error {
	x.kind, x.blockOff = b[156], off
	x.block = append([]byte(nil), b...)
	size, _ := parseNumber(b[124:136]) // checked by the caller
	x.size = int(size)
	switch {
	case x.kind == 'g' && x.seen:
		return errors.New("a global PAX header among the headers of an entry")
	case x.kind == 'x' && x.pax != nil, x.kind == 'L' && x.name != nil, x.kind == 'K' && x.link != nil:
		return fmt.Errorf("a second header of type %q for one entry", x.kind)
	}
	x.seen = true
	return nil
}

// end takes the content of the header that was begun, padding included.
func (x *extensions) end(b []byte) error {
	body := b[:min(x.size, len(b))]
	switch x.kind {
	case 'g':
		*x = extensions{}
		return checkGlobal(body)
	case 'L', 'K':
		name := text(body)
		if name == "" || bytes.Contains(bytes.TrimRight(body, "\x00"), []byte{0}) {
			return errors.New("a GNU long name that is empty or holds a NUL")
		}
		if x.kind == 'L' {
			x.name = &name
		} else {
			x.link = &name
		}
		return nil
	}
	var err error
	if x.records, err = parseRecords(body); err != nil {
		return err
	}
	x.pax, x.paxOff = append(x.block, b...), x.blockOff
	if x.records == nil {
		x.records = []record{}
	}
	return nil
}

// A record is one of a PAX header; raw is "LENGTH KEY=VALUE\n".
type record struct {
	key   string
	value []byte
	raw   []byte
}

// parseRecords splits the content of a PAX header.
func parseRecords(b []byte) ([]record, error) {
	var all []record
	seen := map[string]bool{}
	for len(b) > 0 {
		i := bytes.IndexByte(b[:min(len(b), 20)], ' ')
		if i <= 0 || b[0] < '1' || b[0] > '9' {
			return nil, errors.New("a PAX record without a length")
		}
		n, err := strconv.ParseUint(string(b[:i]), 10, 31)
		if err != nil || int(n) > len(b) || int(n) < i+3 {
			return nil, fmt.Errorf("a PAX record of length %q among %d bytes", b[:i], len(b))
		}
		raw := append([]byte(nil), b[:n]...)
		b = b[n:]
		key, value, ok := bytes.Cut(raw[i+1:], []byte("="))
		if !ok || len(key) == 0 || raw[len(raw)-1] != '\n' || bytes.IndexByte(key, 0) >= 0 {
			return nil, fmt.Errorf("a malformed PAX record: %.40q", raw)
		}
		r := record{string(key), value[:len(value)-1], raw}
		// The old sparse format repeats these two (GNU tar manual, "PAX 0").
		if seen[r.key] && r.key != "GNU.sparse.offset" && r.key != "GNU.sparse.numbytes" {
			return nil, fmt.Errorf("the PAX record %q stands twice", r.key)
		}
		seen[r.key] = true
		all = append(all, r)
	}
	return all, nil
}

// checkGlobal accepts a global PAX header that changes nothing of the entries,
// such as the comment of git archive.
func checkGlobal(b []byte) error {
	records, err := parseRecords(b)
	if err != nil {
		return err
	}
	for _, r := range records {
		switch key, _, _ := strings.Cut(r.key, "."); key {
		case "path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "atime", "ctime", "charset", "hdrcharset",
			"GNU", "SCHILY", "LIBARCHIVE", "SUN", "RHT", "SOLARIS":
			return fmt.Errorf("a global PAX header with the record %q, which readers apply in different ways", r.key)
		}
	}
	return nil
}

// entry puts the header block b, which lies at off, and the extensions before
// it together.
func (x *extensions) entry(b []byte, off int64) (*Entry, error) {
	e := &Entry{Off: off, Type: b[156], pax: x.pax, paxOff: x.paxOff, records: x.records, content: off + blockSize}
	if x.seen {
		e.Off = x.off
	}
	if string(b[257:265]) == "ustar  \x00" { // GNU: two times stand where ustar has the prefix
		for _, at := range []int{345, 357} {
			if _, err := parseNumber(b[at : at+12]); err != nil {
				return nil, errors.New("a GNU header with a ustar prefix, which some readers add to the name")
			}
		}
	}
	ustar := string(b[257:263]) == "ustar\x00"
	e.Name, e.Linkname = text(b[:100]), text(b[157:257])
	if prefix := text(b[345:500]); ustar && string(b[263:265]) == "00" && prefix != "" && string(b[508:512]) != "tar\x00" {
		e.Name = prefix + "/" + e.Name
	}
	var err error
	number := func(field []byte, name string) int64 {
		n, e := parseNumber(field)
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", name, e)
		}
		return n
	}
	e.Mode, e.UID, e.GID = number(b[100:108], "mode"), number(b[108:116], "uid"), number(b[116:124], "gid")
	e.stored = number(b[124:136], "size")
	e.ModTime = time.Unix(number(b[136:148], "mtime"), 0)
	if err != nil {
		return nil, err
	}
	if x.name != nil {
		e.Name = *x.name
	}
	if x.link != nil {
		e.Linkname = *x.link
	}
	switch e.Type {
	case 0, '0', '7', 'S':
		if e.Type != 'S' && strings.HasSuffix(e.Name, "/") {
			e.Type = '5' // as V7 archives say directory
		} else {
			e.Type = '0'
		}
	case '1', '2', '3', '4', '5', '6':
	default:
		return nil, fmt.Errorf("%q: an entry of type %q", e.Name, e.Type)
	}
	e.Size = e.stored
	if b[156] == 'S' {
		e.Sparse = true
		if e.Size, err = parseNumber(b[483:495]); err != nil {
			return nil, err
		}
	}
	if err := e.applyRecords(x, b[156] == 'S'); err != nil {
		return nil, fmt.Errorf("%q: %w", e.Name, err)
	}
	switch {
	case e.stored < 0 || e.Size < 0:
		return nil, fmt.Errorf("%q: a size below zero", e.Name)
	case e.stored > 1<<60:
		return nil, fmt.Errorf("%q: %d bytes", e.Name, e.stored)
	case e.Type != '0' && e.stored != 0:
		return nil, fmt.Errorf("%q: an entry of type %q with content, which some readers take for the next header", e.Name, e.Type)
	case e.Name == "":
		return nil, errors.New("an entry without a name")
	}
	return e, nil
}

// applyRecords changes e by its PAX records.
func (e *Entry) applyRecords(x *extensions, oldGNU bool) error {
	base64Attrs := map[string][]byte{}
	var sparseName string
	sparseSize := int64(-1)
	for _, r := range e.records {
		v := string(r.value)
		var err error
		switch r.key {
		case "path":
			if err = textRecord(v); x.name != nil && *x.name != v {
				err = errors.New("a GNU long name and another PAX path")
			}
			e.Name = v
		case "linkpath":
			if err = textRecord(v); x.link != nil && *x.link != v {
				err = errors.New("a GNU long link and another PAX linkpath")
			}
			e.Linkname = v
		case "size":
			var n int64
			n, err = decimal(v)
			if err == nil && n != e.stored && n < maxOctal {
				err = fmt.Errorf("PAX says %d, the header %d", n, e.stored)
			}
			e.stored = n
		case "uid":
			e.UID, err = decimal(v)
		case "gid":
			e.GID, err = decimal(v)
		case "mtime":
			e.ModTime, err = paxTime(v)
		case "hdrcharset", "charset":
			if v != "BINARY" && v != "ISO-IR 10646 2000 UTF-8" {
				err = errors.New("an unknown character set")
			}
		case "GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.numblocks":
			e.Sparse = true
		case "GNU.sparse.name":
			err, sparseName = textRecord(v), v
		case "GNU.sparse.realsize", "GNU.sparse.size":
			sparseSize, err = decimal(v)
		default:
			if name, ok := strings.CutPrefix(r.key, "SCHILY.xattr."); ok {
				e.setXattr(name, r.value)
			} else if name, ok := strings.CutPrefix(r.key, "LIBARCHIVE.xattr."); ok {
				if name, err = url.PathUnescape(name); err == nil {
					base64Attrs[name], err = base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
				}
			}
		}
		if err != nil {
			return fmt.Errorf("PAX record %s: %w", r.key, err)
		}
	}
	for name, value := range base64Attrs {
		if old, ok := e.Xattrs[name]; ok && !bytes.Equal(old, value) {
			return fmt.Errorf("the attribute %s differs between its SCHILY and its LIBARCHIVE record", name)
		}
		e.setXattr(name, value)
	}
	if oldGNU { // its size stood in the header block
		return nil
	}
	e.Size = e.stored
	if !e.Sparse {
		return nil
	}
	if sparseName != "" {
		e.Name = sparseName
	}
	if e.Type != '0' || sparseSize < 0 {
		return errors.New("a sparse entry that is no file, or without a size")
	}
	e.Size = sparseSize
	return nil
}

func (e *Entry) setXattr(name string, value []byte) {
	if e.Xattrs == nil {
		e.Xattrs = map[string][]byte{}
	}
	e.Xattrs[name] = value
}

func textRecord(v string) error {
	if v == "" || strings.IndexByte(v, 0) >= 0 {
		return errors.New("is empty or holds a NUL")
	}
	return nil
}

func decimal(v string) (int64, error) {
	n, err := strconv.ParseUint(v, 10, 62)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", v)
	}
	return int64(n), nil
}

// paxTime reads seconds with a fraction.
func paxTime(v string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(v, ".")
	sec, err := strconv.ParseInt(whole, 10, 62)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time", v)
	}
	for _, c := range fraction {
		if c < '0' || c > '9' {
			return time.Time{}, fmt.Errorf("%q is no time", v)
		}
	}
	nsec, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if strings.HasPrefix(v, "-") {
		nsec = -nsec
	}
	return time.Unix(sec, nsec), nil
}
