// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"fmt"
	"hash/crc32"
	"io"
)

const (
	inputSize = 128 << 10 // compressed bytes read at once
	inputPad  = 1 << 10   // zeros after the last of them, for decoding ahead
)

// Reader inflates a gzip file. Its methods are for one goroutine at a time.
type Reader struct {
	src  io.ReaderAt
	size int64

	in    []byte // compressed bytes; allocated by the first Next
	inOff int64  // where in src they begin
	end   int    // where in in they end
	bit   int    // the next bit in in
	kept  int    // the bytes of in that are in b.raw or not wanted there
	b     *Block // being made

	off     int64 // uncompressed offset of the next block
	history [window]byte
	valid   int // bytes at the end of history that matches may reach
	crc     uint32
	length  uint32 // of the member so far

	inBlock bool // in the middle of a deflate block, whose properties follow
	final   bool
	stored  int
	code    *code
	fixed   bool // the tables are those of the fixed code
	numLens int
	lens    [numLit + numDist]uint8
	lit     litTable
	dist    distTable

	inMember bool
	err      error
}

// NewReader reads the gzip file of size bytes in src, from the first to the last
// and each once. Errors of a Reader name the byte of src at which it noticed.
func NewReader(src io.ReaderAt, size int64) *Reader {
	return &Reader{src: src, size: size}
}

// Fork gives a Reader that continues on its own from where r is: its next block
// has the offset that r's next block has. It shares nothing with r but src, and
// holds about 64 KiB until it is read from.
func (r *Reader) Fork() *Reader {
	f := *r
	f.inOff += int64(r.bit >> 3)
	f.bit = r.bit & 7
	f.in, f.end, f.kept = nil, 0, 0
	return &f
}

// Next gives the next block, which is then the caller's to Release. It gives
// io.EOF after the last, and only if the CRC-32 and the length in the trailer of
// each member were right. After an error it gives the same error again.
func (r *Reader) Next() (*Block, error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.in == nil {
		r.in = make([]byte, inputSize+inputPad)
	}
	b := newBlock()
	r.b = b
	err := r.block()
	r.b = nil
	if err != nil {
		b.Release()
		r.err = fmt.Errorf("gzip byte %d: %w", r.inOff+int64(r.bit>>3), err)
		return nil, r.err
	}
	if b.Last {
		r.in = nil
		r.err = io.EOF
	}
	return b, nil
}

// block fills r.b.
func (r *Reader) block() error {
	b := r.b
	r.kept = r.bit >> 3
	raw := r.inOff + int64(r.kept)
	at := func() int { return int(r.inOff-raw)<<3 + r.bit }

	copy(b.buf[window-r.valid:window], r.history[window-r.valid:])
	pos, low, summed, seqs := window, window-r.valid, window, 0
	sum := func() {
		r.crc = crc32.Update(r.crc, crc32.IEEETable, b.buf[summed:pos])
		r.length += uint32(pos - summed)
		summed = pos
	}
	for {
		p := part{start: pos - window, seq: seqs}
		if !r.inMember {
			p.head = at() >> 3
			if err := r.memberHeader(); err != nil {
				return err
			}
			p.headOf = at() >> 3
			r.inMember, r.crc, r.length, low = true, 0, 0, pos
		}
		p.bit = at()
		if !r.inBlock {
			p.begins = true
			if err := r.blockHeader(); err != nil {
				return r.orTruncated(err)
			}
			r.inBlock = true
		}
		p.code, p.final = r.code, r.final
		var err error
		if p.code == nil {
			pos, err = r.copyStored(pos)
			p.ends = true
		} else {
			pos, seqs, p.ends, err = r.inflate(pos, low, seqs)
		}
		if err = r.orTruncated(err); err != nil {
			return err
		}
		p.end, p.seqEnd, p.bitEnd = pos-window, seqs, at()
		b.parts = append(b.parts, p)
		r.inBlock = !p.ends
		if p.closes() {
			sum()
			more, err := r.memberTrailer(r.crc, r.length)
			if err != nil {
				return err
			}
			r.inMember = false
			if !more {
				b.Last = true
				break
			}
		}
		if !p.ends || pos >= window+blockFull || len(b.parts) == maxParts || at() >= maxRaw<<3 {
			break
		}
	}
	sum()
	b.raw = append(b.raw, r.in[r.kept:min((r.bit+7)>>3, r.end)]...)
	b.raw = append(b.raw, make([]byte, 8)...) // to read in words
	b.Data = b.buf[window:pos]
	b.Off = r.off
	r.off += int64(len(b.Data))
	r.valid = min(window, pos-low)
	copy(r.history[:], b.buf[pos-window:pos])
	return nil
}

// inflate decodes symbols to r.b.buf[pos:] and r.b.seqs[seqs:] until the deflate
// block ends or r.b is full.
func (r *Reader) inflate(pos, low, seqs int) (int, int, bool, error) {
	b := r.b
	const limit = window + blockMax - maxMatch
	for mark := pos; ; {
		if err := r.need(64); err != nil {
			return pos, seqs, false, err
		}
		lim := r.end - 24 // symbols reads in words, and twice before it looks
		if r.atEnd() {
			lim = r.end + 8
		}
		if len(b.seqs)-seqs < 1024 {
			b.seqs = append(b.seqs, make([]seq, len(b.seqs))...)
		}
		var n int
		var why stop
		pos, mark, n, why = r.symbols(b.buf, b.seqs[seqs:], pos, mark, low, min(limit, pos+3*(len(b.seqs)-seqs-1)), lim)
		seqs += n
		switch {
		case why == stopSymbol:
			return pos, seqs, false, errSymbol
		case why == stopDistance:
			return pos, seqs, false, errDistance
		case why == stopBlock || pos >= limit || r.truncated():
			return pos, seqs, why == stopBlock, nil
		}
	}
}

// copyStored copies the content of a stored block to r.b.buf[pos:].
func (r *Reader) copyStored(pos int) (int, error) {
	for n := r.stored; n > 0; {
		if err := r.need(1); err != nil {
			return pos, err
		}
		at := r.bit >> 3
		if at >= r.end {
			return pos, io.ErrUnexpectedEOF
		}
		m := copy(r.b.buf[pos:pos+n], r.in[at:r.end])
		r.bit += m << 3
		pos += m
		n -= m
	}
	return pos, nil
}

// noEOF is for where more was promised.
func noEOF(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// orTruncated gives err, unless what was decoded lies beyond the end of src.
func (r *Reader) orTruncated(err error) error {
	if r.truncated() {
		r.bit = r.end << 3
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) truncated() bool { return r.atEnd() && r.bit > r.end<<3 }

// atEnd tells whether r.in holds the last byte of src.
func (r *Reader) atEnd() bool { return r.inOff+int64(r.end) == r.size }

// need makes the n bytes from the current one on available, n <= inputPad; past
// the end of src they are zero.
func (r *Reader) need(n int) error {
	at := r.bit >> 3
	if at+n <= r.end || r.atEnd() && r.end > 0 {
		return nil
	}
	r.b.raw = append(r.b.raw, r.in[r.kept:at]...)
	copy(r.in, r.in[at:r.end])
	r.inOff += int64(at)
	r.end -= at
	r.bit &= 7
	r.kept = 0
	m := int(min(inputSize-int64(r.end), r.size-r.inOff-int64(r.end)))
	if k, err := r.src.ReadAt(r.in[r.end:r.end+m], r.inOff+int64(r.end)); k < m {
		return noEOF(err)
	}
	r.end += m
	clear(r.in[r.end : r.end+inputPad])
	return nil
}
