// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"encoding/binary"
	"errors"
)

var (
	errType       = errors.New("reserved block type")
	errStored     = errors.New("length of stored block and its complement differ")
	errCounts     = errors.New("too many length or distance codes")
	errRepeat     = errors.New("repeated code length without or beyond its place")
	errNoEnd      = errors.New("no code for the end of the block")
	errSymbol     = errors.New("bits that are no code")
	errDistance   = errors.New("distance beyond the start of the content")
	errHeaderBits = errors.New("reserved flag in gzip header")
)

// codeLengthOrder is the order of RFC 1951 section 3.2.7.
var codeLengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// blockHeader reads a deflate block header and makes r ready for what follows it.
func (r *Reader) blockHeader() error {
	if err := r.need(512); err != nil { // a header is at most 289 bytes
		return err
	}
	start := r.bit
	r.final = r.take(1) == 1
	switch r.take(2) {
	case 0:
		r.code = nil
		r.bit = (r.bit + 7) &^ 7
		n := r.take(16)
		if r.take(16) != n^0xffff {
			return errStored
		}
		r.stored = int(n)
	case 1:
		if !r.fixed {
			if err := r.tables(fixedLengths[:], fixedDistances[:]); err != nil {
				return err
			}
			r.fixed = true
		}
		r.code = &code{head: fixedHead[:], headBits: 3, eobBits: 7}
	case 2:
		r.fixed = false
		n, err := r.codeLengths()
		if err != nil {
			return err
		}
		if r.lens[endSym] == 0 {
			return errNoEnd
		}
		if err := r.tables(r.lens[:n], r.lens[n:r.numLens]); err != nil {
			return err
		}
		c := &code{headBits: r.bit - start, eobBits: uint(r.lens[endSym])}
		c.eob = canonical(r.lens[:n], endSym)
		c.head = make([]byte, 0, (c.headBits+7)/8+8)
		for i := start; i < r.bit; i += 8 {
			c.head = append(c.head, byte(binary.LittleEndian.Uint16(r.in[i>>3:])>>(i&7)))
		}
		c.head[0] &^= 1
		c.head = append(c.head, make([]byte, 8)...)
		r.code = c
	default:
		return errType
	}
	return nil
}

// fixedHead is the header of a block with the fixed code.
var fixedHead = [9]byte{1 << 1}

// fixedLengths and fixedDistances are the code of RFC 1951 section 3.2.6.
var fixedLengths, fixedDistances = func() (l [288]uint8, d [32]uint8) {
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	for i := range d {
		d[i] = 5
	}
	return
}()

// codeLengths reads the rest of a dynamic block's header (RFC 1951 section 3.2.7)
// to r.lens[:r.numLens]; the first n are those of the literal/length code.
func (r *Reader) codeLengths() (n int, err error) {
	n = int(r.take(5)) + 257
	dists := int(r.take(5)) + 1
	if n > numLit || dists > numDist {
		return 0, errCounts
	}
	r.numLens = n + dists
	var short [19]uint8
	for _, sym := range codeLengthOrder[:r.take(4)+4] {
		short[sym] = uint8(r.take(3))
	}
	var t [1 << 7]uint32
	err = buildTable(t[:], 7, short[:], func(sym int, n uint) uint32 { return uint32(n) | uint32(sym)<<8 })
	if err != nil {
		return 0, err
	}
	for i := 0; i < r.numLens; {
		e := t[r.peek()&(1<<7-1)]
		if e&special != 0 || e == invalid {
			return 0, errSymbol
		}
		r.bit += int(e & 31)
		sym := uint8(e >> 8)
		if sym < 16 {
			r.lens[i] = sym
			i++
			continue
		}
		var val uint8
		var times int
		switch sym {
		case 16:
			if i == 0 {
				return 0, errRepeat
			}
			val, times = r.lens[i-1], 3+int(r.take(2))
		case 17:
			times = 3 + int(r.take(3))
		case 18:
			times = 11 + int(r.take(7))
		}
		if i+times > r.numLens {
			return 0, errRepeat
		}
		for ; times > 0; times-- {
			r.lens[i] = val
			i++
		}
	}
	return n, nil
}

// canonical gives the code of sym, first bit lowest (RFC 1951 section 3.2.2).
func canonical(lens []uint8, sym int) uint64 {
	next := 0
	for i, n := range lens {
		switch {
		case n == 0:
		case n < lens[sym]:
			next += 1 << (lens[sym] - n)
		case n == lens[sym] && i < sym:
			next++
		}
	}
	rev := uint64(0)
	for range lens[sym] {
		rev = rev<<1 | uint64(next&1)
		next >>= 1
	}
	return rev
}

func (r *Reader) tables(lit, dist []uint8) error {
	if err := buildTable(r.lit[:], litBits, lit, litEntry); err != nil {
		return err
	}
	return buildTable(r.dist[:], distBits, dist, distEntry)
}

// peek gives at least 57 of the bits that follow; take gives n of them and drops
// them.
func (r *Reader) peek() uint64 {
	return binary.LittleEndian.Uint64(r.in[r.bit>>3:]) >> (r.bit & 7)
}

func (r *Reader) take(n uint) uint64 {
	v := r.peek() & (1<<n - 1)
	r.bit += int(n)
	return v
}

// A stop says why symbols returned.
type stop int

const (
	stopFull  stop = iota // pos reached limit, or the input its end
	stopBlock             // the block is complete
	stopSymbol
	stopDistance
)

// symbols decodes symbols of the current block to buf[pos:] until pos reaches
// limit or the input lim; buf has room for a match and copySlack after limit, and
// seqs for a match every three bytes. No match may reach before low, and mark is
// where the last match ended. It gives the new pos and mark and the number of
// seqs.
func (r *Reader) symbols(buf []byte, seqs []seq, pos, mark, low, limit, lim int) (int, int, int, stop) {
	in := r.in
	lit, dist := &r.lit, &r.dist
	at := r.bit >> 3
	bb := binary.LittleEndian.Uint64(in[at:]) >> (r.bit & 7)
	bc := uint(56 - r.bit&7)
	at += 7
	n := 0
	why := stopFull

	// Before each round there are 56 bits or more, and the entry of the next symbol
	// is on its way. Bits of bb above bc are those of in.
	bb |= binary.LittleEndian.Uint64(in[at:]) << (bc & 63)
	at += int((63 - bc) >> 3)
	bc |= 56
	e := lit[bb&(1<<litBits-1)]
	for at < lim && pos < limit {
		if e&literal != 0 {
			buf[pos] = byte(e >> 8)
			pos++
			bb >>= e & 31
			bc -= uint(e & 31)
			e = lit[bb&(1<<litBits-1)]
			if e&literal != 0 {
				buf[pos] = byte(e >> 8)
				pos++
				bb >>= e & 31
				bc -= uint(e & 31)
				e = lit[bb&(1<<litBits-1)]
				if e&literal != 0 {
					buf[pos] = byte(e >> 8)
					pos++
					bb >>= e & 31
					bc -= uint(e & 31)
					bb |= binary.LittleEndian.Uint64(in[at:]) << (bc & 63)
					at += int((63 - bc) >> 3)
					bc |= 56
					e = lit[bb&(1<<litBits-1)]
					continue
				}
			}
		}
		if e&special != 0 {
			if e&subtable == subtable {
				bb >>= litBits
				bc -= litBits
				e = lit[uint64(e>>16)+bb&(1<<(e>>8&15)-1)]
				if e&literal != 0 {
					buf[pos] = byte(e >> 8)
					pos++
					bb >>= e & 31
					bc -= uint(e & 31)
					bb |= binary.LittleEndian.Uint64(in[at:]) << (bc & 63)
					at += int((63 - bc) >> 3)
					bc |= 56
					e = lit[bb&(1<<litBits-1)]
					continue
				}
			}
			if e&special != 0 {
				if e&endBlock != endBlock {
					why = stopSymbol
					break
				}
				bc -= uint(e & 31)
				why = stopBlock
				break
			}
		}
		length := int(e>>16) + int(bb&(1<<(e&31)-1)>>(e>>8&15))
		bb >>= e & 31
		bc -= uint(e & 31)

		if bc < 28 {
			bb |= binary.LittleEndian.Uint64(in[at:]) << (bc & 63)
			at += int((63 - bc) >> 3)
			bc |= 56
		}
		e = dist[bb&(1<<distBits-1)]
		if e&special != 0 {
			if e&subtable == subtable {
				bb >>= distBits
				bc -= distBits
				e = dist[uint64(e>>16)+bb&(1<<(e>>8&15)-1)]
			}
			if e&special != 0 {
				why = stopSymbol
				break
			}
		}
		distance := int(e>>16) + int(bb&(1<<(e&31)-1)>>(e>>8&15))
		bb >>= e & 31
		bc -= uint(e & 31)
		bb |= binary.LittleEndian.Uint64(in[at:]) << (bc & 63)
		at += int((63 - bc) >> 3)
		bc |= 56
		e = lit[bb&(1<<litBits-1)]

		from := pos - distance
		if from < low {
			why = stopDistance
			break
		}
		seqs[n] = newSeq(pos-mark, length, distance)
		n++
		to := pos
		pos += length
		mark = pos
		switch {
		case distance >= 16:
			*(*[16]byte)(buf[to:]) = *(*[16]byte)(buf[from:])
			for length > 16 {
				to += 16
				from += 16
				length -= 16
				*(*[16]byte)(buf[to:]) = *(*[16]byte)(buf[from:])
			}
		case distance == 1:
			v := uint64(buf[from]) * 0x0101010101010101
			for ; length > 0; length -= 8 {
				binary.LittleEndian.PutUint64(buf[to:], v)
				to += 8
			}
		case distance >= 8:
			for ; length > 0; length -= 8 {
				binary.LittleEndian.PutUint64(buf[to:], binary.LittleEndian.Uint64(buf[from:]))
				to += 8
				from += 8
			}
		default:
			// The first distance bytes of each piece are right, and the next begins
			// after these.
			for ; length > 0; length -= distance {
				binary.LittleEndian.PutUint64(buf[to:], binary.LittleEndian.Uint64(buf[from:]))
				to += distance
				from += distance
			}
		}
	}
	r.bit = at<<3 - int(bc)
	return pos, mark, n, why
}
