// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// lengthSymbol gives the index in lengthBase for a match length less minMatch, and
// distSymbol256 that in distBase for a distance less 1 below 256.
var lengthSymbol, distSymbol256 = func() (l, d [256]uint8) {
	for i := range l {
		for s, base := range lengthBase {
			if int(base) <= i+minMatch {
				l[i] = uint8(s)
			}
		}
		for s, base := range distBase {
			if int(base) <= i+1 {
				d[i] = uint8(s)
			}
		}
	}
	return
}()

func distSymbol(distance int) int {
	d := uint(distance-1) & (window - 1)
	if d < 256 {
		return int(distSymbol256[d])
	}
	// Two symbols for each power of two.
	n := bits.Len(d) - 1
	return n*2 + int(d>>(n-1)&1)
}

// An encoder writes deflate blocks. Its fields are space for one.
type encoder struct {
	litFreq  [numLit]uint32
	distFreq [numDist]uint32
	lens     [numLit + numDist]uint8
	lit      [288]symbolCode
	dist     [32]symbolCode
	match    [256]uint32 // code of a length less minMatch with its extra bits, and from bit 24 how many
}

// block writes data, whose matches are seqs, as one deflate block, or several
// where stored blocks are the shortest.
func (e *encoder) block(w *bitWriter, data []byte, seqs []seq, final bool) {
	e.count(data, seqs)
	last := uint64(0)
	if final {
		last = 1
	}

	codeLengths(e.lens[:numLit], e.litFreq[:], maxBits)
	codeLengths(e.lens[numLit:], e.distFreq[:], maxBits)
	h := newHeader(&e.lens)
	dynamic := h.bits + e.bits(e.lens[:numLit], e.lens[numLit:])
	fixed := e.bits(fixedLengths[:], fixedDistances[:])
	stored := len(data)<<3 + (len(data)/maxStored+1)*40

	switch {
	case stored < min(dynamic, fixed):
		for {
			n := min(len(data), maxStored)
			v := uint64(0)
			if n == len(data) {
				v = last
			}
			w.put(v, 3)
			w.align()
			w.put(uint64(n)|uint64(^uint16(n))<<16, 32)
			w.buf = append(w.buf, data[:n]...)
			if data = data[n:]; len(data) == 0 {
				return
			}
		}
	case fixed <= dynamic:
		w.put(last|1<<1, 3)
		assign(e.lit[:], fixedLengths[:])
		assign(e.dist[:], fixedDistances[:])
	default:
		w.put(last|2<<1, 3)
		h.write(w)
		assign(e.lit[:], e.lens[:numLit])
		assign(e.dist[:], e.lens[numLit:])
	}
	e.symbols(w, data, seqs)
}

// maxStored is how much a stored block holds (RFC 1951 section 3.2.4).
const maxStored = 1<<16 - 1

// count counts the symbols.
func (e *encoder) count(data []byte, seqs []seq) {
	clear(e.litFreq[:])
	clear(e.distFreq[:])
	e.litFreq[endSym] = 1
	at := 0
	for _, s := range seqs {
		for _, c := range data[at : at+s.literals()] {
			e.litFreq[c]++
		}
		at += s.literals() + s.length()
		e.litFreq[endSym+1+int(lengthSymbol[uint8(s.length()-minMatch)])]++
		e.distFreq[distSymbol(s.distance())]++
	}
	for _, c := range data[at:] {
		e.litFreq[c]++
	}
}

// bits counts the bits of what was counted, in a code of the given lengths.
func (e *encoder) bits(lit, dist []uint8) int {
	n := 0
	for sym, f := range e.litFreq {
		l := int(lit[sym])
		if sym > endSym {
			l += int(lengthExtra[sym-endSym-1])
		}
		n += int(f) * l
	}
	for sym, f := range e.distFreq {
		n += int(f) * (int(dist[sym]) + int(distExtra[sym]))
	}
	return n
}

// symbols writes data and the end of the block.
func (e *encoder) symbols(w *bitWriter, data []byte, seqs []seq) {
	for i := range e.match {
		s := lengthSymbol[i]
		c, n := e.lit[endSym+1+int(s)].bits()
		extra := uint32(i + minMatch - int(lengthBase[s]))
		e.match[i] = uint32(c) | extra<<n | uint32(n+uint(lengthExtra[s]))<<24
	}
	// No symbol with its extra bits takes more than six bytes.
	w.buf = slices.Grow(w.buf, len(data)*2+16)
	buf := w.buf[:cap(w.buf)]
	at, acc, n := len(w.buf), w.acc, w.n
	for i := 0; ; i++ {
		lits, match := data, seq(0)
		if i < len(seqs) {
			match = seqs[i]
			lits = data[:match.literals()]
			data = data[match.literals()+match.length():]
		}
		for len(lits) >= 3 {
			for _, c := range (*[3]byte)(lits) {
				acc |= uint64(e.lit[c]&0xffff) << (n & 63)
				n += uint(e.lit[c] >> 16)
			}
			binary.LittleEndian.PutUint64(buf[at:], acc)
			at += int(n >> 3)
			acc >>= n & 56
			n &= 7
			lits = lits[3:]
		}
		for _, c := range lits {
			acc |= uint64(e.lit[c]&0xffff) << (n & 63)
			n += uint(e.lit[c] >> 16)
		}
		if i == len(seqs) {
			break
		}
		binary.LittleEndian.PutUint64(buf[at:], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7

		m := e.match[uint8(match.length()-minMatch)]
		acc |= uint64(m&(1<<24-1)) << (n & 63)
		n += uint(m >> 24)
		s := distSymbol(match.distance())
		c := e.dist[s&31]
		acc |= uint64(c&0xffff) << (n & 63)
		n += uint(c >> 16)
		acc |= uint64(match.distance()-int(distBase[s])) << (n & 63)
		n += uint(distExtra[s])
		binary.LittleEndian.PutUint64(buf[at:], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	binary.LittleEndian.PutUint64(buf[at:], acc)
	at += int(n >> 3)
	w.buf, w.acc, w.n = buf[:at], acc>>(n&56), n&7
	w.put(e.lit[endSym].bits())
}
