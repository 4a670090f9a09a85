// SPDX-License-Identifier: Apache-2.0

package deflate

const (
	window    = 32 << 10 // RFC 1951 section 2: how far back a match may reach
	minMatch  = 3        // RFC 1951 section 3.2.5
	maxMatch  = 258
	blockFull = 128 << 10 // a block ends with the deflate block that fills it so far
	blockMax  = 256 << 10 // and in the middle of a deflate block here
	maxParts  = 2048      // a block ends early when its deflate blocks are tiny,
	maxRaw    = 512 << 10 // or hold little data in many bytes
	copySlack = 64        // a match is copied in pieces that may overshoot its end

	partMemory = 448 // bytes that a part takes with the code of its deflate block, at most
)

// Block is a run of uncompressed bytes with what is needed to write it again. It
// belongs to one goroutine at a time and may pass from the one that reads to the
// one that writes.
type Block struct {
	// Off is the uncompressed offset of Data in the file, over all members.
	Off int64
	// Data is at most 256 KiB, and may be empty. It must not be changed, and not be
	// used after Release.
	Data []byte
	// Last is set on the last block of the file; edits at the end of the content go
	// with it. The whole file was verified when it is seen.
	Last bool

	buf   []byte // a window of history, then Data
	raw   []byte // the compressed bytes that Data came from
	seqs  []seq
	parts []part
}

// A part is the share of a Block that lies in one deflate block.
type part struct {
	start, end   int   // in Data
	seq, seqEnd  int   // in seqs; the bytes after the last match are literals
	bit, bitEnd  int   // in raw, from the block header if the part begins its block
	head, headOf int   // the gzip header in raw, if a member begins here
	code         *code // nil: a stored block
	begins, ends bool  // the part holds the first, the last symbol of its block
	final        bool  // BFINAL of its block
}

// opens and closes tell whether a gzip member begins with, ends after the part.
func (p *part) opens() bool  { return p.headOf > p.head }
func (p *part) closes() bool { return p.final && p.ends }

// A seq is a run of literals and the match after it: literals<<32 | length<<16 |
// distance.
type seq uint64

func newSeq(literals, length, distance int) seq {
	return seq(literals)<<32 | seq(length)<<16 | seq(distance)
}

func (s seq) literals() int { return int(s >> 32) }
func (s seq) length() int   { return int(s >> 16 & 0xffff) }
func (s seq) distance() int { return int(s & 0xffff) }

// A code is what it takes to go on with a Huffman coded block elsewhere.
type code struct {
	head []byte // the block header from BFINAL, which is 0, to the last code length,
	// and eight bytes more, to be copied in words
	headBits int
	eob      uint64 // the end-of-block symbol, first bit lowest
	eobBits  uint
}

// blocks are those released, to be used again: a sync.Pool forgets them while
// others wait for their file's signature.
var blocks = make(chan *Block, 64)

func newBlock() *Block {
	select {
	case b := <-blocks:
		return b
	default:
		return &Block{
			buf:  make([]byte, window+blockMax+copySlack),
			seqs: make([]seq, 16<<10),
		}
	}
}

// Memory is about how many bytes the block holds on to: more than its Data, and far
// more where deflate blocks are tiny.
func (b *Block) Memory() int64 {
	return int64(cap(b.buf) + cap(b.raw) + 8*cap(b.seqs) + partMemory*cap(b.parts))
}

// Release gives the buffers back; the block and its Data must not be used again.
func (b *Block) Release() {
	clear(b.parts)
	if cap(b.raw) > 2*maxRaw { // a long gzip header
		b.raw = nil
	}
	*b = Block{buf: b.buf, raw: b.raw[:0], seqs: b.seqs, parts: b.parts[:0]}
	select {
	case blocks <- b:
	default:
	}
}
