// SPDX-License-Identifier: Apache-2.0

package key

// Encrypted PKCS#8 (RFC 5958 section 3) with PBES2 (RFC 8018 section 6.2), as
// `openssl pkcs8 -topk8` writes it.
//
// github.com/youmark/pkcs8 (a2c0da244d78), which sigstore links, does not take its place: it knows
// HMAC-SHA-1 and HMAC-SHA-256 alone, where openssl writes SHA-384 and SHA-512 too; it reads the
// optional key length of PBKDF2 as absent and then takes the default hash; it panics on an
// initialisation vector or data of the wrong length; and it does not look at the padding.

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/scrypt"
)

var errPassphrase = errors.New("wrong passphrase")

const (
	newIterations = 600_000    // PBKDF2-HMAC-SHA-256, as OWASP's password storage sheet has it
	maxIterations = 10_000_000 // some seconds; a file that asks for more is broken or hostile
	maxScrypt     = 1 << 28    // bytes of memory, likewise
)

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11} // RFC 7914 section 7
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

type encryptedPrivateKeyInfo struct {
	Algorithm struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters pbes2Params
	}
	Data []byte
}

type pbes2Params struct {
	KDF        pkix.AlgorithmIdentifier
	Encryption pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"` // HMAC-SHA-1 when absent
}

type scryptParams struct {
	Salt      []byte
	N, R, P   int
	KeyLength int `asn1:"optional"`
}

// prf gives the hash of the HMAC that PBKDF2 is to use, nil if unknown.
func prf(oid asn1.ObjectIdentifier) func() hash.Hash {
	switch oid.String() {
	case "", "1.2.840.113549.2.7":
		return sha1.New
	case "1.2.840.113549.2.9":
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}

// blockCipher gives the key size and the cipher that is run in CBC mode, nil if
// unknown.
func blockCipher(oid asn1.ObjectIdentifier) (int, func([]byte) (cipher.Block, error)) {
	switch oid.String() {
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher
	case "2.16.840.1.101.3.4.1.42":
		return 32, aes.NewCipher
	case "1.2.840.113549.3.7":
		return 24, des.NewTripleDESCipher
	}
	return 0, nil
}

// encryptPKCS8 encrypts a PKCS#8 private key with PBKDF2 and AES-256-CBC, which
// every tool that reads encrypted PKCS#8 knows.
func encryptPKCS8(plain, passphrase []byte) ([]byte, error) {
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	rand.Read(salt)
	rand.Read(iv)
	secret, err := pbkdf2.Key(sha256.New, string(passphrase), salt, newIterations, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	data := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)

	kdf, err := asn1.Marshal(pbkdf2Params{Salt: salt, Iterations: newIterations,
		PRF: pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1.NullRawValue}})
	if err != nil {
		return nil, err
	}
	scheme, err := asn1.Marshal(iv)
	if err != nil {
		return nil, err
	}
	info := encryptedPrivateKeyInfo{Data: data}
	info.Algorithm.Algorithm = oidPBES2
	info.Algorithm.Parameters = pbes2Params{
		KDF:        pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: kdf}},
		Encryption: pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: scheme}},
	}
	return asn1.Marshal(info)
}

// encrypted is an encrypted private key, understood as far as that goes without
// its passphrase.
type encrypted struct {
	derive   func(passphrase []byte) ([]byte, error)
	work     int // that derive takes: iterations of a hash, or bytes that scrypt fills
	newBlock func(key []byte) (cipher.Block, error)
	iv, data []byte
}

const hintPBES2 = "\nhint: openssl pkcs8 -topk8 -in OLD -out NEW -v2 aes-256-cbc encrypts it anew"

func parseEncrypted(der []byte) (*encrypted, error) {
	var scheme struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if rest, err := asn1.Unmarshal(der, &scheme); err != nil {
		return nil, fmt.Errorf("encrypted PKCS#8: %w", err)
	} else if len(rest) > 0 {
		return nil, errors.New("encrypted PKCS#8: bytes after its end")
	}
	if !scheme.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, fmt.Errorf("encrypted PKCS#8: scheme %v is not PBES2"+hintPBES2, scheme.Algorithm.Algorithm)
	}
	var params pbes2Params
	if _, err := asn1.Unmarshal(scheme.Algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, fmt.Errorf("encrypted PKCS#8: PBES2: %w", err)
	}
	e := &encrypted{data: scheme.Data}
	var size int
	if size, e.newBlock = blockCipher(params.Encryption.Algorithm); e.newBlock == nil {
		return nil, fmt.Errorf("encrypted PKCS#8: cipher %v is unknown"+hintPBES2, params.Encryption.Algorithm)
	}
	if _, err := asn1.Unmarshal(params.Encryption.Parameters.FullBytes, &e.iv); err != nil {
		return nil, fmt.Errorf("encrypted PKCS#8: initialisation vector: %w", err)
	}
	var err error
	if e.derive, e.work, err = parseKDF(params.KDF, size); err != nil {
		return nil, fmt.Errorf("encrypted PKCS#8: %w", err)
	}
	return e, nil
}

// parseKDF gives the function that derives a key of size bytes, and its work.
func parseKDF(kdf pkix.AlgorithmIdentifier, size int) (derive func([]byte) ([]byte, error), work int, err error) {
	switch {
	case kdf.Algorithm.Equal(oidPBKDF2):
		var p pbkdf2Params
		if _, err := asn1.Unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
			return nil, 0, fmt.Errorf("PBKDF2: %w", err)
		}
		newHash := prf(p.PRF.Algorithm)
		if newHash == nil {
			return nil, 0, fmt.Errorf("PBKDF2: pseudorandom function %v is unknown"+hintPBES2, p.PRF.Algorithm)
		}
		if p.Iterations < 1 || p.Iterations > maxIterations {
			return nil, 0, fmt.Errorf("PBKDF2: %d iterations are not between 1 and %d", p.Iterations, maxIterations)
		}
		if p.KeyLength != 0 && p.KeyLength != size {
			return nil, 0, fmt.Errorf("PBKDF2: a key of %d bytes for a cipher that takes %d", p.KeyLength, size)
		}
		return func(passphrase []byte) ([]byte, error) {
			return pbkdf2.Key(newHash, string(passphrase), p.Salt, p.Iterations, size)
		}, p.Iterations, nil

	case kdf.Algorithm.Equal(oidScrypt):
		var p scryptParams
		if _, err := asn1.Unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
			return nil, 0, fmt.Errorf("scrypt: %w", err)
		}
		if p.N < 2 || p.R < 1 || p.P < 1 || p.P > 16 || p.R > maxScrypt/128/p.N {
			return nil, 0, fmt.Errorf("scrypt: N=%d r=%d p=%d need more than %d MiB, or make no sense", p.N, p.R, p.P, maxScrypt>>20)
		}
		if p.KeyLength != 0 && p.KeyLength != size {
			return nil, 0, fmt.Errorf("scrypt: a key of %d bytes for a cipher that takes %d", p.KeyLength, size)
		}
		return func(passphrase []byte) ([]byte, error) {
			return scrypt.Key(passphrase, p.Salt, p.N, p.R, p.P, size)
		}, 128 * p.N * p.R * p.P, nil
	}
	return nil, 0, fmt.Errorf("key derivation %v is unknown"+hintPBES2, kdf.Algorithm)
}

// decrypt gives the PKCS#8 private key. A wrong passphrase shows in the padding,
// or, once in 256 times, in bytes that are no PKCS#8 at all.
func (e *encrypted) decrypt(passphrase []byte) ([]byte, error) {
	secret, err := e.derive(passphrase)
	if err != nil {
		return nil, err
	}
	block, err := e.newBlock(secret)
	if err != nil {
		return nil, err
	}
	size := block.BlockSize()
	if len(e.iv) != size || len(e.data) == 0 || len(e.data)%size != 0 {
		return nil, errors.New("encrypted PKCS#8: not whole cipher blocks: the file is damaged")
	}
	plain := make([]byte, len(e.data))
	cipher.NewCBCDecrypter(block, e.iv).CryptBlocks(plain, e.data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > size || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errPassphrase
	}
	return plain[:len(plain)-pad], nil
}
