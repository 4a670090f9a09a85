// SPDX-License-Identifier: Apache-2.0

// Package p256 verifies ECDSA signatures on P-256 of which one key made many.
//
// It is the verification of FIPS 186-5, section 6.4.2, and SEC 1, 4.1.4, on the points of
// filippo.io/nistec, which are those of crypto/ecdsa. crypto/ecdsa knows nothing of the key beforehand, and most of its
// time goes into 256 doublings of the key's point; here a table has their results,
// and a verification takes half the time. Nothing here is secret, so nothing is constant-time.
package p256

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"math/big"

	"filippo.io/nistec"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const size = 32 // bytes of a scalar and of a coordinate

// Key is a public key Q with its table. It is safe for concurrent use.
type Key struct {
	public *ecdsa.PublicKey
	// table has d·2^(8i)·Q at [i][d-1]: 800 KB.
	table [size][255]nistec.P256Point
}

// New makes the table, in about as much time as a hundred verifications.
func New(pub *ecdsa.PublicKey) (*Key, error) {
	if pub.Curve != elliptic.P256() {
		return nil, errors.New("key: not on P-256")
	}
	raw, err := pub.Bytes()
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	base, err := nistec.NewP256Point().SetBytes(raw) // which checks that the point is on the curve
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	k := &Key{public: pub}
	for i := range k.table {
		row := &k.table[i]
		row[0].Set(base)
		for d := 1; d < len(row); d++ {
			row[d].Add(&row[d-1], base)
		}
		base = nistec.NewP256Point().Add(&row[len(row)-1], base)
	}
	return k, nil
}

// PublicKey is the key without its table.
func (k *Key) PublicKey() *ecdsa.PublicKey { return k.public }

// mult is the point u·Q.
func (k *Key) mult(u *[size]byte) *nistec.P256Point {
	p := nistec.NewP256Point()
	for i := range k.table {
		if d := u[size-1-i]; d > 0 {
			p.Add(p, &k.table[i][d-1])
		}
	}
	return p
}

// order is that of the curve's group.
var order = elliptic.P256().Params().N

// VerifyASN1 is ecdsa.VerifyASN1 with this key.
func (k *Key) VerifyASN1(hash, sig []byte) bool {
	r, s, ok := parse(sig)
	if !ok {
		return false
	}
	w := new(big.Int).ModInverse(s, order)
	e := new(big.Int).SetBytes(hash[:min(size, len(hash))])
	e.Mul(e, w).Mod(e, order)
	w.Mul(r, w).Mod(w, order)
	var u1, u2 [size]byte
	p, err := nistec.NewP256Point().ScalarBaseMult(e.FillBytes(u1[:]))
	if err != nil {
		return false
	}
	w.FillBytes(u2[:])
	x, err := p.Add(p, k.mult(&u2)).BytesX() // an error for the point at infinity
	if err != nil {
		return false
	}
	v := e.SetBytes(x)
	return v.Mod(v, order).Cmp(r) == 0
}

// parse reads an ECDSA-Sig-Value (RFC 3279, 2.2.3) in DER, with both numbers from
// 1 to the order less 1.
func parse(sig []byte) (r, s *big.Int, ok bool) {
	var inner cryptobyte.String
	in := cryptobyte.String(sig)
	r, s = new(big.Int), new(big.Int)
	if !in.ReadASN1(&inner, asn1.SEQUENCE) || !in.Empty() || !inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) || !inner.Empty() {
		return nil, nil, false
	}
	return r, s, r.Sign() > 0 && s.Sign() > 0 && r.Cmp(order) < 0 && s.Cmp(order) < 0
}
