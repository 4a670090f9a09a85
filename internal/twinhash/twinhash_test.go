// SPDX-License-Identifier: Apache-2.0

package twinhash

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"math/rand/v2"
	"testing"
)

// random gives n bytes.
func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

// check writes p in pieces of the given lengths to two hashes that had other
// bytes before, and compares with crypto/sha256 alone.
func check(t *testing.T, beforeA, beforeB, p []byte, pieces []int) {
	t.Helper()
	var twin Twin
	a, b, wantA, wantB := sha256.New(), sha256.New(), sha256.New(), sha256.New()
	a.Write(beforeA)
	wantA.Write(beforeA)
	b.Write(beforeB)
	wantB.Write(beforeB)
	for _, n := range append(pieces, len(p)) {
		n = min(n, len(p))
		twin.Write(a, b, p[:n])
		wantA.Write(p[:n])
		wantB.Write(p[:n])
		if !bytes.Equal(a.Sum(nil), wantA.Sum(nil)) || !bytes.Equal(b.Sum(nil), wantB.Sum(nil)) {
			t.Fatalf("%d and %d bytes before, then %v: digests differ after a piece of %d bytes", len(beforeA), len(beforeB), pieces, n)
		}
		p = p[n:]
	}
}

func TestBothGetTheirDigest(t *testing.T) {
	if !available {
		t.Log("this processor has no SHA instructions: one hash after the other")
	}
	p := random(200 << 10)
	for before := range 130 {
		check(t, p[:before], p[:before], p[1000:1000+few+before], nil)
		check(t, p[:before], p[100:100+before+64*7], p, []int{few + 64 - before, 1, few, few + 63, 100_000})
		check(t, p[:before], p[:before+1], p[:few+before], nil)
	}
	for n := few - 70; n < few+140; n++ {
		check(t, nil, nil, p[:n], nil)
	}
	check(t, nil, p[:64<<10], p, []int{many, many + 1, 64})
}

func TestOtherHashesAreFedToo(t *testing.T) {
	p := random(10_000)
	for _, other := range []func() hash.Hash{sha512.New, sha256.New224} {
		var twin Twin
		a, b := sha256.New(), other()
		twin.Write(a, b, p)
		want := other()
		want.Write(p)
		if sum := sha256.Sum256(p); !bytes.Equal(a.Sum(nil), sum[:]) || !bytes.Equal(b.Sum(nil), want.Sum(nil)) {
			t.Errorf("beside one of %d bytes the digest is wrong", b.Size())
		}
	}
}

func FuzzTwin(f *testing.F) {
	f.Add(uint16(0), uint16(0), uint32(5000), uint32(3000))
	f.Add(uint16(63), uint16(127), uint32(70000), uint32(64))
	p := random(300 << 10)
	f.Fuzz(func(t *testing.T, a, b uint16, n, m uint32) {
		check(t, p[:a], p[1:1+int(b)], p[:n%uint32(len(p))], []int{int(m % uint32(len(p)))})
	})
}

// BenchmarkTwin compares with one hash after the other, in one run.
func BenchmarkTwin(b *testing.B) {
	p := random(25_000) // an average file
	b.Run("twin", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		var twin Twin
		x, y := sha256.New(), sha256.New()
		for b.Loop() {
			twin.Write(x, y, p)
		}
	})
	b.Run("one after the other", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		x, y := sha256.New(), sha256.New()
		for b.Loop() {
			x.Write(p)
			y.Write(p)
		}
	})
}
