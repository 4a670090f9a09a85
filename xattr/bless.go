// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
)

// Statement is what security.bpf.bless signs: 88 bytes of fixed layout, so that
// no signature over something else can pass for one.
//
//	 0  16  "sbom-bless file\0"
//	16   1  version, 1
//	17   1  hash algorithm, a Hash
//	18   6  zero
//	24  64  the digest of the file's content, zeros behind it
func Statement(d Digest) [88]byte {
	var s [88]byte
	copy(s[:], "sbom-bless file\x00")
	s[16], s[17] = 1, byte(d.Hash)
	copy(s[24:], d.Sum)
	return s
}

// PKCS#7 (RFC 2315, RFC 5652) as the kernel reads it: crypto/asymmetric_keys/pkcs7.asn1
// of Linux 6.12. The signer is named by subject key identifier, so that a
// certificate can be renewed without a change of any layer.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content signedData `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version          int
	DigestAlgorithms []algorithm `asn1:"set"`
	Content          struct{ Type asn1.ObjectIdentifier }
	SignerInfos      []signerInfo `asn1:"set"`
}

type signerInfo struct {
	Version            int
	SubjectKeyID       []byte `asn1:"tag:0"`
	DigestAlgorithm    algorithm
	SignatureAlgorithm algorithm
	Signature          []byte
}

type algorithm struct {
	OID        asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	algSHA256     = algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.NullRawValue}
	algRSA        = algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullRawValue}
	algECDSA      = algorithm{OID: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}} // ecdsa-with-SHA256
)

// Bless is the value of security.bpf.bless for a file of the digest d: a DER
// PKCS#7 SignedData over Statement(d), detached, without certificates and
// signed attributes, SHA-256.
func (s *Signer) Bless(d Digest) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	sig, err := s.sign(SHA256, statementSum(d))
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(message(s.Public(), s.skid, sig))
}

func message(pub crypto.PublicKey, skid, sig []byte) contentInfo {
	alg := algECDSA
	if _, ok := pub.(*rsa.PublicKey); ok {
		alg = algRSA
	}
	m := contentInfo{Type: oidSignedData}
	m.Content = signedData{
		Version: 3, DigestAlgorithms: []algorithm{algSHA256},
		SignerInfos: []signerInfo{{3, skid, algSHA256, alg, sig}},
	}
	m.Content.Content.Type = oidData
	return m
}

func statementSum(d Digest) []byte {
	h := SHA256.New()
	s := Statement(d)
	h.Write(s[:])
	return h.Sum(nil)
}

// maxBless is more than RSA-8192 takes.
const maxBless = 2048

// VerifyBless checks that b is a security.bpf.bless by pub for a file of the
// digest d, in exactly the form that Signer.Bless writes.
func VerifyBless(pub crypto.PublicKey, b []byte, d Digest) error {
	if err := d.check(); err != nil {
		return err
	}
	var m contentInfo
	if len(b) > maxBless {
		return fmt.Errorf("PKCS#7 message of %d bytes", len(b))
	}
	if rest, err := asn1.Unmarshal(b, &m); err != nil || len(rest) > 0 {
		return errors.New("not the PKCS#7 message that bless writes")
	}
	if len(m.Content.SignerInfos) != 1 {
		return fmt.Errorf("PKCS#7 message with %d signers", len(m.Content.SignerInfos))
	}
	signer := m.Content.SignerInfos[0]
	switch pub.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
	default:
		return fmt.Errorf("key of type %T", pub)
	}
	again, err := asn1.Marshal(message(pub, signer.SubjectKeyID, signer.Signature))
	if err != nil || !bytes.Equal(again, b) {
		return errors.New("not the PKCS#7 message that bless writes for a key of this kind")
	}
	return verify(pub, SHA256, statementSum(d), signer.Signature)
}
