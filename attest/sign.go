// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
)

// MediaTypeBundle is a sigstore bundle, version 0.3.
const MediaTypeBundle = "application/vnd.dev.sigstore.bundle.v0.3+json"

// payloadType is the DSSE payload type of statements and links.
const payloadType = "application/vnd.in-toto+json"

// Bundle is a sigstore bundle v0.3 with a DSSE envelope, as far as signatures
// by a key need it.
type Bundle struct {
	MediaType            string               `json:"mediaType"`
	VerificationMaterial VerificationMaterial `json:"verificationMaterial"`
	DSSEEnvelope         Envelope             `json:"dsseEnvelope"`
}

// pae is what is signed.
func (b *Bundle) pae() []byte { return dsse.PAE(b.DSSEEnvelope.PayloadType, b.DSSEEnvelope.Payload) }

// VerificationMaterial names the key: by a hint, or by the certificate of a delegated key.
type VerificationMaterial struct {
	PublicKey   *PublicKeyHint `json:"publicKey,omitempty"`
	Certificate *Certificate   `json:"certificate,omitempty"`
}

// PublicKeyHint has the SHA-256 of the public key in PKIX DER, in base64.
type PublicKeyHint struct {
	Hint string `json:"hint"`
}

// Certificate is an X.509 certificate in DER.
type Certificate struct {
	RawBytes []byte `json:"rawBytes"`
}

// Envelope is a DSSE envelope.
type Envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an envelope.
type Signature struct {
	KeyID string `json:"keyid,omitempty"`
	Sig   []byte `json:"sig"`
}

// Bundler signs statements: a [Signer] with a key, package keyless without one.
type Bundler interface {
	// Bundle gives a sigstore bundle v0.3 with the statement in a DSSE envelope.
	Bundle(ctx context.Context, statement []byte) ([]byte, error)
}

// Signer signs statements with one key.
type Signer struct {
	key       crypto.Signer
	material  VerificationMaterial
	publicDER []byte
}

// NewSigner makes a signer of an ECDSA P-256 or P-384 key or an RSA key. With
// a key that was delegated to, delegation is its certificate, by which a verifier finds
// the key that it trusts; it is nil otherwise.
func NewSigner(key crypto.Signer, delegation *x509.Certificate) (*Signer, error) {
	switch pub := key.Public().(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
	default:
		return nil, fmt.Errorf("key of type %T cannot sign attestations", pub)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	s := &Signer{key: key, publicDER: der}
	if delegation != nil {
		s.material.Certificate = &Certificate{delegation.Raw}
	} else {
		sum := sha256.Sum256(der)
		s.material.PublicKey = &PublicKeyHint{base64.StdEncoding.EncodeToString(sum[:])}
	}
	return s, nil
}

// Bundle signs a statement.
func (s *Signer) Bundle(_ context.Context, statement []byte) ([]byte, error) {
	sig, err := sign(s.key, dsse.PAE(payloadType, statement), crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return jsonedit.Marshal(Bundle{
		MediaType:            MediaTypeBundle,
		VerificationMaterial: s.material,
		DSSEEnvelope:         Envelope{Payload: statement, PayloadType: payloadType, Signatures: []Signature{{Sig: sig}}},
	})
}

// sign signs the hash of message. Signatures are deterministic for keys in
// memory: ECDSA by RFC 6979, which a nil rand asks crypto/ecdsa for, RSA PKCS #1 v1.5 by itself.
func sign(key crypto.Signer, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	h := opts.HashFunc().New()
	h.Write(message)
	random := rand.Reader
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		random = nil
	}
	return key.Sign(random, h.Sum(nil), opts)
}

// verify checks a signature over the hash of message. A P-384 key may have
// signed the SHA-256 or the SHA-384: tools of the ecosystem use either.
func verify(public crypto.PublicKey, message, sig []byte) error {
	sum := sha256.Sum256(message)
	switch public := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], sig)
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(public, sum[:], sig) {
			return nil
		}
		long := sha512.Sum384(message)
		if public.Curve == elliptic.P384() && ecdsa.VerifyASN1(public, long[:], sig) {
			return nil
		}
		return errors.New("ECDSA signature does not verify")
	}
	return fmt.Errorf("key of type %T cannot verify attestations", public)
}

// parseBundle reads a bundle and the statement in it. Nothing is verified, and errors quote little of it.
func parseBundle(raw []byte) (*Bundle, *Statement, error) {
	var b Bundle
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, nil, fmt.Errorf("bundle: %w", err)
	}
	switch {
	case b.MediaType != MediaTypeBundle:
		return nil, nil, fmt.Errorf("bundle: media type %.100q", b.MediaType)
	case len(b.DSSEEnvelope.Signatures) != 1:
		return nil, nil, fmt.Errorf("bundle: %d signatures, want 1", len(b.DSSEEnvelope.Signatures))
	case b.DSSEEnvelope.PayloadType != payloadType:
		return nil, nil, fmt.Errorf("bundle: payload type %.100q", b.DSSEEnvelope.PayloadType)
	}
	var s Statement
	if err := json.Unmarshal(b.DSSEEnvelope.Payload, &s); err != nil {
		return nil, nil, fmt.Errorf("statement: %w", err)
	}
	if s.Type != statementType {
		return nil, nil, fmt.Errorf("statement: type %.100q", s.Type)
	}
	return &b, &s, nil
}
