// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Edit replaces the Len bytes at offset Off of an archive by New.
type Edit struct {
	Off, Len int64
	New      []byte
}

// Set gives the edit after which the entry has exactly the attributes attrs of
// those that this package names, whatever it had of them before; the attributes
// of others stay. False: it is so already.
//
// An entry without an extended header gets one in front of all its headers, GNU
// long names included, with SCHILY.xattr records sorted by name. Where there is
// one, the records go to its end, and its size and checksum are written anew in
// the style they are found in. An entry for which StripEdit could not undo that
// to the byte is refused. The edit begins at e.Off.
func (e *Entry) Set(attrs map[string][]byte) (Edit, bool, error) {
	var add []byte
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		if !ours(name) {
			return Edit{}, false, fmt.Errorf("%s: not an attribute of ours", name)
		}
		add = appendRecord(add, schilyXattr+name, attrs[name])
	}
	if e.head == nil {
		if len(add) == 0 {
			return Edit{}, false, nil
		}
		return Edit{Off: e.Off, New: append(newHeader(len(add)), pad(add)...)}, true, nil
	}
	if same, err := e.has(attrs); same || err != nil {
		return Edit{}, false, err
	}
	head, err := respell(e.head, e.before, ours, add)
	if err != nil {
		return Edit{}, false, err
	}
	if len(add) > 0 {
		source, err := respell(e.head, e.before, ours, nil)
		if err != nil {
			return Edit{}, false, err
		}
		back, err := respell(head, e.before, ours, nil)
		if err != nil || !bytes.Equal(source, back) {
			return Edit{}, false, errors.New("its extended header is written in a way that could not be restored after an edit")
		}
	}
	return Edit{Off: e.Off, Len: int64(len(e.head)), New: head}, true, nil
}

// StripEdit gives the edit that takes the named attributes of ours off the
// entry. False: it has none of them. What Set put there goes without a trace, an
// extended header that Set made included. The edit begins at e.Off.
func (e *Entry) StripEdit(names ...string) (Edit, bool, error) {
	if e.head == nil {
		return Edit{}, false, nil
	}
	drop := func(name string) bool { return ours(name) && slices.Contains(names, name) }
	head, err := respell(e.head, e.before, drop, nil)
	if err != nil || bytes.Equal(head, e.head) {
		return Edit{}, false, err
	}
	return Edit{Off: e.Off, Len: int64(len(e.head)), New: head}, true, nil
}

// has tells whether the attributes of ours in the extended header are attrs:
// each in a SCHILY.xattr record, and the same where a LIBARCHIVE.xattr record
// has it too.
func (e *Entry) has(attrs map[string][]byte) (bool, error) {
	records, err := recordsOf(e.head[e.before:])
	if err != nil {
		return false, err
	}
	schily := 0
	for _, r := range records {
		name, libarchive, ok := r.attribute()
		if !ok || !ours(name) {
			continue
		}
		value, err := r.attributeValue(libarchive)
		if err != nil {
			return false, err
		}
		if want, ok := attrs[name]; !ok || !bytes.Equal(value, want) {
			return false, nil
		}
		if !libarchive {
			schily++
		}
	}
	return schily == len(attrs), nil
}

// recordsOf splits an extended header: block, data, padding.
func recordsOf(header []byte) ([]record, error) {
	return parseRecords(header[blockSize:][:mustNumber(header[124:136])], nil)
}

// respell writes the headers in head anew, of which the extended one begins at
// before and is the last: without the records of the attributes that drop names,
// and with add behind those that stay. A header that Set made is gone if no
// record is left.
func respell(head []byte, before int, drop func(name string) bool, add []byte) ([]byte, error) {
	records, err := recordsOf(head[before:])
	if err != nil {
		return nil, err
	}
	data := make([]byte, 0, len(head)+len(add))
	dropped := false
	for _, r := range records {
		if name, _, ok := r.attribute(); ok && drop(name) {
			dropped = true
		} else {
			data = append(data, r.raw...)
		}
	}
	if !dropped && len(add) == 0 {
		return head, nil
	}
	data = append(data, add...)
	block := head[before : before+blockSize]
	if len(data) == 0 && before == 0 && bytes.Equal(block, newHeader(int(mustNumber(block[124:136])))) {
		return nil, nil
	}
	if len(data) > maxHeader {
		return nil, fmt.Errorf("its extended header would take %d bytes, readers take %d", len(data), maxHeader)
	}
	block, err = resize(block, len(data))
	if err != nil {
		return nil, err
	}
	return slices.Concat(head[:before], block, pad(data)), nil
}

// pad fills the last block of b with zeros.
func pad(b []byte) []byte { return append(b, make([]byte, padded(int64(len(b)))-int64(len(b)))...) }

// headerTemplate is the extended header that Set inserts, but for size and
// checksum. It says nothing of the entry, so that a thousand of them compress to
// little.
var headerTemplate = func() (b [blockSize]byte) {
	copy(b[0:], "./PaxHeaders/sbom-bless")
	copy(b[100:], "0000644\x000000000\x000000000\x00") // mode, uid, gid
	copy(b[124:], "00000000000\x0000000000000\x00")    // size, mtime
	b[156] = 'x'
	copy(b[257:], "ustar\x0000")
	return b
}()

// newHeader is the extended header that Set inserts for data of this size.
func newHeader(size int) []byte {
	b := headerTemplate
	copy(b[124:], fmt.Sprintf("%011o", size))
	sum, _ := checksums(&b)
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(make([]byte, 0, 4*blockSize), b[:]...)
}

// resize gives the header block another size, and the checksum that follows from
// it, each in the style of the number that was there.
func resize(block []byte, size int) ([]byte, error) {
	b := [blockSize]byte(block)
	old := mustNumber(b[148:156])
	unsigned, _ := checksums(&b)
	if err := respellNumber(b[124:136], int64(size)); err != nil {
		return nil, fmt.Errorf("extended header: size: %w", err)
	}
	sum, signed := checksums(&b)
	if old != unsigned { // as old Sun tar adds up
		sum = signed
	}
	if err := respellNumber(b[148:156], sum); err != nil {
		return nil, fmt.Errorf("extended header: checksum: %w", err)
	}
	return b[:], nil
}

// respellNumber writes n over the number in a field: in base 256 if that was,
// else in octal digits that end where the old ones do and are filled up with
// zeros, or with blanks if the old ones were.
func respellNumber(field []byte, n int64) error {
	if field[0] >= 0x80 {
		for i := len(field) - 1; i > 0; i-- {
			field[i], n = byte(n), n>>8
		}
		return nil
	}
	first := len(field) - len(bytes.TrimLeft(field, " "))
	end := first
	for end < len(field) && field[end] >= '0' && field[end] <= '7' {
		end++
	}
	if first > 0 && field[first] != '0' {
		return putOctal(field[:end], ' ', n)
	}
	return putOctal(field[first:end], '0', n)
}

// putOctal fills field with the octal digits of n and fill before them.
func putOctal(field []byte, fill byte, n int64) error {
	digits := strconv.FormatInt(n, 8)
	if len(digits) > len(field) {
		return fmt.Errorf("%d does not fit in %d octal digits, as it is written", n, len(field))
	}
	at := len(field) - len(digits)
	for i := range at {
		field[i] = fill
	}
	copy(field[at:], digits)
	return nil
}
