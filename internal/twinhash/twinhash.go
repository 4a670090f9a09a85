// SPDX-License-Identifier: Apache-2.0

// Package twinhash feeds the same bytes to two SHA-256 hashes at once.
//
// The bytes of a file are part of its layer: the digests of both are wanted, and
// hashing is a good part of what blessing a layer takes. SHA-256 spends its time
// waiting: each of its instructions needs the result of the one before. Two
// hashes have two chains of them, which a processor can work on side by side, and
// of the same bytes they share the message schedule (FIPS 180-4 section 6.2.2).
//
// The hashes are those of crypto/sha256, before and after. Where the processor has
// no SHA instructions, or a hash is of another kind, they are fed one after the
// other.
package twinhash

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
)

const (
	// few bytes are not worth the way through the states.
	few = 2 << 10
	// many is what the assembly takes at once: it cannot be preempted.
	many = 64 << 10
)

// Twin writes to two hashes. The zero value is ready; it is for one goroutine at a
// time.
type Twin struct{ a, b state }

// Write writes p to a and b.
func (t *Twin) Write(a, b hash.Hash, p []byte) {
	if available && len(p) >= few && t.a.read(a) && t.b.read(b) && t.a.have() == t.b.have() {
		// Both begin a block at the same byte of p.
		if n := -t.a.have() & (sha256.BlockSize - 1); n > 0 {
			a.Write(p[:n])
			b.Write(p[:n])
			p = p[n:]
			t.a.read(a)
			t.b.read(b)
		}
		n := len(p) &^ (sha256.BlockSize - 1)
		t.a.blocks(&t.b, p[:n])
		t.a.write(a)
		t.b.write(b)
		p = p[n:]
	}
	a.Write(p)
	b.Write(p)
}

// A state is what crypto/sha256 marshals: a magic, eight words, a block that is
// not yet complete, and the length so far, big-endian.
type state struct {
	buf [len(magic) + 8*4 + sha256.BlockSize + 8]byte
	h   [8]uint32
}

const magic = "sha\x03"

// read takes the state of h, and tells whether that is one of SHA-256.
func (s *state) read(h hash.Hash) bool {
	m, ok := h.(encoding.BinaryAppender)
	if !ok {
		return false
	}
	b, err := m.AppendBinary(s.buf[:0])
	if err != nil || len(b) != len(s.buf) || string(b[:len(magic)]) != magic {
		return false
	}
	for i := range s.h {
		s.h[i] = binary.BigEndian.Uint32(s.buf[len(magic)+4*i:])
	}
	return true
}

// length gives where the length stands.
func (s *state) length() []byte { return s.buf[len(s.buf)-8:] }

// have is how many bytes of a block wait to be hashed.
func (s *state) have() int {
	return int(binary.BigEndian.Uint64(s.length()) % sha256.BlockSize)
}

// blocks hashes whole blocks.
func (s *state) blocks(t *state, p []byte) {
	for _, s := range []*state{s, t} {
		binary.BigEndian.PutUint64(s.length(), binary.BigEndian.Uint64(s.length())+uint64(len(p)))
	}
	for len(p) > 0 {
		n := min(len(p), many)
		blocks(&s.h, &t.h, p[:n])
		p = p[n:]
	}
}

// write gives h the state.
func (s *state) write(h hash.Hash) {
	for i, v := range s.h {
		binary.BigEndian.PutUint32(s.buf[len(magic)+4*i:], v)
	}
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.buf[:]); err != nil {
		panic(err) // it is of the hash's own form
	}
}
