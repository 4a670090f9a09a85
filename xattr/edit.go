// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Edit replaces Len bytes at Off of an archive by New.
type Edit struct {
	Off, Len int64
	New      []byte
}

// paxName is the name in the PAX headers that Set adds. It is the same for every
// entry, so that the headers compress well.
const paxName = "PaxHeaders/sbom-bless"

// Set returns the edit after which the entry has exactly these of the three
// attributes; false: it has them already. Attributes of other names stay as
// they are.
//
// An entry without a PAX header gets one, before all of its headers. An entry
// that has one gets our records at its end, and only the size and the checksum
// of that header change with it.
func (e *Entry) Set(attrs map[string][]byte) (Edit, bool, error) {
	kept, _ := e.others(ours)
	records := kept
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		if !ours(name) {
			return Edit{}, false, fmt.Errorf("%s is not an attribute to set", name)
		}
		records = appendRecord(records, "SCHILY.xattr."+name, attrs[name])
	}
	return e.rewrite(records)
}

// StripEdit returns the edit that takes the named attributes away; false: it has
// none of them. After Set on an entry that had none of the three, it gives back the
// bytes from before.
func (e *Entry) StripEdit(names ...string) (Edit, bool, error) {
	kept, found := e.others(func(name string) bool { return slices.Contains(names, name) })
	if !found {
		return Edit{}, false, nil
	}
	return e.rewrite(kept)
}

// others are the records but those of the attributes that out names.
func (e *Entry) others(out func(name string) bool) (kept []byte, found bool) {
	for _, r := range e.records {
		name, ok := strings.CutPrefix(r.key, "SCHILY.xattr.")
		if !ok {
			name, ok = strings.CutPrefix(r.key, "LIBARCHIVE.xattr.")
		}
		if ok && out(name) {
			found = true
			continue
		}
		kept = append(kept, r.raw...)
	}
	return kept, found
}

// rewrite returns the edit that gives the entry these PAX records.
func (e *Entry) rewrite(records []byte) (Edit, bool, error) {
	if e.pax == nil {
		if len(records) == 0 {
			return Edit{}, false, nil
		}
		return Edit{Off: e.Off, New: newPAX(records)}, true, nil
	}
	edit := Edit{Off: e.paxOff, Len: int64(len(e.pax))}
	if text(e.pax[:100]) == paxName {
		if len(records) > 0 {
			edit.New = newPAX(records)
		}
	} else {
		header, err := resized(e.pax, len(records))
		if err != nil {
			return Edit{}, false, fmt.Errorf("its PAX header: %w", err)
		}
		edit.New = padded(append(header, records...))
	}
	if bytes.Equal(edit.New, e.pax) {
		return Edit{}, false, nil
	}
	return edit, true, nil
}

func padded(b []byte) []byte { return append(b, make([]byte, int(pad(int64(len(b))))-len(b))...) }

// appendRecord appends a PAX record, whose length counts its own digits.
func appendRecord(b []byte, key string, value []byte) []byte {
	n := len(key) + len(value) + 3 // " ", "=", "\n"
	size := n + len(strconv.Itoa(n))
	if len(strconv.Itoa(size)) != len(strconv.Itoa(n)) {
		size = n + len(strconv.Itoa(size))
	}
	b = append(strconv.AppendInt(b, int64(size), 10), ' ')
	b = append(append(b, key...), '=')
	return append(append(b, value...), '\n')
}

// newPAX is a PAX header of our own with these records.
func newPAX(records []byte) []byte {
	b := make([]byte, blockSize, int(pad(int64(len(records))))+blockSize)
	copy(b, paxName)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", len(records)))
	copy(b[136:], "00000000000\x00")
	b[156] = 'x'
	copy(b[257:], "ustar\x0000")
	copy(b[148:], fmt.Sprintf("%06o\x00 ", headerSum(b)))
	return padded(append(b, records...))
}

// resized is the header block of a PAX header with another size, and the checksum
// that goes with it, both written as they were found. It fails where writing
// the old numbers in that way would not give the old bytes: the edit could not be
// undone then.
func resized(pax []byte, size int) ([]byte, error) {
	b := bytes.Clone(pax[:blockSize])
	old, err := parseNumber(b[124:136])
	if err != nil {
		return nil, err
	}
	if end := blockSize + int(old); !allZero(pax[end:]) {
		return nil, errors.New("its padding is not zero, so that it could not be put back")
	}
	if err := rewriteNumber(b[124:136], old, int64(size)); err != nil {
		return nil, err
	}
	sum, err := parseNumber(b[148:156])
	if err != nil {
		return nil, err
	}
	return b, rewriteNumber(b[148:156], sum, headerSum(b))
}

// rewriteNumber writes n over the number old in an octal field, in its style:
// the same width, filled from the left with what fills it now.
func rewriteNumber(field []byte, old, n int64) error {
	end := bytes.IndexAny(bytes.TrimLeft(field, " "), "\x00 ")
	if end < 0 {
		end = len(field)
	} else {
		end += len(field) - len(bytes.TrimLeft(field, " "))
	}
	fill := byte('0')
	if field[0] == ' ' {
		fill = ' '
	}
	format := func(n int64) []byte {
		digits := strconv.FormatInt(n, 8)
		if len(digits) > end {
			return nil
		}
		return append(bytes.Repeat([]byte{fill}, end-len(digits)), digits...)
	}
	if field[0]&0x80 != 0 || !bytes.Equal(format(old), field[:end]) {
		return fmt.Errorf("the number %q is written in a way that could not be put back", field)
	}
	if format(n) == nil {
		return fmt.Errorf("%d does not fit in %d octal digits", n, end)
	}
	copy(field, format(n))
	return nil
}
