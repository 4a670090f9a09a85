// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Records of sparse files: "Storing Sparse Files" of the GNU tar manual.
const (
	sparseOffset   = "GNU.sparse.offset" // repeated, in turn with the next
	sparseNumbytes = "GNU.sparse.numbytes"
)

// sparse is where the stored bytes of a sparse file belong.
type sparse struct {
	size      int64 // of the expanded file
	spans     []span
	old       bool // the map is in the header block and its extensions
	inContent bool // the map precedes the data (format 1.0)

	bytes int64  // of headers and map so far
	text  []byte // of a map in the content: what is not yet parsed
	nums  []int64
	want  int64 // numbers in the map, 0 before that is known

	next int   // span at hand
	pos  int64 // in the expanded file
}

// span is a run of stored bytes: n of them go to off.
type span struct{ off, n int64 }

// sparseRecords gathers the records of one file.
type sparseRecords struct {
	found                     bool
	major, minor, name        string
	size, realsize, numblocks string
	table                     []string
	hasMap                    bool
}

func (r *sparseRecords) add(key, value string) error {
	r.found = true
	switch key {
	case "GNU.sparse.major":
		r.major = value
	case "GNU.sparse.minor":
		r.minor = value
	case "GNU.sparse.name":
		r.name = value
		return checkText(value)
	case "GNU.sparse.size":
		r.size = value
	case "GNU.sparse.realsize":
		r.realsize = value
	case "GNU.sparse.numblocks":
		r.numblocks = value
	case "GNU.sparse.map":
		if r.hasMap = true; len(r.table) > 0 {
			return errors.New("two maps")
		}
		if value != "" {
			r.table = strings.Split(value, ",")
		}
	case sparseOffset, sparseNumbytes:
		if r.hasMap || (len(r.table)%2 == 0) != (key == sparseOffset) {
			return errors.New("out of order")
		}
		r.table = append(r.table, value)
	default:
		return errors.New("unknown record")
	}
	return nil
}

// sparse checks that the records are those of one format, and of one only.
func (r *sparseRecords) sparse() (*sparse, error) {
	s := &sparse{}
	var err error
	switch version := r.major + "." + r.minor; version {
	case "1.0":
		if r.size != "" || r.numblocks != "" || r.hasMap || len(r.table) > 0 || r.name == "" {
			return nil, errors.New("extended header: records of two sparse formats, or too few of one")
		}
		s.inContent = true
		if s.size, err = decimal(r.realsize); err != nil {
			return nil, fmt.Errorf("extended header: GNU.sparse.realsize: %w", err)
		}
		return s, nil
	case ".", "0.0", "0.1":
	default:
		return nil, fmt.Errorf("extended header: sparse format %s is unknown", version)
	}
	if r.realsize != "" {
		return nil, errors.New("extended header: records of two sparse formats")
	}
	if s.size, err = decimal(r.size); err != nil {
		return nil, fmt.Errorf("extended header: GNU.sparse.size: %w", err)
	}
	blocks, err := decimal(r.numblocks)
	if err != nil {
		return nil, fmt.Errorf("extended header: GNU.sparse.numblocks: %w", err)
	}
	if len(r.table)%2 != 0 || int64(len(r.table)/2) != blocks {
		return nil, fmt.Errorf("extended header: sparse map of %d numbers for %d spans", len(r.table), blocks)
	}
	for i := 0; i < len(r.table); i += 2 {
		off, err1 := decimal(r.table[i])
		n, err2 := decimal(r.table[i+1])
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("extended header: sparse map: %w", err)
		}
		s.spans = append(s.spans, span{off, n})
	}
	return s, nil
}

// start takes the entry's header block. More of the map may follow.
func (s *sparse) start(b *[blockSize]byte) (more bool, err error) {
	if s.old {
		return s.table(b[386:482], b[482], maxHeader)
	}
	return s.inContent, nil
}

// table takes the part of an old GNU map that is in a header block or in an
// extension of it.
func (s *sparse) table(b []byte, extended byte, limit int64) (more bool, err error) {
	if s.bytes += blockSize; s.bytes > limit {
		return false, fmt.Errorf("sparse map: longer than the limit of %d bytes", limit)
	}
	for ; len(b) >= 24; b = b[24:] {
		if b[0] == 0 && b[12] == 0 {
			if len(bytes.Trim(b, "\x00")) > 0 {
				return false, errors.New("sparse map: something behind its end")
			}
			break
		}
		off, ok1 := number(b[:12])
		n, ok2 := number(b[12:24])
		if b[0] == 0 || b[12] == 0 || !ok1 || !ok2 {
			return false, fmt.Errorf("sparse map: span %q", b[:24])
		}
		s.spans = append(s.spans, span{off, n})
	}
	if extended != 0 && len(b) >= 24 {
		return false, errors.New("sparse map: goes on behind its end")
	}
	return extended != 0, nil
}

// addText takes a block of a map that precedes the data: the number of spans,
// then offset and length of each, decimal, one on a line.
func (s *sparse) addText(b []byte, limit int64) (done bool, err error) {
	if s.bytes += blockSize; s.bytes > limit {
		return false, fmt.Errorf("sparse map: longer than the limit of %d bytes", limit)
	}
	s.text = append(s.text, b...)
	for {
		line, rest, ok := bytes.Cut(s.text, []byte("\n"))
		if !ok {
			return false, nil
		}
		n, err := decimal(string(line))
		if err != nil {
			return false, fmt.Errorf("sparse map: %w", err)
		}
		s.text = rest
		switch {
		case s.want == 0:
			if n > limit {
				return false, fmt.Errorf("sparse map: %d spans", n)
			}
			s.want = 1 + 2*n
		default:
			s.nums = append(s.nums, n)
		}
		if int64(len(s.nums)) == s.want-1 {
			for i := 0; i < len(s.nums); i += 2 {
				s.spans = append(s.spans, span{s.nums[i], s.nums[i+1]})
			}
			s.nums, s.text = nil, nil
			return true, nil
		}
	}
}

// check tells whether the map fits the file and the stored bytes.
func (s *sparse) check(stored int64) error {
	var end, sum int64
	partial := false // the last span with bytes ends within a block
	for _, p := range s.spans {
		if p.off < end || p.n < 0 || p.n > s.size || p.off > s.size-p.n {
			return fmt.Errorf("sparse map: span of %d bytes at %d overlaps another one or the end of the file", p.n, p.off)
		}
		if p.n > 0 && partial {
			return errors.New("sparse map: a span ends within a block: some readers look for the next one behind it, others in the next block")
		}
		partial = partial || p.n%blockSize != 0
		end, sum = p.off+p.n, sum+p.n
	}
	if end != s.size {
		return fmt.Errorf("sparse map: ends at %d, the file at %d: GNU tar goes by the one, others by the other", end, s.size)
	}
	if sum != stored {
		return fmt.Errorf("sparse map: of %d bytes, and %d are stored", sum, stored)
	}
	return nil
}

var zeros [32 << 10]byte

// write hands on stored bytes with the holes before them.
func (s *sparse) write(p []byte, content func([]byte) error) error {
	for len(p) > 0 {
		at := s.spans[s.next]
		if s.pos >= at.off+at.n { // also one without bytes
			s.next++
			continue
		}
		if err := s.hole(at.off, content); err != nil {
			return err
		}
		n := min(at.off+at.n-s.pos, int64(len(p)))
		if err := content(p[:n]); err != nil {
			return err
		}
		s.pos += n
		p = p[n:]
	}
	return nil
}

// finish hands on the hole at the end.
func (s *sparse) finish(content func([]byte) error) error { return s.hole(s.size, content) }

// hole hands on zeros up to offset to.
func (s *sparse) hole(to int64, content func([]byte) error) error {
	for s.pos < to {
		n := min(to-s.pos, int64(len(zeros)))
		if err := content(zeros[:n]); err != nil {
			return err
		}
		s.pos += n
	}
	return nil
}
