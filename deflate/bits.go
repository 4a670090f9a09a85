// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"encoding/binary"
	"slices"
)

// A bitWriter collects bits, the first lowest, in bytes. Between calls less than
// eight bits wait in acc; those of acc above are zero.
type bitWriter struct {
	buf []byte
	acc uint64
	n   uint
}

// put writes the low n bits of v, n <= 56; those above are zero.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.buf = append(w.buf, byte(w.acc))
		w.acc >>= 8
	}
}

// align fills the last byte with zeros.
func (w *bitWriter) align() { w.put(0, -w.n&7) }

// bits counts what is in the buffer.
func (w *bitWriter) bits() int { return len(w.buf)<<3 + int(w.n) }

// copy writes the bits of src from one to another; src goes on for eight bytes
// after them.
func (w *bitWriter) copy(src []byte, from, to int) {
	word := func(from, n int) uint64 {
		return binary.LittleEndian.Uint64(src[from>>3:]) >> (from & 7) & (1<<n - 1)
	}
	if n := min(-from&7, to-from); n > 0 {
		w.put(word(from, n), uint(n))
		if from += n; from == to {
			return
		}
	}
	i, end := from>>3, to>>3
	if w.n == 0 {
		w.buf = append(w.buf, src[i:end]...)
		i = end
	} else if end-i >= 8 {
		w.buf = slices.Grow(w.buf, end-i)
		at := len(w.buf)
		w.buf = w.buf[:at+(end-i)&^7]
		acc, up, down := w.acc, w.n&7, 64-w.n&63
		for ; i+8 <= end; i += 8 {
			v := binary.LittleEndian.Uint64(src[i:])
			binary.LittleEndian.PutUint64(w.buf[at:], acc|v<<up)
			acc = v >> down
			at += 8
		}
		w.acc = acc
	}
	for ; i < end; i++ {
		w.put(uint64(src[i]), 8)
	}
	if n := to - i<<3; n > 0 {
		w.put(word(i<<3, n), uint(n))
	}
}
