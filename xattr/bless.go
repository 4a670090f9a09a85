// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Statement is what a security.bpf.bless signs, never stored anywhere (struct
// signed_file of enforce/bpf/event.h):
//
//	offset  length
//	     0      16  "sbom-bless file" and a zero byte
//	    16       1  1, the version of this layout
//	    17       1  the hash algorithm: enum hash_algo of include/uapi/linux/hash_info.h
//	    18       6  zero
//	    24      64  the digest, zeros behind it
//
// The magic keeps any other signature by the same key from being passed off as
// one of a file.
func Statement(d Digest) [88]byte {
	var s [88]byte
	copy(s[:], "sbom-bless file\x00")
	s[16], s[17] = 1, byte(d.Hash)
	copy(s[24:], d.Sum)
	return s
}

// Bless is the value of a security.bpf.bless: the DER of a CMS ContentInfo (RFC
// 5652) with these members and no others:
//
//	SEQUENCE
//	  OBJECT id-signedData
//	  [0] SEQUENCE                   SignedData
//	    INTEGER 3
//	    SET SEQUENCE OBJECT id-sha256
//	    SEQUENCE OBJECT id-data      the content itself is detached
//	    SET SEQUENCE                 SignerInfo
//	      INTEGER 3
//	      [0] subject key identifier
//	      SEQUENCE OBJECT id-sha256
//	      SEQUENCE OBJECT rsaEncryption NULL  or  SEQUENCE OBJECT ecdsa-with-SHA256
//	      OCTET STRING signature
//
// The signature is over the SHA-256 of Statement(d), whatever algorithm d is
// of. The signer is named by subject key identifier, so that a certificate can be
// renewed without a byte of the attribute changing (the kernel's
// pkcs7_sig_note_skid, crypto/asymmetric_keys/pkcs7_parser.c).
func (s *Signer) Bless(d Digest) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	content := Statement(d)
	sum := sha256.Sum256(content[:])
	sig, err := s.sign(sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return s.bless.encode(sig), nil
}

// VerifyBless checks that b, a security.bpf.bless, is a signature of d by pub in
// exactly the form of Signer.Bless. The subject key identifier in it is not
// looked at: choosing the key is the caller's.
func VerifyBless(pub crypto.PublicKey, b []byte, d Digest) error {
	if err := d.check(); err != nil {
		return err
	}
	e, sig, err := parseBless(b)
	if err != nil {
		return err
	}
	if want, err := newBlessEncoder(bare(pub), nil); err != nil || !bytes.Equal(want.algorithm, e.algorithm) {
		return errSignature
	}
	content := Statement(d)
	sum := sha256.Sum256(content[:])
	return verify(pub, crypto.SHA256, sum[:], sig)
}

// Parts of the DER that never change.
const (
	oidSignedData = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" // 1.2.840.113549.1.7.2
	oidData       = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01" // 1.2.840.113549.1.7.1
	algSHA256     = "\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01"
	algRSA        = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
	algECDSA      = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02" // ecdsa-with-SHA256
	derVersion3   = "\x02\x01\x03"
)

// Tags of DER.
const (
	tagOctets   = 0x04
	tagSequence = 0x30
	tagSet      = 0x31
	tagSigner   = 0x80 // [0] IMPLICIT OCTET STRING
	tagContent  = 0xa0 // [0] EXPLICIT
)

// blessEncoder writes the PKCS#7 of one key.
type blessEncoder struct {
	subjectKeyID []byte
	algorithm    []byte // one of algRSA and algECDSA
}

func newBlessEncoder(pub crypto.PublicKey, subjectKeyID []byte) (blessEncoder, error) {
	e := blessEncoder{subjectKeyID: subjectKeyID}
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		e.algorithm = []byte(algECDSA)
	case *rsa.PublicKey:
		e.algorithm = []byte(algRSA)
	default:
		return e, fmt.Errorf("%T: neither ECDSA nor RSA", pub)
	}
	return e, nil
}

func (e blessEncoder) encode(sig []byte) []byte {
	signer := tlv(tagSequence, []byte(derVersion3), tlv(tagSigner, e.subjectKeyID), []byte(algSHA256), e.algorithm, tlv(tagOctets, sig))
	signed := tlv(tagSequence, []byte(derVersion3), tlv(tagSet, []byte(algSHA256)), tlv(tagSequence, []byte(oidData)), tlv(tagSet, signer))
	return tlv(tagSequence, []byte(oidSignedData), tlv(tagContent, signed))
}

// parseBless is the inverse of encode: it takes apart no other encoding than
// that one gives.
func parseBless(b []byte) (e blessEncoder, sig []byte, err error) {
	d := derReader{rest: b}
	d.enter(tagSequence).skip(oidSignedData).enter(tagContent).enter(tagSequence)
	d.skip(derVersion3).enter(tagSet).skip(algSHA256)
	d.enter(tagSequence).skip(oidData)
	d.enter(tagSet).enter(tagSequence).skip(derVersion3)
	e.subjectKeyID = bytes.Clone(d.take(tagSigner))
	d.skip(algSHA256)
	switch {
	case bytes.HasPrefix(d.rest, []byte(algRSA)):
		e.algorithm = []byte(algRSA)
	case bytes.HasPrefix(d.rest, []byte(algECDSA)):
		e.algorithm = []byte(algECDSA)
	default:
		d.bad = true
	}
	d.skip(string(e.algorithm))
	sig = bytes.Clone(d.take(tagOctets))
	if d.bad || !bytes.Equal(e.encode(sig), b) {
		return blessEncoder{}, nil, errors.New("not a PKCS#7 signature of the form that this attribute has")
	}
	return e, sig, nil
}

// tlv is the DER of a value that consists of parts.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n+4)
	switch {
	case n < 0x80:
		b = append(b, tag, byte(n))
	case n < 0x100:
		b = append(b, tag, 0x81, byte(n))
	default: // a signature is far below 64 KiB
		b = append(b, tag, 0x82, byte(n>>8), byte(n))
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// derReader walks through DER from front to back. Lengths of what it enters are
// not checked against each other: encoding again tells.
type derReader struct {
	rest []byte
	bad  bool
}

// enter steps into the value.
func (d *derReader) enter(tag byte) *derReader {
	d.header(tag)
	return d
}

// take gives the value and steps over it.
func (d *derReader) take(tag byte) []byte {
	n := d.header(tag)
	if d.bad || n > len(d.rest) {
		d.bad = true
		return nil
	}
	v := d.rest[:n]
	d.rest = d.rest[n:]
	return v
}

// skip steps over these very bytes.
func (d *derReader) skip(want string) *derReader {
	rest, ok := bytes.CutPrefix(d.rest, []byte(want))
	d.rest, d.bad = rest, d.bad || !ok
	return d
}

// header steps over tag and length and gives the length.
func (d *derReader) header(tag byte) int {
	b := d.rest
	switch {
	case len(b) < 2 || b[0] != tag:
	case b[1] < 0x80:
		d.rest = b[2:]
		return int(b[1])
	case b[1] == 0x81 && len(b) >= 3:
		d.rest = b[3:]
		return int(b[2])
	case b[1] == 0x82 && len(b) >= 4:
		d.rest = b[4:]
		return int(b[2])<<8 | int(b[3])
	}
	d.bad = true
	return 0
}
