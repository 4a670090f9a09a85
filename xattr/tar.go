// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Entry is one entry of a tar archive, its extension headers resolved.
type Entry struct {
	// Name is as in the archive: not cleaned.
	Name string
	// Type is the type flag; regular files of every kind (NUL, '7', 'S') are '0'.
	Type     byte
	Mode     int64
	UID, GID int64
	// Size is the size of the content, holes of a sparse file included.
	Size     int64
	ModTime  time.Time
	Linkname string
	// Xattrs are the extended attributes (SCHILY.xattr and LIBARCHIVE.xattr).
	Xattrs map[string][]byte
	Sparse bool
	// Off is where the first header block of the entry lies.
	Off int64

	pax     []byte // the PAX header as it is, its block and its padded records; nil: none
	paxOff  int64
	records []record
	content int64 // offset of the content
	stored  int64 // its size in the archive
}

// Stored is the size of the content in the archive, in bytes.
func (e *Entry) Stored() int64 { return e.stored }

// Next is the offset at which the next entry may begin.
func (e *Entry) Next() int64 { return e.content + pad(e.stored) }

// Handler is told of the entries of an archive, in order: for each one Entry,
// then Content for each piece of what it contains, holes as zeros, then End. An
// error stops the Scanner and is returned as it is.
type Handler interface {
	Entry(*Entry) error
	Content(p []byte) error
	End() error
}

// Scanner reads an archive that is written to it, in pieces of any size: V7,
// ustar, PAX and GNU formats (POSIX.1-2017 pax, GNU tar manual "Standard Format").
// It accepts what archive/tar, GNU tar, libarchive and Python's tarfile read
// alike, and refuses what they would read in different ways.
type Scanner struct {
	h   Handler
	off int64 // of the next byte
	err error

	state   state
	buf     []byte // a block or an extension that is not yet complete
	want    int    // how many bytes buf is to get
	rest    int64  // bytes left of the content, or of padding
	padding int64  // that follows
	ext     extensions
	entry   *Entry
	sparse  *sparseWriter
	inEntry bool
	ended   bool // the end marker was whole
}

type state uint8

const (
	inHeader state = iota
	inExtension
	inSparseBlock // of the old GNU format
	inSparseMap   // of PAX format 1.0, at the start of the content
	inContent
	inPadding
	inTrailer
)

const (
	blockSize = 512
	// maxExtension is the largest PAX header or GNU long name. Those of real
	// archives are a few KiB; Linux holds attributes to 64 KiB each.
	maxExtension = 1 << 20
)

// NewScanner makes a Scanner that tells h.
func NewScanner(h Handler) *Scanner {
	return &Scanner{h: h, want: blockSize, buf: make([]byte, 0, 4*blockSize)}
}

func pad(n int64) int64 { return (n + blockSize - 1) &^ (blockSize - 1) }

// Write takes the next bytes of the archive. After an error it gives the same
// error again.
func (s *Scanner) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n := len(p)
	for len(p) > 0 {
		used, err := s.step(p)
		s.off += int64(used)
		p = p[used:]
		if err != nil {
			s.err = err
			return n - len(p), err
		}
	}
	return n, nil
}

// Close tells that the archive ends here.
func (s *Scanner) Close() error {
	if s.err != nil {
		return s.err
	}
	s.err = errors.New("the archive is closed")
	switch {
	case s.state == inTrailer: // a lone zero block at the very end is enough for all readers
		return nil
	case s.state == inHeader && len(s.buf) == 0 && !s.ext.any():
		return nil // without an end marker, as some tools write
	case s.entry != nil && s.state != inHeader:
		return fmt.Errorf("%q: the archive ends within the entry: %w", s.entry.Name, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("at byte %d: the archive ends within a header: %w", s.off, io.ErrUnexpectedEOF)
}

// step takes a first part of p.
func (s *Scanner) step(p []byte) (int, error) {
	switch s.state {
	case inContent:
		n := int(min(s.rest, int64(len(p))))
		if err := s.deliver(p[:n]); err != nil {
			return n, err
		}
		if s.rest -= int64(n); s.rest == 0 {
			return n, s.endContent()
		}
		return n, nil
	case inPadding:
		n := int(min(s.rest, int64(len(p))))
		if s.rest -= int64(n); s.rest == 0 {
			s.state = inHeader
		}
		return n, nil
	}
	n := min(s.want-len(s.buf), len(p))
	s.buf = append(s.buf, p[:n]...)
	if len(s.buf) < s.want {
		return n, nil
	}
	err := s.block(s.off + int64(n) - int64(s.want))
	return n, err
}

// block takes a complete buf, which lies at off.
func (s *Scanner) block(off int64) error {
	buf := s.buf
	s.buf, s.want = s.buf[:0], blockSize
	var err error
	switch s.state {
	case inHeader:
		err = s.header(buf, off)
	case inExtension:
		err = s.extension(buf, off)
	case inSparseBlock:
		err = s.sparseBlock(buf)
	case inSparseMap:
		err = s.sparseMap(buf)
	case inTrailer:
		err = s.trailer(buf)
	}
	if err == nil {
		return nil
	}
	if s.inEntry {
		return err // of the handler, or named already
	}
	return fmt.Errorf("at byte %d: %w", off, err)
}

// header takes a header block.
func (s *Scanner) header(b []byte, off int64) error {
	if allZero(b) {
		if s.ext.any() {
			return errors.New("an extension header that nothing follows")
		}
		s.state = inTrailer
		return nil
	}
	if err := checkSum(b); err != nil {
		return err
	}
	if !s.ext.any() {
		s.ext.off = off
	}
	switch b[156] {
	case 'x', 'g', 'L', 'K':
		size, err := parseNumber(b[124:136])
		if err != nil || size < 0 || size > maxExtension {
			return fmt.Errorf("extension header of size %d, more than %d, or unreadable", size, maxExtension)
		}
		if err := s.ext.begin(b, off); err != nil {
			return err
		}
		if size == 0 {
			return s.ext.end(nil)
		}
		s.state, s.want = inExtension, int(pad(size))
		return nil
	}
	e, err := s.ext.entry(b, off)
	s.ext = extensions{}
	if err != nil {
		return err
	}
	s.entry = e
	return s.begin(b)
}

// trailer takes a block behind the first zero block. A second one ends the
// archive; what is behind that is not read by anyone, unless it is an archive
// that readers may be told to go on with (GNU tar --ignore-zeros).
func (s *Scanner) trailer(b []byte) error {
	switch {
	case allZero(b):
		s.ended = true
	case !s.ended:
		return errors.New("a lone zero block: some readers stop here, others go on")
	case checkSum(b) == nil:
		return errors.New("a second archive behind the end of the first")
	}
	return nil
}

// extension takes the content of an extension header, with its padding.
func (s *Scanner) extension(b []byte, _ int64) error {
	s.state = inHeader
	return s.ext.end(b)
}

// begin goes on behind the header block b of s.entry: to what tells where the
// data of a sparse file goes, or to the content.
func (s *Scanner) begin(b []byte) error {
	e := s.entry
	s.sparse = nil
	if b[156] == 'S' {
		s.sparse = &sparseWriter{size: e.Size}
		more, err := s.sparse.oldGNU(b[386:482], b[482])
		if err != nil {
			return err
		}
		if more {
			s.state = inSparseBlock
			return nil
		}
		return s.start()
	}
	if e.Sparse {
		s.sparse = &sparseWriter{size: e.Size}
		done, err := s.sparse.fromRecords(e.records)
		if err != nil {
			return err
		}
		if !done {
			s.state = inSparseMap
			return nil
		}
	}
	return s.start()
}

// sparseBlock takes a continuation block of the old GNU format.
func (s *Scanner) sparseBlock(b []byte) error {
	s.entry.content += blockSize
	more, err := s.sparse.oldGNU(b[:504], b[504])
	if err != nil || more {
		return err
	}
	return s.start()
}

// sparseMap takes a block of the map of PAX format 1.0.
func (s *Scanner) sparseMap(b []byte) error {
	s.sparse.mapSize += blockSize
	done, err := s.sparse.pax10(b)
	if err != nil || !done {
		return err
	}
	return s.start()
}

// start announces the entry and goes on to its content.
func (s *Scanner) start() error {
	e := s.entry
	s.rest = e.stored
	if s.sparse != nil {
		s.rest -= s.sparse.mapSize
		if err := s.sparse.check(s.rest); err != nil {
			return err
		}
	}
	s.padding = pad(e.stored) - e.stored
	s.inEntry = true
	if err := s.h.Entry(e); err != nil {
		return err
	}
	s.state = inContent
	if s.rest == 0 {
		return s.endContent()
	}
	return nil
}

// deliver hands content to the handler.
func (s *Scanner) deliver(p []byte) error {
	if s.sparse == nil {
		return s.h.Content(p)
	}
	return s.sparse.write(p, s.h.Content)
}

func (s *Scanner) endContent() error {
	if s.sparse != nil {
		if err := s.sparse.finish(s.h.Content); err != nil {
			return err
		}
	}
	if err := s.h.End(); err != nil {
		return err
	}
	s.inEntry = false
	s.state = inHeader
	if s.padding > 0 {
		s.state, s.rest = inPadding, s.padding
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
