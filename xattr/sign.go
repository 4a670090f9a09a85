// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
)

// KeyID names a key in an IMA or EVM signature: the last four bytes of its
// subject key identifier.
type KeyID [4]byte

// String is the key id as evmctl and keyctl print it.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// KeyIDOf is the key id of a public key without a certificate: of the SHA-1
// over the bare key, as evmctl has it (calc_keyid_v2 of ima-evm-utils) and as
// method 1 of RFC 5280 section 4.2.1.2 makes subject key identifiers.
func KeyIDOf(pub crypto.PublicKey) (KeyID, error) {
	id, err := subjectKeyID(pub)
	if err != nil {
		return KeyID{}, err
	}
	return tail(id), nil
}

// KeyIDOfCert is the key id of a certificate, from its subject key identifier.
func KeyIDOfCert(cert *x509.Certificate) (KeyID, error) {
	if len(cert.SubjectKeyId) < len(KeyID{}) {
		return KeyID{}, errors.New("certificate: no subject key identifier, which is what signatures name a key by")
	}
	return tail(cert.SubjectKeyId), nil
}

func tail(id []byte) KeyID { return KeyID(id[len(id)-len(KeyID{}):]) }

// subjectKeyID is the SHA-1 of the subjectPublicKey bits.
func subjectKeyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(bare(pub))
	if err != nil {
		return nil, err
	}
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil, err
	}
	sum := sha1.Sum(spki.Key.Bytes)
	return sum[:], nil
}

// Signer makes attribute values with one key. It is safe for use by several
// goroutines if its key is.
type Signer struct {
	key          crypto.Signer
	subjectKeyID []byte
	bless        blessEncoder
}

// NewSigner checks that the key can be used in the kernel: ECDSA on P-256 or
// P-384, RSA of 2048 bits or more. The certificate, if there is one, must be the
// key's; its subject key identifier then names the key. Signatures are RSA PKCS#1
// v1.5 or ECDSA, asked for without a source of randomness: a key in memory then
// signs deterministically.
func NewSigner(key crypto.Signer, cert *x509.Certificate) (*Signer, error) {
	s := &Signer{key: key}
	switch pub := key.Public().(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() {
			return nil, fmt.Errorf("key: ECDSA on %s: choose P-256 or P-384", pub.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if pub.N.BitLen() < 2048 {
			return nil, fmt.Errorf("key: RSA of %d bits: 2048 is the least", pub.N.BitLen())
		}
	default:
		return nil, fmt.Errorf("key: %T: choose ECDSA or RSA", pub)
	}
	var err error
	if s.subjectKeyID, err = subjectKeyID(key.Public()); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if cert != nil {
		pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !pub.Equal(key.Public()) {
			return nil, errors.New("certificate: of another key")
		}
		if _, err := KeyIDOfCert(cert); err != nil {
			return nil, err
		}
		s.subjectKeyID = cert.SubjectKeyId
	}
	if s.bless, err = newBlessEncoder(key.Public(), s.subjectKeyID); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return s, nil
}

// Public is the public key.
func (s *Signer) Public() crypto.PublicKey { return s.key.Public() }

// KeyID is what the signatures name the key by.
func (s *Signer) KeyID() KeyID { return tail(s.subjectKeyID) }

// IMA is the value of a security.ima with a signature of d, of version 2 (every
// kernel with IMA) or 3 (Linux 7.x).
func (s *Signer) IMA(d Digest, version int) ([]byte, error) {
	if version != 2 && version != 3 {
		return nil, fmt.Errorf("signature version %d: choose 2 or 3", version)
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	sig, err := s.sign(imaSigned(d, version), d.Hash.crypto())
	if err != nil {
		return nil, err
	}
	return Value{Type: TypeSignature, Version: uint8(version), Hash: d.Hash, KeyID: s.KeyID(), Sig: sig}.Append(nil), nil
}

func (s *Signer) sign(sum []byte, h crypto.Hash) ([]byte, error) {
	sig, err := s.key.Sign(nil, sum, h) // without a source of randomness crypto/ecdsa signs by RFC 6979
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return sig, nil
}

// Verifier is a public key that verifies signatures by itself, as crypto/ecdsa does, only
// faster. It can stand for the key wherever signatures are verified.
type Verifier interface {
	PublicKey() *ecdsa.PublicKey
	VerifyASN1(hash, sig []byte) bool
}

// bare is the key itself.
func bare(pub crypto.PublicKey) crypto.PublicKey {
	if v, ok := pub.(Verifier); ok {
		return v.PublicKey()
	}
	return pub
}

var errSignature = errors.New("signature does not verify")

// verify checks a signature as the kernel's public_key_verify_signature does:
// PKCS#1 v1.5 for RSA, X9.62 (DER) for ECDSA.
func verify(pub crypto.PublicKey, h crypto.Hash, sum, sig []byte) error {
	switch pub := pub.(type) {
	case Verifier:
		if !pub.VerifyASN1(sum, sig) {
			return errSignature
		}
		return nil
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, sum, sig) {
			return errSignature
		}
		return nil
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(pub, h, sum, sig) != nil {
			return errSignature
		}
		return nil
	}
	return fmt.Errorf("key: %T: neither ECDSA nor RSA", pub)
}
