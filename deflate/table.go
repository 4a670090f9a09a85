// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"errors"
	"math/bits"
)

// Decoding tables: the low litBits (distBits) bits of the input index an entry,
// which for longer codes leads to a second table further on.
//
//	literal     bits to drop | 0x40 | byte << 8
//	length      bits to drop | code length << 8 | base << 16
//	distance    the same
//	other       0x80 | ..., see below
//
// The bits to drop are those of the code and of the extra bits that follow.
const (
	litBits  = 11
	distBits = 9

	literal  = 1 << 6
	special  = 1 << 7          // none of the above:
	subtable = special | 1<<12 // bits of the second table << 8 | its start << 16
	endBlock = special | 1<<13 // bits to drop
	invalid  = special | 1<<14
)

const (
	numLit  = 286 // symbols of the literal/length alphabet that may occur
	numDist = 30
	endSym  = 256
	maxBits = 15 // RFC 1951 section 3.2.7
)

type (
	litTable  [1<<litBits + 1024]uint32
	distTable [1<<distBits + 512]uint32
)

// RFC 1951 section 3.2.5.
var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// litEntry and distEntry give the entry of a symbol whose code has n bits, of
// which a first table dropped all but the last n.
func litEntry(sym int, n uint) uint32 {
	switch {
	case sym < endSym:
		return uint32(n) | literal | uint32(sym)<<8
	case sym == endSym:
		return endBlock | uint32(n)
	case sym < numLit:
		s := sym - endSym - 1
		return uint32(n) + uint32(lengthExtra[s]) | uint32(n)<<8 | uint32(lengthBase[s])<<16
	}
	return invalid
}

func distEntry(sym int, n uint) uint32 {
	if sym < numDist {
		return uint32(n) + uint32(distExtra[sym]) | uint32(n)<<8 | uint32(distBase[sym])<<16
	}
	return invalid
}

var (
	errOversubscribed = errors.New("oversubscribed Huffman code")
	errIncomplete     = errors.New("incomplete Huffman code")
)

// buildTable fills t, with a first table of 1<<first entries, for the canonical
// code whose lengths are lens (RFC 1951 section 3.2.2). As in zlib, a code may be
// empty or one symbol of one bit; all others must be complete.
func buildTable(t []uint32, first uint, lens []uint8, entry func(sym int, n uint) uint32) error {
	var count [maxBits + 1]int
	for _, n := range lens {
		count[n]++
	}
	used := len(lens) - count[0]
	count[0] = 0
	left := 1
	for n := 1; n <= maxBits; n++ {
		left = left<<1 - count[n]
		if left < 0 {
			return errOversubscribed
		}
	}
	if left > 0 {
		if used > 1 || used == 1 && count[1] != 1 {
			return errIncomplete
		}
		for i := range t[:1<<first] {
			t[i] = invalid
		}
	}

	// The symbols by code length, then by number.
	var sorted [288]uint16
	var offs [maxBits + 2]int
	for n := 1; n <= maxBits; n++ {
		offs[n+1] = offs[n] + count[n]
	}
	for sym, n := range lens {
		if n != 0 {
			sorted[offs[n]] = uint16(sym)
			offs[n]++
		}
	}

	// Short codes: a table for n bits is two copies of that for n-1 and the new codes.
	next, i := 0, 0
	for n := uint(1); n <= first; n++ {
		next <<= 1
		if left == 0 && n > 1 {
			copy(t[1<<(n-1):1<<n], t[:1<<(n-1)])
		}
		for end := i + count[n]; i < end; i++ {
			rev := int(bits.Reverse16(uint16(next)) >> (16 - n))
			e := entry(int(sorted[i]), n)
			if left > 0 { // one symbol of one bit: every other entry
				for j := rev; j < 1<<first; j += 2 {
					t[j] = e
				}
			}
			t[rev] = e
			next++
		}
	}

	// Long codes: those with a prefix in common share a table.
	free, prefix, start, sub := 1<<first, -1, 0, uint(0)
	for n := first + 1; n <= maxBits; n++ {
		next <<= 1
		for k := count[n]; k > 0; k-- {
			rev := int(bits.Reverse16(uint16(next)) >> (16 - n))
			if p := rev & (1<<first - 1); p != prefix {
				prefix, start = p, free
				sub = n - first
				for space := k; space < 1<<sub && first+sub < maxBits; {
					sub++
					space = space<<1 + count[first+sub]
				}
				free += 1 << sub
				t[prefix] = subtable | uint32(sub)<<8 | uint32(start)<<16
			}
			e := entry(int(sorted[i]), n-first)
			for j := rev >> first; j < 1<<sub; j += 1 << (n - first) {
				t[start+j] = e
			}
			i++
			next++
		}
	}
	return nil
}
