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

// Prefixes of the records that hold extended attributes: star's and libarchive's
// way. The second has the name percent-encoded and the value in base 64.
const (
	schilyXattr     = "SCHILY.xattr."
	libarchiveXattr = "LIBARCHIVE.xattr."
)

// A record of an extended header is "LENGTH KEY=VALUE\n".
type record struct{ raw, key, value []byte }

// parseRecords splits the data of an extended header and appends the records to
// into. They lie in b.
func parseRecords(b []byte, into []record) ([]record, error) {
	first := len(into)
	for len(b) > 0 {
		i, n := 0, 0
		for i < len(b) && i < 8 && b[i] >= '0' && b[i] <= '9' {
			n = n*10 + int(b[i]-'0')
			i++
		}
		// The shortest is "5 k=\n"; a leading zero is nobody's.
		if i == 0 || b[0] == '0' || n < i+4 || n > len(b) || b[i] != ' ' || b[n-1] != '\n' {
			return into, fmt.Errorf("extended header: malformed record %.40q", b)
		}
		r := record{raw: b[:n:n]}
		var ok bool
		r.key, r.value, ok = bytes.Cut(b[i+1:n-1], []byte("="))
		if !ok || len(r.key) == 0 || bytes.IndexByte(r.key, 0) >= 0 {
			return into, fmt.Errorf("extended header: malformed record %.40q", r.raw)
		}
		into, b = append(into, r), b[n:]
	}
	return into, checkUnique(into[first:])
}

// checkUnique refuses a key that occurs twice: readers disagree on which one
// holds. Only the pairs of sparse format 0.0 are meant to be repeated.
func checkUnique(records []record) error {
	if len(records) < 2 {
		return nil
	}
	seen := make(map[string]bool, len(records))
	for _, r := range records {
		switch key := string(r.key); {
		case key == sparseOffset, key == sparseNumbytes:
		case seen[key]:
			return fmt.Errorf("extended header: %.200q occurs twice", key)
		default:
			seen[key] = true
		}
	}
	return nil
}

// appendRecord adds a record to b. Its length counts its own digits.
func appendRecord(b []byte, key string, value []byte) []byte {
	n := len(key) + len(value) + len(" =\n")
	size := n + len(strconv.Itoa(n))
	if d := len(strconv.Itoa(size)); d != len(strconv.Itoa(n)) {
		size = n + d
	}
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(append(b, ' '), key...)
	return append(append(append(b, '='), value...), '\n')
}

// attribute tells which extended attribute a record holds; base64 if in
// libarchive's form.
func (r record) attribute() (name string, libarchive, ok bool) {
	if rest, ok := bytes.CutPrefix(r.key, []byte(schilyXattr)); ok {
		return string(rest), false, true
	}
	if rest, ok := bytes.CutPrefix(r.key, []byte(libarchiveXattr)); ok {
		name, err := url.PathUnescape(string(rest))
		return name, true, err == nil
	}
	return "", false, false
}

// attributeValue is the value of the attribute in r.
func (r record) attributeValue(libarchive bool) ([]byte, error) {
	if !libarchive {
		return bytes.Clone(r.value), nil
	}
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(string(r.value), "="))
}

// apply gives e what its extended header says, and the map of a sparse file.
func (p *preface) apply(e *Entry) (*sparse, error) {
	size := int(mustNumber(e.head[p.x+124:][:12]))
	var err error
	p.records, err = parseRecords(e.head[p.x+blockSize:][:size], p.records[:0])
	if err != nil {
		return nil, err
	}
	var holes sparseRecords
	var paxSize int64 = -1
	for _, r := range p.records {
		value := string(r.value)
		switch key := string(r.key); key {
		case "path":
			if holes.name != "" {
				err = errors.New("behind GNU.sparse.name: tarfile takes the one for the name, others the other")
			} else if p.name != nil && value != string(p.name) {
				err = errors.New("another one than the GNU long name")
			} else {
				err = checkText(value)
			}
			e.Name = value
		case "linkpath":
			if p.link != nil && value != string(p.link) {
				err = errors.New("another one than the GNU long link")
			} else {
				err = checkText(value)
			}
			e.Linkname = value
		case "size":
			paxSize, err = decimal(value)
		case "uid":
			e.UID, err = decimal(value)
		case "gid":
			e.GID, err = decimal(value)
		case "uname":
			e.Uname, err = value, checkOwner(value)
		case "gname":
			e.Gname, err = value, checkOwner(value)
		case "mtime":
			e.ModTime, err = paxTime(value)
		case "atime", "ctime":
			_, err = paxTime(value)
		case "hdrcharset":
			if value != "BINARY" && value != "ISO-IR 10646 2000 UTF-8" {
				err = errors.New("an unknown character set")
			}
		case "SCHILY.realsize", "SUN.holesdata", "GNU.dumpdir", "GNU.volume.filename", "GNU.volume.size", "GNU.volume.offset":
			err = errors.New("not every reader knows it, and it changes what the content is")
		default:
			if strings.HasPrefix(key, "GNU.sparse.") {
				err = holes.add(key, value)
			} else if strings.HasPrefix(key, schilyXattr) || strings.HasPrefix(key, libarchiveXattr) {
				err = e.addAttribute(r)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("extended header: %.200q: %w", r.key, err)
		}
	}
	if paxSize >= 0 {
		if err := checkSize(paxSize, e.stored); err != nil {
			return nil, fmt.Errorf("extended header: size: %w", err)
		}
		if (holes.found || e.Type == 'S') && paxSize < maxOctal {
			return nil, errors.New("extended header: size: of a sparse file, which readers take for one of two")
		}
		e.stored = paxSize
	}
	if !holes.found {
		return nil, nil
	}
	if holes.name != "" {
		if p.name != nil && holes.name != string(p.name) {
			return nil, errors.New("extended header: GNU.sparse.name: another one than the GNU long name")
		}
		e.Name = holes.name
	}
	return holes.sparse()
}

// addAttribute takes an extended attribute. Where both forms are there, they
// must agree.
func (e *Entry) addAttribute(r record) error {
	name, libarchive, ok := r.attribute()
	if !ok || name == "" || strings.IndexByte(name, 0) >= 0 {
		return errors.New("malformed name of an attribute")
	}
	value, err := r.attributeValue(libarchive)
	if err != nil {
		return err
	}
	if old, ok := e.Xattrs[name]; ok && !bytes.Equal(old, value) {
		return errors.New("the attribute has another value in its other record")
	}
	if e.Xattrs == nil {
		e.Xattrs = map[string][]byte{}
	}
	e.Xattrs[name] = value
	return nil
}

// maxOctal is the least size that needs more than the 11 octal digits of ustar.
const maxOctal = 1 << 33

// checkSize compares the size in the extended header with the one in the entry's
// own. They may differ only where the latter cannot hold it: then writers leave
// 0, or all sevens.
func checkSize(pax, header int64) error {
	if pax == header || pax >= maxOctal && (header == 0 || header == maxOctal-1) {
		return nil
	}
	return fmt.Errorf("%d, the entry's header says %d: readers disagree on where the next entry begins", pax, header)
}

func checkText(s string) error {
	if s == "" {
		return errors.New("empty")
	}
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New("holds a NUL")
	}
	return nil
}

// checkOwner takes an empty name, as node-tar writes it: all readers then go by the number.
func checkOwner(s string) error {
	if s == "" {
		return nil
	}
	return checkText(s)
}

// decimal reads a number of 0 or more.
func decimal(s string) (int64, error) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, fmt.Errorf("%.200q is no number", s)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%.200q is no number", s)
	}
	return n, nil
}

// paxTime reads seconds since 1970 with an optional fraction, such as
// -1.25.
func paxTime(s string) (time.Time, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	sec, err := decimal(whole)
	if err != nil || len(strings.Trim(fraction, "0123456789")) > 0 {
		return time.Time{}, fmt.Errorf("%.200q is no time", s)
	}
	nsec, err := decimal((fraction + "000000000")[:9])
	if err != nil {
		return time.Time{}, err
	}
	if negative {
		sec, nsec = -sec, -nsec
	}
	return time.Unix(sec, nsec), nil
}

// mustNumber reads a field that number has read before.
func mustNumber(field []byte) int64 {
	n, _ := number(field)
	return n
}
