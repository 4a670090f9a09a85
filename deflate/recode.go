// SPDX-License-Identifier: Apache-2.0

package deflate

import "math"

const (
	runFull   = 64 << 10  // coded as one deflate block, at the end of a part
	runMax    = 256 << 10 // and in the middle of inserted bytes
	insertMax = 32 << 10  // inserted bytes in one seq
	outMax    = 512 << 10 // of history, before all but the window is dropped
)

// A seq whose distance is one of these stands for bytes that have no match yet.
const (
	lost     = 0      // theirs is out of reach
	inserted = 0xffff // they are new
)

// A piece is a run of bytes that are in the output, shift bytes further on than
// they were: from start to end, offsets before edits. Pieces are sorted, and the
// last has no end as yet.
type piece struct{ start, end, shift int64 }

// source finds the bytes that were at src: n of them or more are in the output, ok,
// and moved by shift, or have gone.
func (w *Writer) source(src int64) (n, shift int64, ok bool) {
	i := len(w.pieces) - 1
	for i >= 0 && w.pieces[i].start > src {
		i--
	}
	if i < 0 {
		return w.pieces[0].start - src, 0, false
	}
	p := w.pieces[i]
	if src < p.end {
		return p.end - src, p.shift, true
	}
	return w.pieces[i+1].start - src, 0, false
}

// cut notes an edit. Pieces out of reach are dropped now and then.
func (w *Writer) cut(e Edit) {
	last := &w.pieces[len(w.pieces)-1]
	w.skip = e.Off + e.Len
	next := piece{w.skip, math.MaxInt64, last.shift + int64(len(e.New)) - e.Len}
	if last.start == e.Off {
		*last = next
		return
	}
	last.end = e.Off
	w.pieces = append(w.pieces, next)
	if len(w.pieces) >= 256 {
		n := 0
		for w.pieces[n].end < e.Off-window {
			n++
		}
		w.pieces = append(w.pieces[:0], w.pieces[n:]...)
	}
}

// keeps tells whether a part of b, which no edit begins in, can be copied as it is.
func (w *Writer) keeps(b *Block, p *part) bool {
	pos := b.Off + int64(p.start)
	if pos < w.skip {
		return false
	}
	last := w.pieces[len(w.pieces)-1]
	for _, s := range b.seqs[p.seq:p.seqEnd] {
		pos += int64(s.literals())
		if pos-last.start >= window {
			break
		}
		if src := pos - int64(s.distance()); src < last.start {
			n, shift, ok := w.source(src)
			if !ok || shift != last.shift || n < int64(s.length()) {
				return false
			}
		}
		pos += int64(s.length())
	}
	return true
}

// recode appends a part of b with edits applied to out and seqs.
func (w *Writer) recode(b *Block, p *part, edits []Edit) {
	r := recoding{Writer: w, b: b, pos: b.Off + int64(p.start), edits: edits}
	for seqs := b.seqs[p.seq:p.seqEnd]; len(seqs) > 0; {
		if n := r.keep(seqs); n > 0 {
			seqs = seqs[n:]
			continue
		}
		r.advance(seqs[0].literals(), 0)
		r.advance(seqs[0].length(), seqs[0].distance())
		seqs = seqs[1:]
	}
	r.advance(int(b.Off+int64(p.end)-r.pos), 0)
}

type recoding struct {
	*Writer
	b     *Block
	pos   int64 // in the source
	edits []Edit
}

// keep appends the first seqs that stay as they are, and gives how many: no edit
// touches them, and what they match has moved as they have.
func (r *recoding) keep(seqs []seq) int {
	from := r.pieces[len(r.pieces)-1].start
	if r.pos < from {
		return 0
	}
	end := r.b.Off + int64(len(r.b.Data))
	if len(r.edits) > 0 {
		end = r.edits[0].Off
	}
	pos, n := r.pos, 0
	for n < len(seqs) {
		s := seqs[n]
		at := pos + int64(s.literals())
		next := at + int64(s.length())
		if at-int64(s.distance()) < from || next > end {
			break
		}
		pos = next
		n++
	}
	if n == 0 {
		return 0
	}
	// The literals before the first may follow others.
	r.seqs = append(r.seqs, seqs[:n]...)
	r.seqs[len(r.seqs)-n] += seq(len(r.out)-r.mark) << 32
	r.take(pos - r.pos)
	r.pos = pos
	r.mark = len(r.out)
	return n
}

// advance takes n bytes of the source, a match if distance is not 0, and the
// edits before, in and after them.
func (r *recoding) advance(n, distance int) {
	for {
		k := int64(n)
		if len(r.edits) > 0 {
			e := r.edits[0]
			if e.Off == r.pos {
				r.edits = r.edits[1:]
				r.cut(e)
				r.insert(e.New)
				continue
			}
			k = min(k, e.Off-r.pos)
		}
		if n == 0 {
			return
		}
		switch {
		case r.pos < r.skip:
			k = min(k, r.skip-r.pos)
		case distance == 0:
			r.take(k)
		default:
			k = r.match(k, int64(distance))
		}
		r.pos += k
		n -= int(k)
	}
}

// take appends n bytes of the source.
func (r *recoding) take(n int64) {
	at := r.pos - r.b.Off
	r.out = append(r.out, r.b.Data[at:at+n]...)
}

// match appends the first bytes, n at most, of a match, and gives how many: all
// were in one place, or all are lost.
func (r *recoding) match(n, distance int64) int64 {
	have, shift, ok := r.source(r.pos - distance)
	n = min(n, have)
	at := r.pos - r.b.Off
	if ok {
		distance += r.pieces[len(r.pieces)-1].shift - shift
	}
	switch {
	case !ok || distance > window:
		r.note(int(n), lost)
	case n >= minMatch:
		r.note(int(n), int(distance))
	}
	r.out = append(r.out, r.b.Data[at:at+n]...)
	return n
}

// insert appends new bytes.
func (r *recoding) insert(p []byte) {
	for len(p) > 0 {
		n := min(len(p), insertMax)
		r.note(n, inserted)
		r.out = append(r.out, p[:n]...)
		p = p[n:]
		if len(r.out)-r.run >= runMax {
			r.code(false)
		}
	}
}

// note adds a seq for the n bytes that are appended next.
func (w *Writer) note(n, distance int) {
	w.seqs = append(w.seqs, newSeq(len(w.out)-w.mark, n, distance))
	w.mark = len(w.out) + n
}

// code writes the run as a deflate block.
func (w *Writer) code(final bool) {
	if run := w.out[w.run:]; len(run) > 0 || final {
		before := w.bits.bits()
		w.checksum(run)
		w.rematch()
		w.encoder.block(&w.bits, run, w.seqs, final)
		w.stats.Recoded += int64(w.bits.bits() - before)
	}
	w.seqs = w.seqs[:0]
	w.forget()
}

// pass notes that data follows in the output.
func (w *Writer) pass(data []byte) {
	w.checksum(data)
	w.out = append(w.out, data...)
	w.forget()
}

// forget drops history that is not needed any more; all of out is coded.
func (w *Writer) forget() {
	if n := len(w.out) - window; n > outMax-window {
		w.out = append(w.out[:0], w.out[n:]...)
		w.outOff += int64(n)
		w.low = max(0, w.low-n)
	}
	w.run = len(w.out)
	w.mark = w.run
}
