// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of attribute values: enum evm_ima_xattr_type of
// security/integrity/integrity.h.
const (
	TypeSignature         byte = 3 // EVM_IMA_XATTR_DIGSIG
	TypeDigest            byte = 4 // IMA_XATTR_DIGEST_NG
	TypePortableSignature byte = 5 // EVM_XATTR_PORTABLE_DIGSIG
)

// ErrNotSigned says that a security.ima holds a digest alone, so it proves nothing.
var ErrNotSigned = errors.New("a digest, not a signature")

// Value is a parsed security.ima, or the signature of a security.evm.
type Value struct {
	Type    byte
	Version uint8  // of a signature: 2 or 3
	Hash    Hash   // of the digest, also of the signed one
	Sum     []byte // of a digest
	KeyID   KeyID  // of a signature
	Sig     []byte // of a signature: PKCS#1 v1.5, or a DER ECDSA-Sig-Value
}

// signatureHeader is the length of struct signature_v2_hdr without the
// signature: type, version, hash_algo, be32 keyid, be16 sig_size.
const signatureHeader = 1 + 1 + 1 + 4 + 2

// Parse reads the value of a security.ima: a digest (type 4), or a signature
// (type 3) of version 2 or 3. Parse and Append are inverses.
func Parse(b []byte) (Value, error) {
	if len(b) == 0 {
		return Value{}, errors.New("empty value")
	}
	switch b[0] {
	case TypeDigest:
		if len(b) < 2 {
			return Value{}, errors.New("digest: cut short")
		}
		v := Value{Type: TypeDigest, Hash: Hash(b[1]), Sum: bytes.Clone(b[2:])}
		if v.Hash.Size() == 0 {
			return Value{}, fmt.Errorf("digest: unknown %s", v.Hash)
		}
		if len(v.Sum) != v.Hash.Size() {
			return Value{}, fmt.Errorf("digest: %s of %d bytes, want %d", v.Hash, len(v.Sum), v.Hash.Size())
		}
		return v, nil
	case TypeSignature:
		return parseSignature(b)
	}
	return Value{}, fmt.Errorf("value of unknown type %d", b[0])
}

// parseSignature reads struct signature_v2_hdr.
func parseSignature(b []byte) (Value, error) {
	if len(b) < signatureHeader {
		return Value{}, errors.New("signature: cut short")
	}
	v := Value{Type: b[0], Version: b[1], Hash: Hash(b[2]), KeyID: KeyID(b[3:7]), Sig: bytes.Clone(b[signatureHeader:])}
	if v.Version != 2 && v.Version != 3 {
		return Value{}, fmt.Errorf("signature: unknown version %d", v.Version)
	}
	if v.Hash.Size() == 0 {
		return Value{}, fmt.Errorf("signature: unknown %s", v.Hash)
	}
	if n := int(binary.BigEndian.Uint16(b[7:9])); n != len(v.Sig) || n == 0 {
		return Value{}, fmt.Errorf("signature: %d bytes, its header says %d", len(v.Sig), n)
	}
	return v, nil
}

// Append adds the encoding of v to b.
func (v Value) Append(b []byte) []byte {
	if v.Type == TypeDigest {
		return append(append(b, v.Type, byte(v.Hash)), v.Sum...)
	}
	b = append(b, v.Type, v.Version, byte(v.Hash))
	b = append(b, v.KeyID[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v.Sig)))
	return append(b, v.Sig...)
}

// IMA is the value of a security.ima that holds the digest alone (type 4).
func (d Digest) IMA() []byte {
	return Value{Type: TypeDigest, Hash: d.Hash, Sum: d.Sum}.Append(nil)
}

// Verify checks that v is a signature of d by pub. It does not look at the key
// id: choosing the key is the caller's. ErrNotSigned if v is a digest.
func (v Value) Verify(pub crypto.PublicKey, d Digest) error {
	if v.Type != TypeSignature {
		return ErrNotSigned
	}
	if err := d.check(); err != nil {
		return err
	}
	if v.Hash != d.Hash {
		return fmt.Errorf("signature is over %s, not %s", v.Hash, d.Hash)
	}
	return verify(pub, d.Hash.crypto(), imaSigned(d, int(v.Version)), v.Sig)
}

// imaSigned is the digest that a security.ima of this version signs. Version 2
// signs the file's digest itself. Version 3 signs the hash, by the same
// algorithm, of struct ima_file_id as far as it is used: type of the attribute,
// algorithm, digest (calc_file_id_hash in security/integrity/digsig_asymmetric.c,
// Linux 7.3).
func imaSigned(d Digest, version int) []byte {
	if version == 2 {
		return d.Sum
	}
	h := d.Hash.New()
	h.Write([]byte{TypeSignature, byte(d.Hash)})
	h.Write(d.Sum)
	return h.Sum(nil)
}
