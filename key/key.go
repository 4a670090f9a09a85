// SPDX-License-Identifier: Apache-2.0

// Package key makes, loads and delegates the keys that bless signs with.
//
// [Generate] and [Key.WriteFiles] make a key pair with a self-signed X.509
// certificate (RFC 5280). [Load] takes a private key from a PEM file (PKCS#8,
// PKCS#1, SEC 1, PKCS#8 encrypted by PBES2 of RFC 8018, cosign's encrypted
// format), from a KMS through sigstore, or from a PKCS#11 token named by an
// RFC 7512 URI. [LoadPublic] takes the public half alone. [Delegate] has a root
// key certify a key that lives for one run.
//
// Only keys that the kernel can verify with are accepted: ECDSA on P-256 and
// P-384, RSA of 2048, 3072 and 4096 bits. Anything doubtful about a key is an
// error of Load, before anything was signed.
package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" // names keys, secures nothing
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
)

// Key is a key that signs.
type Key struct {
	Signer crypto.Signer
	Public crypto.PublicKey  // *ecdsa.PublicKey or *rsa.PublicKey
	Cert   *x509.Certificate // nil when there is none

	// Hash is what the key signs certificates and statements with: the hash that
	// its KMS binds it to, else SHA-384 for P-384, and SHA-256.
	Hash crypto.Hash

	// Remote tells that each signature is a call to a KMS or a token.
	Remote bool

	// Deterministic tells that the same digest always gets the same signature.
	// RSA PKCS#1 v1.5 does it anywhere; ECDSA only in memory, by RFC 6979.
	Deterministic bool

	close func() error // nil: nothing to close
}

// ID is the key's name in signatures and messages: the last four bytes, in hex,
// of its certificate's subject key identifier, or, without a certificate, of
// the SHA-1 of the bare public key, as evmctl(1) does.
func (k *Key) ID() string {
	id := k.subjectKeyID()
	return hex.EncodeToString(id[len(id)-4:])
}

// Close ends the session with a PKCS#11 token; Signer is of no use afterwards.
func (k *Key) Close() error {
	if k.close == nil {
		return nil
	}
	return k.close()
}

func (k *Key) subjectKeyID() []byte {
	if k.Cert != nil {
		return k.Cert.SubjectKeyId // checkCertificate saw that it is long enough
	}
	return subjectKeyID(k.Public)
}

// fill sets the fields of k that follow from its public key, which it judges.
func (k *Key) fill() error {
	if err := checkPublic(k.Public); err != nil {
		return err
	}
	_, isRSA := k.Public.(*rsa.PublicKey)
	k.Deterministic = isRSA || !k.Remote
	if k.Hash == 0 {
		k.Hash = crypto.SHA256
		if pub, ok := k.Public.(*ecdsa.PublicKey); ok && pub.Curve == elliptic.P384() {
			k.Hash = crypto.SHA384
		}
	}
	return nil
}

// subjectKeyID is RFC 5280 section 4.2.1.2 method 1: the SHA-1 of the BIT
// STRING that holds the key. pub passed checkPublic.
func subjectKeyID(pub crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic("key: public key that does not encode: " + err.Error())
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		panic("key: public key that does not decode: " + err.Error())
	}
	sum := sha1.Sum(info.Key.Bytes)
	return sum[:]
}

const hintKeygen = "\nhint: sbom-bless keygen makes a key that they can"

// checkPublic refuses the keys that the kernel cannot verify with. Linux's
// crypto/ecdsa.c knows no P-224, and P-521 since 6.10 alone; of the sizes that
// rsa_check_key_length (crypto/rsa.c) takes, three are safe.
func checkPublic(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() {
			return fmt.Errorf("ecdsa on %s: kernels verify P-256 and P-384"+hintKeygen, pub.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		switch bits := pub.N.BitLen(); {
		case bits < 2048:
			return fmt.Errorf("rsa of %d bits is too weak: at least 2048 are needed"+hintKeygen, bits)
		case bits != 2048 && bits != 3072 && bits != 4096:
			return fmt.Errorf("rsa of %d bits: kernels verify 2048, 3072 and 4096 bits"+hintKeygen, bits)
		}
	case ed25519.PublicKey:
		return errors.New("ed25519: the kernel's IMA and PKCS#7 verifiers do not know it" + hintKeygen)
	default:
		return fmt.Errorf("%T: not a key that kernels verify signatures with"+hintKeygen, pub)
	}
	return nil
}
