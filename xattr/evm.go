// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// evmProtected are the attributes whose values a security.evm covers, in the
// order in which they are hashed: evm_config_default_xattrnames of
// security/integrity/evm/evm_main.c (Linux 6.1 to 7.3). A portable signature
// takes in all of them, enabled or not.
var evmProtected = [...]string{
	"security.selinux",
	"security.SMACK64",
	"security.SMACK64EXEC",
	"security.SMACK64TRANSMUTE",
	"security.SMACK64MMAP",
	"security.apparmor",
	"security.ima",
	"security.capability",
}

// EVM is the value of a security.evm with a portable signature (type 5, SHA-256)
// over those of attrs that EVM protects, the owner, and the mode as stat(2)
// gives it, file type included.
func (s *Signer) EVM(attrs map[string][]byte, uid, gid uint32, mode uint16) ([]byte, error) {
	sig, err := s.sign(evmSum(attrs, uid, gid, mode), crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return Value{Type: TypePortableSignature, Version: 2, Hash: SHA256, KeyID: s.KeyID(), Sig: sig}.Append(nil), nil
}

// VerifyEVM checks that b, a security.evm, is a portable signature by pub over
// attrs, owner and mode.
func VerifyEVM(pub crypto.PublicKey, b []byte, attrs map[string][]byte, uid, gid uint32, mode uint16) error {
	v, err := ParseEVM(b)
	if err != nil {
		return err
	}
	return verify(pub, crypto.SHA256, evmSum(attrs, uid, gid, mode), v.Sig)
}

// ParseEVM reads the value of a security.evm: a portable signature of version 2
// over SHA-256. ParseEVM and Append are inverses.
func ParseEVM(b []byte) (Value, error) {
	if len(b) == 0 || b[0] != TypePortableSignature {
		return Value{}, fmt.Errorf("no portable signature")
	}
	v, err := parseSignature(b)
	if err != nil {
		return Value{}, err
	}
	if v.Version != 2 || v.Hash != SHA256 {
		return Value{}, fmt.Errorf("portable signature of version %d over %s: only version 2 over sha256 is known", v.Version, v.Hash)
	}
	return v, nil
}

// evmSum hashes what a portable signature covers: the values of the attributes,
// then struct h_misc of hmac_add_misc (security/integrity/evm/evm_crypto.c) as a
// little-endian 64-bit machine has it, with inode and generation zero. The
// filesystem's UUID is left out.
func evmSum(attrs map[string][]byte, uid, gid uint32, mode uint16) []byte {
	h := sha256.New()
	for _, name := range evmProtected {
		h.Write(attrs[name])
	}
	var misc [24]byte // u64 ino, u32 generation, u32 uid, u32 gid, u16 mode, 2 bytes of padding
	binary.LittleEndian.PutUint32(misc[12:], uid)
	binary.LittleEndian.PutUint32(misc[16:], gid)
	binary.LittleEndian.PutUint16(misc[20:], mode)
	h.Write(misc[:])
	return h.Sum(nil)
}
