// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Types of security.ima and security.evm: enum evm_ima_xattr_type of Linux
// 6.12, security/integrity/integrity.h.
const (
	TypeSignature   = 3 // EVM_IMA_XATTR_DIGSIG
	TypeDigest      = 4 // IMA_XATTR_DIGEST_NG
	TypePortableEVM = 5 // EVM_XATTR_PORTABLE_DIGSIG
)

// KeyID names a key in an attribute: the last four bytes of the subject key
// identifier.
type KeyID [4]byte

// String is eight hex digits, as evmctl and keyctl show them.
func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// Value is a parsed security.ima or security.evm.
type Value struct {
	Type    byte // TypeSignature, TypeDigest or TypePortableEVM
	Hash    Hash
	Sum     []byte // of a digest
	Version byte   // of a signature: 2 or 3
	KeyID   KeyID
	Sig     []byte
}

// IMA is the value of security.ima that holds the digest alone: {type 4,
// hash_algo, digest}.
func (d Digest) IMA() []byte { return append([]byte{TypeDigest, byte(d.Hash)}, d.Sum...) }

// signatureHeader is the size of struct signature_v2_hdr up to sig: type,
// version, hash_algo, keyid (be32), sig_size (be16).
const signatureHeader = 9

// maxSignature is more than RSA-8192 takes.
const maxSignature = 1024

// Parse reads a security.ima or security.evm. An unknown type, version or
// algorithm and a wrong length are errors.
func Parse(b []byte) (Value, error) {
	if len(b) < 2 {
		return Value{}, fmt.Errorf("value of %d bytes", len(b))
	}
	v := Value{Type: b[0]}
	switch v.Type {
	case TypeDigest:
		v.Hash, v.Sum = Hash(b[1]), b[2:]
		return v, Digest{v.Hash, v.Sum}.check()
	case TypeSignature, TypePortableEVM:
	default:
		return v, fmt.Errorf("value of type %d", v.Type)
	}
	if len(b) < signatureHeader {
		return v, fmt.Errorf("signature of %d bytes", len(b))
	}
	v.Version, v.Hash = b[1], Hash(b[2])
	copy(v.KeyID[:], b[3:7])
	v.Sig = b[signatureHeader:]
	switch {
	case v.Version != 2 && v.Version != 3:
		return v, fmt.Errorf("signature version %d", v.Version)
	case !v.Hash.Valid():
		return v, errors.New(v.Hash.String())
	case int(binary.BigEndian.Uint16(b[7:])) != len(v.Sig) || len(v.Sig) == 0 || len(v.Sig) > maxSignature:
		return v, fmt.Errorf("signature of %d bytes whose header says %d", len(v.Sig), binary.BigEndian.Uint16(b[7:]))
	}
	return v, nil
}

// Append appends the bytes that Parse reads.
func (v Value) Append(b []byte) []byte {
	if v.Type == TypeDigest {
		return append(b, Digest{v.Hash, v.Sum}.IMA()...)
	}
	b = append(b, v.Type, v.Version, byte(v.Hash))
	b = append(b, v.KeyID[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v.Sig)))
	return append(b, v.Sig...)
}

// Verify checks that v is a signature by pub over the digest d.
func (v Value) Verify(pub crypto.PublicKey, d Digest) error {
	if v.Type != TypeSignature {
		return fmt.Errorf("type %d is no signature", v.Type)
	}
	if err := d.check(); err != nil {
		return err
	}
	if v.Hash != d.Hash {
		return fmt.Errorf("signature over a %s digest, not %s", v.Hash, d.Hash)
	}
	sum := d.Sum
	if v.Version == 3 {
		sum = fileID(d)
	}
	return verify(pub, d.Hash, sum, v.Sig)
}

// fileID is what a signature of version 3 signs: the hash of struct ima_file_id
// without its unused tail (Linux 6.6, security/integrity/ima/ima_appraise.c,
// calc_file_id_hash).
func fileID(d Digest) []byte {
	h := d.Hash.New()
	h.Write([]byte{TypeSignature, byte(d.Hash)})
	h.Write(d.Sum)
	return h.Sum(nil)
}
