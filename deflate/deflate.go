// SPDX-License-Identifier: Apache-2.0

// Package deflate splices edits into a gzip file (RFC 1952) without compressing
// it again: what an edit does not touch keeps the deflate (RFC 1951) coding that
// its author chose, most of it bit for bit.
//
// [Splice] does it in one call. [Reader] and [Writer] are its halves, for callers
// who learn the edits from the content as it passes: the Reader inflates and
// yields a [Block] after the other, each with the bits and the matches it was
// made of; the Writer takes the blocks in order, with the edits that begin in
// each, and writes the gzip file that inflates to the edited content.
//
// A deflate block that no edit touches, and whose matches do not reach back
// across one, is copied bit for bit. Elsewhere the matches are kept and their
// distances changed by what was inserted on the way; a match that spans an edit
// is split, and one whose source has left the 32 KiB window becomes literals or
// is searched for again. Without edits the output equals the input in every byte.
// With edits it depends on the input and the edits alone: not on timing, the
// number of processors or how the input was read.
//
// Member boundaries and member headers (RFC 1952 section 2.3, every optional field)
// are kept. A header field that states sizes of the compressed data, as BGZF's does,
// is kept as well and may no longer be true. What compress/gzip refuses is refused,
// since that is what container runtimes unpack layers with: names and comments of 512 bytes and
// more, and zero padding behind the last member.
package deflate

import (
	"fmt"
	"io"
)

// Edit replaces Len bytes at Off by New. Off counts uncompressed bytes from the
// start of the file, over all its members, before any edit. A list of edits is
// sorted by Off and none begins inside the bytes that the one before it replaces;
// several insertions (Len 0) at one Off are written in their order.
type Edit struct {
	Off, Len int64
	New      []byte
}

// Stats tells what became of a file.
type Stats struct {
	// Copied and Recoded count the compressed bits that were kept and written anew.
	Copied, Recoded int64
	// Lost counts the uncompressed bytes whose match could not be kept: its source
	// was edited away or fell out of the window. Found is how many of these a new
	// search matched again; the others became literals.
	Lost, Found int64
}

// Splice writes to dst the gzip file that inflates to the content of src, of size
// compressed bytes, with the edits applied. An edit may lie anywhere up to the end
// of the content, and may span members. On error dst has received a part of the
// file that cannot be used.
func Splice(dst io.Writer, src io.ReaderAt, size int64, edits []Edit) (Stats, error) {
	r, w := NewReader(src, size), NewWriter(dst)
	for {
		b, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return w.Stats(), err
		}
		end := b.Off + int64(len(b.Data))
		n := 0
		for n < len(edits) && (edits[n].Off < end || edits[n].Off == end && b.Last) {
			n++
		}
		err = w.WriteBlock(b, edits[:n])
		b.Release()
		if err != nil {
			return w.Stats(), err
		}
		edits = edits[n:]
	}
	if len(edits) > 0 {
		return w.Stats(), fmt.Errorf("edit at %d: beyond the end of the content", edits[0].Off)
	}
	return w.Stats(), w.Close()
}
