// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// sparseWriter spreads the stored data of a sparse file over the file (GNU tar
// manual, "Sparse Formats").
type sparseWriter struct {
	size    int64 // of the file
	spans   []span
	mapSize int64 // of the map at the start of the content, PAX 1.0

	text    []byte // of that map, not yet parsed
	numbers []int64
	at      int64 // how much of the file was written
	span    int   // at hand
	inSpan  int64 // bytes of it written
}

type span struct{ off, n int64 }

// maxSpans bounds the memory of a map.
const maxSpans = 1 << 20

// oldGNU reads pairs of numbers, and tells whether another block of them follows.
func (w *sparseWriter) oldGNU(b []byte, extended byte) (more bool, err error) {
	for ; len(b) >= 24; b = b[24:] {
		if b[0] == 0 {
			break
		}
		off, err := parseNumber(b[:12])
		if err != nil {
			return false, err
		}
		n, err := parseNumber(b[12:24])
		if err != nil {
			return false, err
		}
		w.spans = append(w.spans, span{off, n})
	}
	if len(w.spans) > maxSpans {
		return false, errors.New("a sparse file of too many pieces")
	}
	return extended != 0, nil
}

// fromRecords reads the map of PAX formats 0.0 and 0.1; it is not done where the
// map of format 1.0 stands in the content.
func (w *sparseWriter) fromRecords(records []record) (done bool, err error) {
	var pairs []string
	for _, r := range records {
		switch r.key {
		case "GNU.sparse.major":
			if string(r.value) == "1" {
				return false, nil
			}
			if string(r.value) != "0" {
				return false, fmt.Errorf("sparse format %s", r.value)
			}
		case "GNU.sparse.offset", "GNU.sparse.numbytes":
			if (len(pairs)%2 == 0) != (r.key == "GNU.sparse.offset") {
				return false, errors.New("a sparse map out of order")
			}
			pairs = append(pairs, string(r.value))
		case "GNU.sparse.map":
			if len(r.value) > 0 {
				pairs = strings.Split(string(r.value), ",")
			}
		}
	}
	for _, p := range pairs {
		n, err := decimal(p)
		if err != nil {
			return false, err
		}
		w.numbers = append(w.numbers, n)
	}
	return true, w.pair(w.numbers)
}

func (w *sparseWriter) pair(numbers []int64) error {
	if len(numbers)%2 != 0 {
		return errors.New("a sparse map of an odd number of numbers")
	}
	for i := 0; i < len(numbers); i += 2 {
		w.spans = append(w.spans, span{numbers[i], numbers[i+1]})
	}
	return nil
}

// pax10 reads a block of the map of format 1.0: decimal numbers, one on a line,
// the first of them the number of pairs.
func (w *sparseWriter) pax10(b []byte) (done bool, err error) {
	if w.mapSize > maxExtension {
		return false, errors.New("a sparse map of too many pieces")
	}
	w.text = append(w.text, b...)
	for {
		line, rest, ok := bytes.Cut(w.text, []byte("\n"))
		if !ok {
			return false, nil
		}
		n, err := strconv.ParseUint(string(line), 10, 62)
		if err != nil {
			return false, fmt.Errorf("%.20q in a sparse map", line)
		}
		w.text = rest
		w.numbers = append(w.numbers, int64(n))
		if w.numbers[0] > maxSpans {
			return false, errors.New("a sparse file of too many pieces")
		}
		if int64(len(w.numbers)) == 1+2*w.numbers[0] {
			w.text = nil
			return true, w.pair(w.numbers[1:])
		}
	}
}

// check holds the map to the file and to the stored bytes.
func (w *sparseWriter) check(stored int64) error {
	var at, sum int64
	for i, s := range w.spans {
		if s.n%blockSize != 0 && i < len(w.spans)-1 && w.spans[i+1].n > 0 {
			return errors.New("a sparse map with a piece that ends within a block, where GNU tar goes on at the next block and others do not")
		}
		if s.off < at || s.n < 0 || s.off > w.size || s.n > w.size-s.off {
			return errors.New("a sparse map whose pieces overlap or lie outside the file")
		}
		at = s.off + s.n
		sum += s.n
	}
	if sum != stored {
		return fmt.Errorf("a sparse map of %d bytes, and %d are stored", sum, stored)
	}
	return nil
}

var zeros [64 << 10]byte

// hole writes zeros up to the offset to.
func (w *sparseWriter) hole(to int64, f func([]byte) error) error {
	for w.at < to {
		n := min(to-w.at, int64(len(zeros)))
		if err := f(zeros[:n]); err != nil {
			return err
		}
		w.at += n
	}
	return nil
}

// write hands stored data on, with the holes before it.
func (w *sparseWriter) write(p []byte, f func([]byte) error) error {
	for len(p) > 0 {
		s := w.spans[w.span]
		if err := w.hole(s.off, f); err != nil {
			return err
		}
		n := min(s.n-w.inSpan, int64(len(p)))
		if n > 0 {
			if err := f(p[:n]); err != nil {
				return err
			}
		}
		p = p[n:]
		w.at += n
		if w.inSpan += n; w.inSpan == s.n {
			w.span++
			w.inSpan = 0
		}
	}
	return nil
}

// finish hands on the hole at the end.
func (w *sparseWriter) finish(f func([]byte) error) error { return w.hole(w.size, f) }
