// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"errors"
	"io"
)

// Writer writes a gzip file from the blocks of another. Its methods are for one
// goroutine at a time.
type Writer struct {
	w io.Writer
}

// NewWriter writes to w, in pieces of 64 KiB or more but for the last.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteBlock writes b, the block that follows the one written before, with edits
// applied. The edits are sorted and disjoint and begin in b: b.Off <= Off <
// b.Off+len(b.Data), or, to append to what b holds, Off == b.Off+len(b.Data). The
// bytes that an edit replaces may go on into the blocks that follow. WriteBlock
// keeps neither b nor edits; b is still the caller's to Release.
func (w *Writer) WriteBlock(b *Block, edits []Edit) error {
	return errors.New("deflate: not implemented")
}

// Close writes what is still buffered. It fails when the last block of the file
// was not written. It does not close the underlying writer.
func (w *Writer) Close() error { return errors.New("deflate: not implemented") }

// Stats counts what was written so far.
func (w *Writer) Stats() Stats { return Stats{} }
