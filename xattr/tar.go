// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"errors"
	"fmt"
	"io"
	"math"
)

const blockSize = 512

var zeroBlock [blockSize]byte

// maxHeader is the largest extended header that archive/tar and libarchive read.
const maxHeader = 1 << 20

// padded rounds n up to whole blocks.
func padded(n int64) int64 { return (n + blockSize - 1) &^ (blockSize - 1) }

// Handler takes what a Scanner finds, in the archive's order. An error that it
// returns ends the scan and comes out of Scanner.Write as it is.
type Handler interface {
	// Entry announces an entry. It is the handler's to keep.
	Entry(*Entry) error
	// Content is a piece of the expanded content of the entry announced last, holes
	// as zeros. It is good until Content returns.
	Content(p []byte) error
	// End tells that the entry announced last is complete. It comes for every entry.
	End() error
}

// Limits bounds what a Scanner keeps in memory.
type Limits struct {
	Header int64 // bytes of an extended header, of a GNU long name, of a sparse map
}

// FormatError tells where an archive is broken, or means different things to
// different readers. It wraps io.ErrUnexpectedEOF if the archive is cut short.
type FormatError struct {
	Name string // of the entry, "" where it has none yet
	Off  int64  // of the header at fault, in bytes
	Err  error
}

func (e *FormatError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("tar header at byte %d: %v", e.Off, e.Err)
	}
	return fmt.Sprintf("tar entry %.200q at byte %d: %v", e.Name, e.Off, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

// Scanner finds the entries of a tar archive that is written to it: v7, ustar,
// star, PAX (POSIX.1-2017, pax, "pax Interchange Format") and GNU ("Standard
// Format" and "Storing Sparse Files" of the GNU tar manual).
//
// It is strict. What archive/tar, GNU tar, libarchive and Python's tarfile would
// read differently is a FormatError, so that nobody signs one file and runs
// another. An archive without an end marker is accepted, as all four do; so are
// bytes behind the marker, unless a header is among them.
type Scanner struct {
	Limits Limits // set before the first Write

	h     Handler
	off   int64 // of the next byte
	state state
	err   error // first error, given again for ever

	block [blockSize]byte // a block of which have bytes were seen
	have  int
	data  int64 // bytes of header data left to collect, padding included
	rest  int64 // bytes of content or padding left
	pre   preface
	entry *Entry // the one at hand, nil between two
	holes *sparse
	toc   bool // there was one behind the end
}

// state is what the next byte belongs to.
type state uint8

const (
	inHeader       state = iota
	inHeaderData         // of x, g, L, K
	inSparseHeader       // extension of an old GNU sparse header
	inSparseMap          // PAX 1.0: before the data
	inContent
	inPadding
	inEnd  // behind one zero block
	inTail // behind two
	inTOC  // in the table of contents there
)

const (
	tocName = "stargz.index.json" // the entry that eStargz keeps its table of contents in
	maxTOC  = 1 << 30
)

// ErrHeaderLimit is wrapped by the error about a header that Limits.Header refuses.
var ErrHeaderLimit = errors.New("more than the limit")

// NewScanner gives a Scanner that reports to h.
func NewScanner(h Handler) *Scanner { return &Scanner{h: h, Limits: Limits{Header: maxHeader}} }

// Fork gives a Scanner that goes on by itself from where s is and reports to h. It is
// for s between two calls of Write, within the content of an entry.
func (s *Scanner) Fork(h Handler) *Scanner {
	f := *s
	f.h, f.pre = h, preface{}
	if s.holes != nil {
		holes := *s.holes
		f.holes = &holes
	}
	return &f
}

// Next is where the next entry begins, at the earliest, of those not announced yet.
func (s *Scanner) Next() int64 {
	switch {
	case s.pre.begun:
		return s.pre.off
	case s.state == inSparseHeader || s.state == inSparseMap:
		return s.entry.Off
	case s.state == inContent:
		return s.entry.Next()
	case s.state == inPadding:
		return s.off + s.rest
	case s.state == inEnd || s.state == inTail:
		return math.MaxInt64
	}
	return s.off - int64(s.have)
}

// Write takes the next bytes of the archive, in pieces of any size.
func (s *Scanner) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && s.err == nil {
		used, err := s.step(p)
		s.off += int64(used)
		p, s.err = p[used:], err
	}
	return n - len(p), s.err
}

// step takes some bytes of p, one at least.
func (s *Scanner) step(p []byte) (int, error) {
	switch s.state {
	case inContent:
		p = p[:min(s.rest, int64(len(p)))]
		s.rest -= int64(len(p))
		return len(p), s.content(p)
	case inPadding:
		n := min(s.rest, int64(len(p)))
		if s.rest -= n; s.rest == 0 {
			s.state = inHeader
		}
		return int(n), nil
	case inHeaderData:
		n := min(s.data, int64(len(p)))
		s.pre.raw = append(s.pre.raw, p[:n]...)
		if s.data -= n; s.data > 0 {
			return int(n), nil
		}
		s.state = inHeader
		return int(n), s.fail(s.pre.lastOff(), s.pre.end())
	}
	if s.have == 0 && len(p) >= blockSize {
		return blockSize, s.take((*[blockSize]byte)(p))
	}
	n := copy(s.block[s.have:], p)
	if s.have += n; s.have < blockSize {
		return n, nil
	}
	s.have = 0
	s.off -= int64(blockSize - n) // take wants the block's own
	err := s.take(&s.block)
	s.off += int64(blockSize - n)
	return n, err
}

// take takes a whole block that begins at s.off.
func (s *Scanner) take(b *[blockSize]byte) error {
	switch s.state {
	case inHeader:
		return s.header(b)
	case inSparseHeader:
		more, err := s.holes.table(b[:504], b[504], s.Limits.Header)
		if err != nil {
			return s.fail(s.off, err)
		}
		s.entry.content += blockSize
		if more {
			return nil
		}
		return s.begin()
	case inSparseMap:
		s.rest -= blockSize
		done, err := s.holes.addText(b[:], s.Limits.Header)
		switch {
		case err != nil:
			return s.fail(s.off, err)
		case done:
			return s.begin()
		case s.rest < blockSize:
			return s.fail(s.off, errors.New("sparse map: longer than the content it is part of"))
		}
		return nil
	case inEnd:
		if *b != zeroBlock {
			return s.fail(s.off, errors.New("a lone zero block: some readers stop there, others go on"))
		}
		s.state = inTail
	case inTail:
		if checkHeader(b) != nil {
			return nil
		}
		size, ok := number(b[124:136])
		if s.toc || string(text(b[:100])) != tocName || b[156] != '0' || !ok || size < 0 || size > maxTOC {
			return s.fail(s.off, errors.New("a second archive behind the end of the first"))
		}
		// Lossless eStargz, as BuildKit writes it: for readers of the layer it is trailing data.
		if s.toc, s.rest = true, padded(size); s.rest > 0 {
			s.state = inTOC
		}
	case inTOC:
		if s.rest -= blockSize; s.rest == 0 {
			s.state = inTail
		}
	}
	return nil
}

// header takes a header block.
func (s *Scanner) header(b *[blockSize]byte) error {
	if *b == zeroBlock {
		if s.pre.begun {
			return s.fail(s.off, errors.New("an extended header that no entry follows"))
		}
		s.state = inEnd
		return nil
	}
	if err := checkHeader(b); err != nil {
		return s.fail(s.off, err)
	}
	switch b[156] {
	case 'x', 'g', 'L', 'K':
		size, ok := number(b[124:136])
		if !ok || size < 0 {
			return s.fail(s.off, fmt.Errorf("size field %q", b[124:136]))
		}
		if size > s.Limits.Header {
			return s.fail(s.off, fmt.Errorf("extended header of %d bytes: %w of %d", size, ErrHeaderLimit, s.Limits.Header))
		}
		if err := s.pre.add(b, s.off, size); err != nil {
			return s.fail(s.off, err)
		}
		if s.data = padded(size); s.data > 0 {
			s.state = inHeaderData
			return nil
		}
		return s.fail(s.off, s.pre.end())
	}
	e, holes, err := s.pre.entry(b, s.off)
	s.pre.reset()
	s.entry, s.holes = e, holes
	if err != nil {
		return s.fail(s.off, err)
	}
	s.rest = e.stored
	if holes != nil {
		more, err := holes.start(b)
		switch {
		case err != nil:
			return s.fail(s.off, err)
		case more && holes.inContent && s.rest < blockSize:
			return s.fail(s.off, errors.New("sparse map: longer than the content it is part of"))
		case more && holes.inContent:
			s.state = inSparseMap
			return nil
		case more:
			s.state = inSparseHeader
			return nil
		}
	}
	return s.begin()
}

// begin announces the entry whose headers are complete.
func (s *Scanner) begin() error {
	if s.holes != nil {
		if err := s.holes.check(s.rest); err != nil {
			return s.fail(s.entry.Off, err)
		}
	}
	s.state = inContent
	if err := s.h.Entry(s.entry); err != nil {
		return err
	}
	if s.rest == 0 {
		return s.end()
	}
	return nil
}

// content hands on stored bytes.
func (s *Scanner) content(p []byte) error {
	write := s.h.Content
	var err error
	if s.holes == nil {
		err = write(p)
	} else {
		err = s.holes.write(p, write)
	}
	if err == nil && s.rest == 0 {
		err = s.end()
	}
	return err
}

// end finishes an entry all of whose stored bytes were handed on.
func (s *Scanner) end() error {
	if s.holes != nil {
		if err := s.holes.finish(s.h.Content); err != nil {
			return err
		}
	}
	s.state = inHeader
	if s.rest = padded(s.entry.stored) - s.entry.stored; s.rest > 0 {
		s.state = inPadding
	}
	s.entry = nil
	return s.h.End()
}

// Close checks that the archive is complete. Before that, nothing of it is
// proved.
func (s *Scanner) Close() error {
	switch {
	case s.err != nil:
		return s.err
	case s.state == inTail,
		(s.state == inHeader || s.state == inEnd) && s.have == 0 && !s.pre.begun:
		return nil
	case s.state == inHeader && s.have == 0:
		return s.fail(s.off, errors.New("an extended header that no entry follows"))
	}
	return s.fail(s.off, io.ErrUnexpectedEOF)
}

// fail turns an error about the archive into a FormatError.
func (s *Scanner) fail(off int64, err error) error {
	if err == nil {
		return nil
	}
	e := &FormatError{Off: off, Err: err}
	if s.entry != nil {
		e.Name = s.entry.Name
	}
	return e
}
