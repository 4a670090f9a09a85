// SPDX-License-Identifier: Apache-2.0

package p256_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/p256"
)

func newKey(t testing.TB) (*ecdsa.PrivateKey, *p256.Key) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := p256.New(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, k
}

func encode(t testing.TB, r, s *big.Int) []byte {
	t.Helper()
	sig, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// same demands the verdict of crypto/ecdsa, and returns it.
func same(t testing.TB, key *ecdsa.PublicKey, k *p256.Key, hash, sig []byte) bool {
	t.Helper()
	want := ecdsa.VerifyASN1(key, hash, sig)
	if got := k.VerifyASN1(hash, sig); got != want {
		t.Errorf("hash %x, signature %x: %v, crypto/ecdsa says %v", hash, sig, got, want)
	}
	return want
}

func TestVerdictIsThatOfTheStandardLibrary(t *testing.T) {
	n := elliptic.P256().Params().N
	for i := range 25 {
		key, k := newKey(t)
		message := []byte{byte(i)}
		short, long := sha256.Sum256(message), sha512.Sum512(message)
		for _, hash := range [][]byte{short[:], long[:], short[:20], {}, make([]byte, 32), bytes.Repeat([]byte{0xff}, 32)} {
			sig, err := ecdsa.SignASN1(rand.Reader, key, hash)
			if err != nil {
				t.Fatal(err)
			}
			if !same(t, &key.PublicKey, k, hash, sig) {
				t.Fatal("a good signature is refused")
			}
			var v struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(sig, &v); err != nil {
				t.Fatal(err)
			}
			// The other signature with the same r.
			if !same(t, &key.PublicKey, k, hash, encode(t, v.R, new(big.Int).Sub(n, v.S))) {
				t.Error("the mirrored signature is refused")
			}
			bad := 0
			for _, edge := range []*big.Int{new(big.Int), big.NewInt(1), new(big.Int).Sub(n, big.NewInt(1)), n, new(big.Int).Add(n, v.R), new(big.Int).Neg(v.R), new(big.Int).Lsh(n, 300)} {
				for _, sig := range [][]byte{encode(t, edge, v.S), encode(t, v.R, edge), encode(t, edge, edge)} {
					if !same(t, &key.PublicKey, k, hash, sig) {
						bad++
					}
				}
			}
			if bad != 21 {
				t.Errorf("%d of 21 edges are refused", bad)
			}
			for at := range sig {
				damaged := bytes.Clone(sig)
				damaged[at] ^= 1
				same(t, &key.PublicKey, k, hash, damaged)
			}
			same(t, &key.PublicKey, k, hash, sig[:len(sig)-1])
			same(t, &key.PublicKey, k, hash, append(bytes.Clone(sig), 0))
			same(t, &key.PublicKey, k, hash, nil)
		}
		other, _ := newKey(t)
		sig, err := ecdsa.SignASN1(rand.Reader, other, short[:])
		if err != nil {
			t.Fatal(err)
		}
		if same(t, &key.PublicKey, k, short[:], sig) {
			t.Error("a signature by another key verifies")
		}
	}
}

// TestPointsThatMeet has sums that a formula for different points would get wrong: with the
// generator as key, u1·G and u2·Q may be the same point, or cancel out.
func TestPointsThatMeet(t *testing.T) {
	c := elliptic.P256().Params()
	for _, d := range []int64{1, 2, 3} {
		var scalar [32]byte
		scalar[31] = byte(d)
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
		if err != nil {
			t.Fatal(err)
		}
		k, err := p256.New(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*big.Int{c.Gx, big.NewInt(1), big.NewInt(2)} {
			r := new(big.Int).Mod(r, c.N)
			for _, factor := range []int64{d, -d, 0} { // e = ±d·r: u1·G = ±u2·Q
				e := new(big.Int).Mul(r, big.NewInt(factor))
				e.Mod(e, c.N)
				for _, s := range []*big.Int{big.NewInt(1), big.NewInt(2), r, new(big.Int).Mod(new(big.Int).Mul(r, big.NewInt(2*d)), c.N)} {
					same(t, &key.PublicKey, k, e.FillBytes(make([]byte, 32)), encode(t, r, s))
				}
			}
		}
	}
}

func TestOtherCurvesAreRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p256.New(&key.PublicKey); err == nil {
		t.Error("a key on P-384 was taken")
	}
}

func FuzzVerify(f *testing.F) {
	key, k := newKey(f)
	hash := sha256.Sum256(nil)
	sig, err := ecdsa.SignASN1(rand.Reader, key, hash[:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hash[:], sig)
	f.Fuzz(func(t *testing.T, hash, sig []byte) { same(t, &key.PublicKey, k, hash, sig) })
}

func BenchmarkVerify(b *testing.B) {
	key, k := newKey(b)
	hash := sha256.Sum256(nil)
	sig, err := ecdsa.SignASN1(rand.Reader, key, hash[:])
	if err != nil {
		b.Fatal(err)
	}
	b.Run("table", func(b *testing.B) {
		for b.Loop() {
			k.VerifyASN1(hash[:], sig)
		}
	})
	b.Run("crypto-ecdsa", func(b *testing.B) {
		for b.Loop() {
			ecdsa.VerifyASN1(&key.PublicKey, hash[:], sig)
		}
	})
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			if _, err := p256.New(&key.PublicKey); err != nil {
				b.Fatal(err)
			}
		}
	})
}
