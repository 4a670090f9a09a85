// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// preface gathers the headers that precede the one of an entry: extended (x),
// GNU long name (L), GNU long link (K). Global headers (g) are checked and
// dropped: one that changes anything of an entry is refused.
type preface struct {
	begun   bool
	off     int64  // of the first
	raw     []byte // all of them, data and padding included
	kind    byte   // of the last
	data    int    // where in raw its data begins
	size    int    // length of its data
	x, xEnd int    // where in raw the extended header lies; xEnd is 0 without one
	name    []byte // in raw
	link    []byte
	records []record // in raw
}

func (p *preface) reset() {
	*p = preface{raw: p.raw[:0], records: p.records[:0]}
	if cap(p.raw) > 64<<10 {
		p.raw = nil
	}
}

// add begins a header at off whose data is size bytes long.
func (p *preface) add(b *[blockSize]byte, off, size int64) error {
	kind := b[156]
	if p.begun && kind == 'g' {
		return errors.New("a global header between the headers of an entry")
	}
	if kind == 'x' && p.xEnd > 0 || kind == 'L' && p.name != nil || kind == 'K' && p.link != nil {
		return fmt.Errorf("a second header of type %c for one entry: readers disagree on which one holds", kind)
	}
	if !p.begun {
		p.begun, p.off, p.raw = true, off, p.raw[:0]
	}
	at := len(p.raw)
	p.raw = append(p.raw, b[:]...)
	p.kind, p.data, p.size = kind, len(p.raw), int(size)
	if kind == 'x' {
		p.x, p.xEnd = at, p.data+int(padded(size))
	}
	return nil
}

// lastOff is the offset of the header begun last.
func (p *preface) lastOff() int64 { return p.off + int64(p.data) - blockSize }

// end takes the data of the header begun last, which is in raw by now.
func (p *preface) end() error {
	data := p.raw[p.data:][:p.size:p.size]
	switch p.kind {
	case 'L', 'K':
		name := bytes.TrimRight(data, "\x00")
		if len(name) == 0 || bytes.IndexByte(name, 0) >= 0 {
			return fmt.Errorf("long name of %d bytes that is empty or holds a NUL", len(data))
		}
		name = bytes.Clone(name) // raw may move
		if p.kind == 'L' {
			p.name = name
		} else {
			p.link = name
		}
		return nil
	case 'g':
		records, err := parseRecords(data, nil)
		p.reset()
		if err != nil {
			return err
		}
		for _, r := range records {
			if !saysNothing(string(r.key)) {
				return fmt.Errorf("global extended header with %.200q: readers disagree on what it applies to", r.key)
			}
		}
		return nil
	}
	_, err := parseRecords(data, nil)
	return err
}

// saysNothing tells the records of a global header that are about the archive and no entry: git's comment, and what
// star says of itself (star(4), "SCHILY.archtype" and on).
func saysNothing(key string) bool {
	return key == "comment" || key == "SCHILY.archtype" || key == "SCHILY.release" || strings.HasPrefix(key, "SCHILY.volhdr.")
}

// entry puts the entry together whose own header is b, at off. The sparse is nil
// for a file without holes.
func (p *preface) entry(b *[blockSize]byte, off int64) (*Entry, *sparse, error) {
	e := &Entry{Type: b[156], Off: off, content: off + blockSize}
	name, err := rawName(b)
	if err != nil {
		return e, nil, err
	}
	e.Name, e.Linkname = name, string(text(b[157:257]))
	e.Mode, _ = number(b[100:108])
	e.UID, _ = number(b[108:116])
	e.GID, _ = number(b[116:124])
	e.stored, _ = number(b[124:136])
	mtime, _ := number(b[136:148])
	e.ModTime = time.Unix(mtime, 0)
	if string(b[257:262]) == magicUstar[:5] {
		e.Uname, e.Gname = string(text(b[265:297])), string(text(b[297:329]))
		e.Devmajor, _ = number(b[329:337])
		e.Devminor, _ = number(b[337:345])
	}
	if p.name != nil {
		e.Name = string(p.name)
	}
	if p.link != nil {
		e.Linkname = string(p.link)
	}
	if p.begun {
		e.Off = p.off
	}
	var holes *sparse
	if p.xEnd > 0 {
		e.head, e.before = bytes.Clone(p.raw[:p.xEnd]), p.x
		if holes, err = p.apply(e); err != nil {
			return e, nil, err
		}
		if holes != nil && e.Type != '0' && e.Type != 'S' {
			return e, nil, errors.New("PAX sparse map on something else than a regular file of type 0")
		}
		if holes != nil && (string(b[257:263]) != magicUstar || len(bytes.Trim(b[476:], "\x00")) > 0) {
			return e, nil, errors.New("PAX sparse map on a header of another format, where GNU tar takes no notice of it")
		}
	}
	e.Size = e.stored
	switch e.Type {
	case 0, '0', '7':
	case 'S':
		if holes != nil || string(b[257:265]) != magicGNU {
			return e, nil, errors.New("GNU sparse header with a PAX sparse map, or without GNU's magic")
		}
		size, ok := number(b[483:495])
		if !ok {
			return e, nil, fmt.Errorf("real size field %q", b[483:495])
		}
		holes = &sparse{old: true, size: size}
	case '1', '2', '3', '4', '5', '6':
		if e.stored != 0 {
			return e, nil, fmt.Errorf("type %c with %d bytes of content, which some readers take for the next header", e.Type, e.stored)
		}
		if (e.Type == '1' || e.Type == '2') && e.Linkname == "" {
			return e, nil, errors.New("a link to nowhere")
		}
	default:
		return e, nil, fmt.Errorf("type %q is unknown", e.Type)
	}
	if holes != nil {
		e.Sparse, e.Size = true, holes.size
	}
	if err := p.settleType(e, name); err != nil {
		return e, nil, err
	}
	const maxID = 1<<32 - 1
	switch {
	case e.Name == "":
		return e, nil, errors.New("no name")
	case e.Mode < 0, e.UID < 0, e.GID < 0, e.UID > maxID, e.GID > maxID:
		return e, nil, fmt.Errorf("mode %d, uid %d, gid %d: out of range", e.Mode, e.UID, e.GID)
	case e.stored < 0, e.Size < 0, e.stored > 1<<60:
		return e, nil, fmt.Errorf("size %d, %d stored: out of range", e.Size, e.stored)
	}
	return e, holes, nil
}

// settleType decides between file and directory: v7 knows directories by the
// slash behind their name. Readers go by the name in the header block, by the
// one in the extended header, or by the type alone, so all must say the same.
func (p *preface) settleType(e *Entry, rawName string) error {
	slash := strings.HasSuffix(e.Name, "/")
	switch e.Type {
	case 0:
		if strings.HasSuffix(rawName, "/") != slash {
			return errors.New("its two names differ in the slash that tells a directory")
		}
		if e.Type = '0'; slash {
			if e.Type = '5'; e.stored != 0 {
				return fmt.Errorf("a directory with %d bytes of content", e.stored)
			}
		}
	case '0', '7', 'S':
		if e.Type = '0'; slash {
			return errors.New("a regular file whose name ends in a slash: some readers make a directory of it")
		}
	}
	return nil
}
