// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
)

// evmProtected are the attributes that a portable signature covers, in the order
// in which their values are hashed (Linux 6.12, security/integrity/evm/evm_main.c,
// evm_config_default_xattrnames).
var evmProtected = []string{
	"security.selinux", "security.SMACK64", "security.SMACK64EXEC", "security.SMACK64TRANSMUTE", "security.SMACK64MMAP",
	"security.apparmor", IMA, "security.capability",
}

// evmSum is the hash of a portable signature: the values of the protected
// attributes that are there, then struct h_misc with inode and generation zero
// (evm_crypto.c, hmac_add_misc). mode has the file type too, as st_mode.
func evmSum(attrs map[string][]byte, uid, gid uint32, mode uint16) []byte {
	h := SHA256.New()
	for _, name := range evmProtected {
		h.Write(attrs[name])
	}
	var misc [24]byte
	binary.LittleEndian.PutUint32(misc[12:], uid)
	binary.LittleEndian.PutUint32(misc[16:], gid)
	binary.LittleEndian.PutUint16(misc[20:], mode)
	h.Write(misc[:])
	return h.Sum(nil)
}

// EVM is the value of security.evm for a file with these attributes, owner and
// st_mode: a portable signature, SHA-256. attrs must hold security.ima.
func (s *Signer) EVM(attrs map[string][]byte, uid, gid uint32, mode uint16) ([]byte, error) {
	if attrs[IMA] == nil {
		return nil, errors.New("a portable EVM signature needs security.ima")
	}
	return s.value(TypePortableEVM, 2, SHA256, evmSum(attrs, uid, gid, mode))
}

// VerifyEVM checks that b is a portable security.evm by pub for a file with
// these attributes, owner and st_mode.
func VerifyEVM(pub crypto.PublicKey, b []byte, attrs map[string][]byte, uid, gid uint32, mode uint16) error {
	v, err := Parse(b)
	if err != nil {
		return err
	}
	if v.Type != TypePortableEVM || v.Version != 2 || v.Hash != SHA256 {
		return fmt.Errorf("type %d version %d %s is not a portable signature that bless writes", v.Type, v.Version, v.Hash)
	}
	if attrs[IMA] == nil {
		return errors.New("security.ima is missing")
	}
	return verify(pub, SHA256, evmSum(attrs, uid, gid, mode), v.Sig)
}
