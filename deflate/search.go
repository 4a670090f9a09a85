// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"encoding/binary"
	"math/bits"
)

const (
	hashBits   = 15
	hashed     = 4       // bytes; a match of three is not searched
	lookBack   = 1 << 10 // bytes indexed before an edit; the whole window would save 0.03 %
	maxChain   = 32      // places looked at for one match
	lazyLength = 32      // a match so long is taken without trying the next byte
)

// A searcher finds matches by chains of places that begin with the same four
// bytes. Places are output offsets modulo 1<<32; one that is out of date does no
// harm, for bytes are compared.
type searcher struct {
	*index
	next int64 // up to where the output is indexed
}

type index struct {
	head [1 << hashBits]uint32
	prev [window]uint32
}

func hash(v uint32) uint32 { return v * 0x9e3779b1 >> (32 - hashBits) }

// index adds the places from at on, unless they are there, up to end.
func (w *Writer) index(at, end int) {
	s := &w.search
	at = max(at, int(s.next-w.outOff), 0)
	end = min(end, len(w.out)-hashed)
	x, out, place := s.index, w.out, uint32(w.outOff)+uint32(at)
	if at == 0 && at < end {
		x.add(place, binary.LittleEndian.Uint32(out))
		at++
		place++
	}
	// In a run of one byte nothing is indexed: same is zero where a byte is the one
	// before it, and four such bytes in a row are a place in a run.
	for ; at+4 <= end && at+7 <= len(out); at += 4 {
		v := binary.LittleEndian.Uint64(out[at-1:])
		same := v ^ v>>8
		if uint32(same) != 0 {
			x.add(place, uint32(v>>8))
		}
		if uint32(same>>8) != 0 {
			x.add(place+1, uint32(v>>16))
		}
		if uint32(same>>16) != 0 {
			x.add(place+2, uint32(v>>24))
		}
		if uint32(same>>24) != 0 {
			x.add(place+3, uint32(v>>32))
		}
		place += 4
	}
	for ; at < end; at++ {
		v := binary.LittleEndian.Uint32(out[at:])
		if out[at-1] != byte(v) || v != bits.RotateLeft32(v, 8) {
			x.add(place, v)
		}
		place++
	}
	s.next = max(s.next, w.outOff+int64(at))
}

// add adds the place where v stands.
func (x *index) add(place, v uint32) {
	h := hash(v)
	x.prev[place%window] = x.head[h]
	x.head[h] = place
}

// find gives the longest match for out[at:], whose bytes before at are indexed, or
// length 0.
func (w *Writer) find(at int) (length, distance int) {
	limit := min(len(w.out)-at, maxMatch)
	if limit < 8 {
		return 0, 0
	}
	s := &w.search
	here := w.out[at : at+limit]
	v := binary.LittleEndian.Uint32(here)
	place := uint32(w.outOff) + uint32(at)
	reach := min(window, at-w.low)
	length = minMatch
	if reach > 0 && w.out[at-1] == here[0] && v == bits.RotateLeft32(v, 8) {
		if n := common(here, w.out[at-1:]); n > length {
			length, distance = n, 1
			if n == limit || n >= lazyLength {
				return
			}
		}
	}
	last := 0
	c := s.head[hash(v)]
	for range maxChain {
		d := int(place - c)
		if d <= last || d > reach {
			break
		}
		last = d
		there := w.out[at-d:]
		if there[length] == here[length] && binary.LittleEndian.Uint32(there) == v {
			if n := common(here, there); n > length {
				length, distance = n, d
				if n == limit {
					return
				}
			}
		}
		c = s.prev[c%window]
	}
	if distance == 0 {
		length = 0
	}
	return
}

// common counts the bytes at the start of a that b begins with as well; b is at
// least as long.
func common(a, b []byte) int {
	n := 0
	for n+8 <= len(a) {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		n += 8
	}
	for n < len(a) && a[n] == b[n] {
		n++
	}
	return n
}

// rematch replaces the seqs that stand for lost and inserted bytes.
func (w *Writer) rematch() {
	missing, gone := 0, 0
	for _, s := range w.seqs {
		switch s.distance() {
		case lost:
			missing++
			gone += s.length()
		case inserted:
			missing++
		}
	}
	w.stats.Lost += int64(gone)
	if missing == 0 {
		return
	}
	if w.search.index == nil {
		w.search.index = new(index)
	}

	old := w.seqs
	w.seqs = w.spare[:0]
	w.mark = w.run
	at := w.run
	for _, s := range old {
		at += s.literals()
		end := at + s.length()
		switch d := s.distance(); {
		case d == inserted || d == lost:
			w.index(at-lookBack, at)
			w.stats.Found += w.matches(max(at, w.mark), end, d)
		default:
			if from := max(at, w.mark); end-from >= minMatch {
				w.seqs = append(w.seqs, newSeq(from-w.mark, end-from, d))
				w.mark = end
			}
		}
		at = end
	}
	w.spare = old
}

// matches searches matches for out[at:end]. The last may go on beyond. It gives
// how many lost bytes are in one.
func (w *Writer) matches(at, end, why int) (found int64) {
	length, distance := 0, 0
	for at < end {
		if length == 0 {
			length, distance = w.find(at)
		}
		w.index(at, at+1)
		if length == 0 {
			at++
			continue
		}
		if length < lazyLength && at+1 < end {
			if n, d := w.find(at + 1); n > length {
				length, distance = n, d
				at++
				continue
			}
		}
		w.seqs = append(w.seqs, newSeq(at-w.mark, length, distance))
		if why == lost {
			found += int64(min(length, end-at))
		}
		w.index(at, min(at+length, end))
		at += length
		w.mark = at
		length = 0
	}
	return found
}
