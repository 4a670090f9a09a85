// SPDX-License-Identifier: Apache-2.0

package deflate

// A header is that of a dynamic block (RFC 1951 section 3.2.7), without the three
// bits that begin every block.
type header struct {
	bits      int // its length
	lit, dist int // how many code lengths there are of each
	short     int // and of the code for these
	lens      [19]uint8
	syms      []uint16 // symbols of that code, and above, from bit 5, their extra bits
}

// shortExtra tells how many extra bits a symbol of the code length code has.
func shortExtra(sym uint16) int {
	switch sym {
	case 16:
		return 2
	case 17:
		return 3
	case 18:
		return 7
	}
	return 0
}

func newHeader(lens *[numLit + numDist]uint8) *header {
	h := &header{lit: numLit, dist: numDist, short: len(codeLengthOrder), syms: make([]uint16, 0, len(lens))}
	for h.lit > endSym+1 && lens[h.lit-1] == 0 {
		h.lit--
	}
	for h.dist > 1 && lens[numLit+h.dist-1] == 0 {
		h.dist--
	}
	// A run may go on from one list into the other.
	all := append(append(make([]uint8, 0, len(lens)), lens[:h.lit]...), lens[numLit:numLit+h.dist]...)
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n] == all[0] {
			n++
		}
		h.run(all[0], n)
		all = all[n:]
	}
	var freq [19]uint32
	for _, s := range h.syms {
		freq[s&31]++
	}
	codeLengths(h.lens[:], freq[:], 7)
	for h.lens[codeLengthOrder[h.short-1]] == 0 {
		h.short--
	}
	h.bits = 5 + 5 + 4 + 3*h.short
	for _, s := range h.syms {
		h.bits += int(h.lens[s&31]) + shortExtra(s&31)
	}
	return h
}

// run adds the symbols for n times the code length l.
func (h *header) run(l uint8, n int) {
	if l != 0 {
		h.syms = append(h.syms, uint16(l))
		n--
	}
	for n >= 3 {
		k, sym, least := min(n, 6), uint16(16), 3
		switch {
		case l == 0 && n > 10:
			k, sym, least = min(n, 138), 18, 11
		case l == 0:
			k, sym = n, 17
		}
		h.syms = append(h.syms, sym|uint16(k-least)<<5)
		n -= k
	}
	for ; n > 0; n-- {
		h.syms = append(h.syms, uint16(l))
	}
}

func (h *header) write(w *bitWriter) {
	w.put(uint64(h.lit-257)|uint64(h.dist-1)<<5|uint64(h.short-4)<<10, 14)
	for _, sym := range codeLengthOrder[:h.short] {
		w.put(uint64(h.lens[sym]), 3)
	}
	var codes [19]symbolCode
	assign(codes[:], h.lens[:])
	for _, s := range h.syms {
		w.put(codes[s&31].bits())
		w.put(uint64(s>>5), uint(shortExtra(s&31)))
	}
}
