// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"errors"
	"io"
)

// Reader inflates a gzip file. Its methods are for one goroutine at a time.
type Reader struct {
	src  io.ReaderAt
	size int64
}

var errNotYet = errors.New("not implemented")

// NewReader reads the gzip file of size bytes in src. It fails when src does not
// begin with a gzip member header. Errors of a Reader name the byte of src at
// which it noticed.
func NewReader(src io.ReaderAt, size int64) (*Reader, error) {
	return nil, errNotYet
}

// Next gives the next block, which is then the caller's to Release. It gives
// io.EOF after the last, and only if the CRC-32 and the length in the trailer of
// each member were right. After an error it gives the same error again.
func (r *Reader) Next() (*Block, error) { return nil, errNotYet }

// Fork gives a Reader that continues on its own from where r is: its next block
// has the offset that r's next block has. It shares nothing with r but src.
func (r *Reader) Fork() *Reader { return nil }
