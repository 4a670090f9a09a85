// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// FuzzParseBundle has nothing but a good signature pass.
func FuzzParseBundle(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	s, err := NewSigner(key, nil)
	if err != nil {
		f.Fatal(err)
	}
	statement := `{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"t","predicate":{}}`
	good, err := s.Bundle(context.Background(), []byte(statement))
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range []string{string(good), "", "{}", `{"mediaType":"` + MediaTypeBundle + `","dsseEnvelope":{"payload":"e30=","payloadType":"` + payloadType + `","signatures":[{}]}}`} {
		f.Add([]byte(b))
	}
	trust := Trust{Keys: []crypto.PublicKey{key.Public()}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, _, err := parseBundle(raw)
		if err != nil {
			return
		}
		if _, err := trust.verify(b); err == nil && string(b.DSSEEnvelope.Payload) != statement {
			t.Errorf("%s verifies", raw)
		}
	})
}

// TestLaterHashOfP384 takes the signatures of tools that hash as long as the curve is.
func TestLaterHashOfP384(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	message := dsse.PAE(payloadType, []byte("{}"))
	sum := sha512.Sum384(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(key.Public(), message, sig); err != nil {
		t.Error(err)
	}
	if err := verify(key.Public(), append(message, ' '), sig); err == nil {
		t.Error("a changed message verifies")
	}
}
