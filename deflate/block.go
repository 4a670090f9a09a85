// SPDX-License-Identifier: Apache-2.0

package deflate

import "sync"

const (
	window    = 32 << 10  // RFC 1951 section 2: how far back a match may reach
	blockFull = 128 << 10 // a block ends with the deflate block that fills it so far
	blockMax  = 256 << 10 // and in the middle of a deflate block here
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
}

var blocks = sync.Pool{New: func() any { return new(Block) }}

// Release gives the buffers back; the block and its Data must not be used again.
func (b *Block) Release() { blocks.Put(b) }
