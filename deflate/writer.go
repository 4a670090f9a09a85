// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

const (
	writeSize = 64 << 10 // bytes handed on at once, at least
	maxHold   = 4 << 20  // how long BFINAL of an open block may wait for what follows
)

// Writer writes a gzip file from the blocks of another. Its methods are for one
// goroutine at a time.
type Writer struct {
	w     io.Writer
	bits  bitWriter
	err   error
	done  bool // the last block was written
	stats Stats

	off    int64 // uncompressed offset that comes next, before edits
	skip   int64 // uncompressed offset up to which an edit replaces what comes
	pieces []piece
	crc    uint32
	length uint32 // of the member so far

	// open is the code of a deflate block that was copied so far, and goes on. If
	// hold >= 0 the bit there in bits.buf says that it is the final one: it can be
	// cleared while it is not written. sealed: it was written.
	open   *code
	hold   int
	sealed bool

	// out is what the output inflates to: history, then from run on what is not
	// coded yet, whose matches up to mark are seqs. out[0] is at outOff. The member
	// begins at low, if not before.
	out    []byte
	outOff int64
	low    int
	run    int
	mark   int
	seqs   []seq
	spare  []seq

	search  searcher
	encoder encoder
}

// NewWriter writes to w, in pieces of 64 KiB or more but for the last.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, hold: -1, pieces: []piece{{end: math.MaxInt64}}}
}

// Stats counts what was written so far.
func (w *Writer) Stats() Stats { return w.stats }

// WriteBlock writes b, the block that follows the one written before, with edits
// applied. The edits are sorted and disjoint and begin in b: b.Off <= Off <
// b.Off+len(b.Data), or, to append to what b holds, Off == b.Off+len(b.Data). The
// bytes that an edit replaces may go on into the blocks that follow. WriteBlock
// keeps neither b nor edits; b is still the caller's to Release.
func (w *Writer) WriteBlock(b *Block, edits []Edit) error {
	if w.err == nil {
		w.err = w.block(b, edits)
	}
	return w.err
}

// Close writes what is still buffered. It fails when the last block of the file
// was not written. It does not close the underlying writer.
func (w *Writer) Close() error {
	switch {
	case w.err != nil:
		return w.err
	case !w.done:
		w.err = errors.New("gzip: closed before the last block")
	case w.skip > w.off:
		w.err = fmt.Errorf("edit that replaces bytes up to %d: the content ends at %d", w.skip, w.off)
	default:
		if w.err = w.flush(0); w.err == nil {
			w.err = errors.New("gzip: closed")
			return nil
		}
	}
	return w.err
}

func (w *Writer) block(b *Block, edits []Edit) error {
	if b.Off != w.off || w.done {
		return fmt.Errorf("gzip block at %d: expected the one at %d", b.Off, w.off)
	}
	end := b.Off + int64(len(b.Data))
	from := max(b.Off, w.skip)
	for _, e := range edits {
		if e.Off < from || e.Off > end || e.Len < 0 {
			return fmt.Errorf("edit at %d: not sorted, disjoint and in the block from %d to %d", e.Off, b.Off, end)
		}
		from = e.Off + e.Len
	}
	for i := range b.parts {
		p := &b.parts[i]
		n := 0
		for n < len(edits) && (edits[n].Off < b.Off+int64(p.end) || i == len(b.parts)-1) {
			n++
		}
		if err := w.part(b, p, edits[:n]); err != nil {
			return err
		}
		edits = edits[n:]
	}
	w.off = end
	if b.Last {
		w.done = true
	}
	return w.flush(writeSize)
}

// part writes a part of b.
func (w *Writer) part(b *Block, p *part, edits []Edit) error {
	if p.opens() {
		w.bits.buf = append(w.bits.buf, b.raw[p.head:p.headOf]...)
		w.restart(b.Off + int64(p.start))
	}
	if len(edits) == 0 && w.keeps(b, p) {
		w.code(false)
		before := w.bits.bits()
		w.copyPart(b, p)
		w.pass(b.Data[p.start:p.end])
		w.stats.Copied += int64(w.bits.bits() - before)
	} else {
		w.endOpen(b.Off + int64(p.start))
		w.recode(b, p, edits)
		if p.closes() || len(w.out)-w.run >= runFull {
			w.code(p.closes())
		}
	}
	if p.closes() {
		if w.bits.n == uint(p.bitEnd&7) { // whatever fills the last byte
			w.bits.copy(b.raw, p.bitEnd, (p.bitEnd+7)&^7)
		}
		w.trailer()
	}
	return w.flush(writeSize)
}

// restart begins a member with what was at src.
func (w *Writer) restart(src int64) {
	w.crc, w.length = 0, 0
	w.low = len(w.out)
	last := w.pieces[len(w.pieces)-1]
	last.start = max(src, w.skip)
	w.pieces = append(w.pieces[:0], last)
}

// trailer ends a member (RFC 1952 section 2.3.1).
func (w *Writer) trailer() {
	w.bits.align()
	w.bits.buf = binary.LittleEndian.AppendUint32(w.bits.buf, w.crc)
	w.bits.buf = binary.LittleEndian.AppendUint32(w.bits.buf, w.length)
}

func (w *Writer) checksum(data []byte) {
	w.crc = crc32.Update(w.crc, crc32.IEEETable, data)
	w.length += uint32(len(data))
}

// copyPart writes the bits of a part as they are.
func (w *Writer) copyPart(b *Block, p *part) {
	switch {
	case p.code == nil && w.bits.n != uint(p.bit&7):
		w.bits.copy(b.raw, p.bit, p.bit+3)
		w.bits.align()
		w.bits.copy(b.raw, (p.bit+3+7)&^7, p.bitEnd)
		return
	case p.code == nil || w.open == p.code:
	case p.begins:
		w.hold = w.bits.bits()
	default:
		w.hold = w.bits.bits()
		final := uint64(0)
		if p.final {
			final = 1
		}
		w.bits.put(final, 1)
		w.bits.copy(p.code.head, 1, p.code.headBits)
	}
	w.bits.copy(b.raw, p.bit, p.bitEnd)
	w.open = p.code
	if p.ends {
		w.open = nil
	}
	if w.open == nil || !p.final {
		w.hold, w.sealed = -1, false
	}
}

// endOpen ends a block that was copied so far, before what was at src.
func (w *Writer) endOpen(src int64) {
	if w.open == nil {
		return
	}
	w.bits.put(w.open.eob, w.open.eobBits)
	w.open = nil
	if w.hold >= 0 {
		if i := w.hold >> 3; i < len(w.bits.buf) {
			w.bits.buf[i] &^= 1 << (w.hold & 7)
		} else {
			w.bits.acc &^= 1 << (w.hold & 7)
		}
		w.hold = -1
	}
	if w.sealed {
		// What was written says that this is the member's last block.
		w.sealed = false
		w.trailer()
		w.bits.buf = append(w.bits.buf, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff)
		w.restart(src)
	}
}

// flush hands on what is in the buffer, if that is least bytes or more.
func (w *Writer) flush(least int) error {
	n := len(w.bits.buf)
	if w.hold >= 0 {
		if n-w.hold>>3 < maxHold {
			return nil
		}
		w.hold, w.sealed = -1, true
	}
	if n < least || n == 0 {
		return nil
	}
	_, err := w.w.Write(w.bits.buf)
	w.bits.buf = w.bits.buf[:0]
	return err
}
