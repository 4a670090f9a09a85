// SPDX-License-Identifier: Apache-2.0

package key

// What keys in a KMS and keys on a PKCS#11 token have in common.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"io"
)

// remoteSigner signs far away and looks at the result: services hold keys that
// sign in other ways than the kernel verifies (RSA-PSS), and say so nowhere in
// their API. Verifying costs nothing beside the call.
type remoteSigner struct {
	signer crypto.Signer
	public crypto.PublicKey
}

func (s remoteSigner) Public() crypto.PublicKey { return s.public }

func (s remoteSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := s.signer.Sign(rand, digest, opts)
	if err != nil {
		return nil, err
	}
	switch pub := s.public.(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, digest, sig) {
			return nil, errors.New("remote key: the signature does not verify as ECDSA")
		}
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(pub, opts.HashFunc(), digest, sig) != nil {
			return nil, errors.New("remote key: the signature does not verify as RSA PKCS#1 v1.5" +
				"\nhint: a key made for RSA-PSS cannot be used")
		}
	}
	return sig, nil
}

// remote makes the Key of a remote signer; hash is 0 unless the key is bound to
// one.
func remote(signer crypto.Signer, public crypto.PublicKey, hash crypto.Hash) *Key {
	return &Key{Signer: remoteSigner{signer, public}, Public: public, Hash: hash, Remote: true}
}
