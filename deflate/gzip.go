// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"errors"
	"hash/crc32"
	"io"
)

// maxText is the longest name or comment of a member header, in bytes with the zero behind it, that compress/gzip
// reads: nothing made of Go unpacks a longer one.
const maxText = 512

// RFC 1952 section 2.3.1.
const (
	flagHCRC    = 1 << 1
	flagExtra   = 1 << 2
	flagName    = 1 << 3
	flagComment = 1 << 4
	flagsKnown  = 1<<5 - 1
)

var (
	errMagic     = errors.New("not a gzip member")
	errMethod    = errors.New("compression method is not deflate")
	errHeaderCRC = errors.New("wrong CRC of gzip header")
	errTextLong  = errors.New("gzip header with a name or comment of more than 511 bytes, which container runtimes do not read")
	errCRC       = errors.New("wrong CRC-32 of the content")
	errSize      = errors.New("wrong length of the content")
	errTrailing  = errors.New("bytes after the last gzip member that are no other member, which container runtimes do not read")
)

// memberHeader reads a member header (RFC 1952 section 2.3).
func (r *Reader) memberHeader() error {
	var h [10]byte
	crc := uint32(0)
	next := func() (byte, error) {
		c, err := r.byte()
		crc = crc32.Update(crc, crc32.IEEETable, []byte{c})
		return c, err
	}
	for i := range h {
		c, err := next()
		if err != nil {
			return err
		}
		h[i] = c
		switch {
		case i == 1 && (h[0] != 0x1f || c != 0x8b):
			return errMagic
		case i == 2 && c != 8:
			return errMethod
		case i == 3 && c&^flagsKnown != 0:
			return errHeaderBits
		}
	}
	flags := h[3]
	if flags&flagExtra != 0 {
		lo, err := next()
		if err != nil {
			return err
		}
		hi, err := next()
		if err != nil {
			return err
		}
		for n := int(lo) | int(hi)<<8; n > 0; n-- {
			if _, err := next(); err != nil {
				return err
			}
		}
	}
	for _, f := range [...]byte{flagName, flagComment} {
		for n := 1; flags&f != 0; n++ {
			c, err := next()
			if err != nil {
				return err
			}
			if c == 0 {
				break
			}
			if n == maxText {
				return errTextLong
			}
		}
	}
	if flags&flagHCRC != 0 {
		want := crc & 0xffff
		lo, err := next()
		if err != nil {
			return err
		}
		hi, err := next()
		if err != nil {
			return err
		}
		if uint32(lo)|uint32(hi)<<8 != want {
			return errHeaderCRC
		}
	}
	return nil
}

// memberTrailer checks a member trailer against the content, and gives whether
// another member follows.
func (r *Reader) memberTrailer(crc, size uint32) (more bool, err error) {
	r.bit = (r.bit + 7) &^ 7
	var v [2]uint32
	for i := range 8 {
		c, err := r.byte()
		if err != nil {
			return false, err
		}
		v[i/4] |= uint32(c) << (i % 4 * 8)
	}
	if v[0] != crc {
		return false, errCRC
	}
	if v[1] != size {
		return false, errSize
	}
	c, err := r.byte()
	switch {
	case err == io.ErrUnexpectedEOF:
		return false, nil
	case err != nil:
		return false, err
	case c != 0x1f:
		return false, errTrailing // zeros too: gzip skips them, compress/gzip does not
	}
	r.bit -= 8
	return true, nil
}

// byte gives the next byte, of input that is at a byte boundary.
func (r *Reader) byte() (byte, error) {
	if err := r.need(1); err != nil {
		return 0, err
	}
	if r.bit>>3 >= r.end {
		return 0, io.ErrUnexpectedEOF
	}
	c := r.in[r.bit>>3]
	r.bit += 8
	return c, nil
}
