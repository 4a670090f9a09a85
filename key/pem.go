// SPDX-License-Identifier: Apache-2.0

package key

// Private keys as PEM.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	cosign "github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

const pemEncrypted = "ENCRYPTED PRIVATE KEY"

func marshalPrivate(signer crypto.Signer, passphrase []byte) (*pem.Block, error) {
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, err
	}
	if len(passphrase) == 0 {
		return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, nil
	}
	if der, err = encryptPKCS8(der, passphrase); err != nil {
		return nil, err
	}
	return &pem.Block{Type: pemEncrypted, Bytes: der}, nil
}

// parsePrivate reads the one private key of a PEM file. passphrase is asked only
// for a key that is encrypted, and told whether it is in cosign's format.
func parsePrivate(data []byte, passphrase func(ofCosign bool) ([]byte, error)) (crypto.Signer, error) {
	block, err := oneBlock(data)
	if err != nil {
		return nil, err
	}
	if block.Headers["DEK-Info"] != "" {
		return nil, errors.New("encrypted in OpenSSL's old way, which proves nothing about the passphrase" + hintPBES2)
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case pemEncrypted:
		key, err = parseEncryptedPKCS8(block.Bytes, passphrase)
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		key, err = parseCosign(block.Bytes, passphrase)
	case "OPENSSH PRIVATE KEY":
		return nil, errors.New("in OpenSSH's own format\nhint: ssh-keygen -p -m PKCS8 -f FILE turns it into PKCS#8, in place")
	case "CERTIFICATE", "PUBLIC KEY", "RSA PUBLIC KEY":
		return nil, fmt.Errorf("holds a %s: signing needs the private key", block.Type)
	default:
		return nil, fmt.Errorf("PEM type %q is not a private key known here", block.Type)
	}
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		return key, nil
	case crypto.Signer:
		return nil, checkPublic(key.Public())
	}
	return nil, checkPublic(key)
}

// oneBlock gives the one PEM block of a file. `openssl ecparam -genkey` puts the
// curve before the key, in a block that says nothing new.
func oneBlock(data []byte) (*pem.Block, error) {
	var one *pem.Block
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type == "EC PARAMETERS" {
			continue
		}
		if one != nil {
			return nil, fmt.Errorf("holds a %s and a %s: one of them per file", one.Type, block.Type)
		}
		one = block
	}
	if one == nil {
		return nil, errors.New("no PEM in it\nhint: openssl pkey -inform DER -in OLD -out NEW turns a DER key into PEM")
	}
	return one, nil
}

func parseEncryptedPKCS8(der []byte, passphrase func(bool) ([]byte, error)) (any, error) {
	e, err := parseEncrypted(der)
	if err != nil {
		return nil, err
	}
	secret, err := passphrase(false)
	if err != nil {
		return nil, err
	}
	plain, err := e.decrypt(secret)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, errPassphrase
	}
	return key, nil
}

// parseCosign reads the format of `cosign generate-key-pair`: JSON that names
// scrypt and NaCl's secretbox.
func parseCosign(data []byte, passphrase func(bool) ([]byte, error)) (any, error) {
	secret, err := passphrase(true)
	if err != nil {
		return nil, err
	}
	plain, err := cosign.Decrypt(data, secret)
	if err != nil {
		return nil, fmt.Errorf("%w, or a damaged file: %w", errPassphrase, err)
	}
	return x509.ParsePKCS8PrivateKey(plain)
}
