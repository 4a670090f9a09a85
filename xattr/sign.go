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
	"errors"
	"fmt"
)

// Signer signs attributes with one key. It is safe for use by several
// goroutines if the key is. The signatures of keys in memory depend on key and
// content alone: RSA PKCS#1 v1.5, and ECDSA by RFC 6979.
type Signer struct {
	key  crypto.Signer
	skid []byte
}

// NewSigner takes an ECDSA key on P-256 or P-384, or an RSA key of 2048 bits or
// more. cert, which may be nil, must be the certificate that nodes load for the
// key: its subject key identifier names the key in the attributes.
func NewSigner(key crypto.Signer, cert *x509.Certificate) (*Signer, error) {
	skid, err := subjectKeyID(key.Public())
	if err != nil {
		return nil, err
	}
	if cert != nil {
		if !samePublic(key.Public(), cert.PublicKey) {
			return nil, errors.New("the certificate is that of another key")
		}
		if skid = cert.SubjectKeyId; len(skid) < len(KeyID{}) {
			return nil, errors.New("the certificate has no subject key identifier")
		}
	}
	return &Signer{key, skid}, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Public is the public key.
func (s *Signer) Public() crypto.PublicKey { return s.key.Public() }

// KeyID names the key as the attributes do.
func (s *Signer) KeyID() KeyID { return keyID(s.skid) }

// KeyIDOf names a key that has no certificate, or one whose subject key
// identifier is made by method 1 of RFC 5280 section 4.2.1.2, as evmctl does.
func KeyIDOf(pub crypto.PublicKey) (KeyID, error) {
	skid, err := subjectKeyID(pub)
	if err != nil {
		return KeyID{}, err
	}
	return keyID(skid), nil
}

// KeyIDOfCert names the key of a certificate.
func KeyIDOfCert(cert *x509.Certificate) (KeyID, error) {
	if len(cert.SubjectKeyId) >= len(KeyID{}) {
		return keyID(cert.SubjectKeyId), nil
	}
	return KeyIDOf(cert.PublicKey)
}

func keyID(skid []byte) (id KeyID) {
	copy(id[:], skid[len(skid)-len(id):])
	return id
}

// subjectKeyID is the SHA-1 of the bare public key, the bit string of
// SubjectPublicKeyInfo.
func subjectKeyID(pub crypto.PublicKey) ([]byte, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() {
			return nil, fmt.Errorf("ECDSA on %s: the kernel takes P-256 and P-384", pub.Params().Name)
		}
	case *rsa.PublicKey:
		if pub.N.BitLen() < 2048 {
			return nil, fmt.Errorf("RSA of %d bits: too short, 2048 is the least", pub.N.BitLen())
		}
	default:
		return nil, fmt.Errorf("key of type %T: the kernel takes ECDSA and RSA", pub)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	var info struct {
		Algorithm asn1.RawValue
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, err
	}
	sum := sha1.Sum(info.PublicKey.Bytes)
	return sum[:], nil
}

// IMA is the value of security.ima with a signature over d, of version 2 or 3.
func (s *Signer) IMA(d Digest, version int) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	sum := d.Sum
	switch version {
	case 2:
	case 3:
		sum = fileID(d)
	default:
		return nil, fmt.Errorf("IMA signature version %d", version)
	}
	return s.value(TypeSignature, byte(version), d.Hash, sum)
}

func (s *Signer) value(typ, version byte, h Hash, sum []byte) ([]byte, error) {
	sig, err := s.sign(h, sum)
	if err != nil {
		return nil, err
	}
	return Value{Type: typ, Version: version, Hash: h, KeyID: s.KeyID(), Sig: sig}.Append(nil), nil
}

// sign signs a digest. Without a source of randomness crypto/ecdsa signs by RFC
// 6979, and crypto/rsa needs none.
func (s *Signer) sign(h Hash, sum []byte) ([]byte, error) {
	return s.key.Sign(nil, sum, hashes[h])
}

var errVerify = errors.New("the signature does not fit")

func verify(pub crypto.PublicKey, h Hash, sum, sig []byte) error {
	ok := false
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(pub, sum, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(pub, hashes[h], sum, sig) == nil
	default:
		return fmt.Errorf("key of type %T", pub)
	}
	if !ok {
		return errVerify
	}
	return nil
}
