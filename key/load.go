// SPDX-License-Identifier: Apache-2.0

package key

// From what a person writes after --key to a key that may sign.

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options of [Load]. The zero value takes what lies beside the key.
type Options struct {
	// Cert is the key's certificate, PEM or DER: a file, or env://NAME. When empty it is
	// looked for beside the key: NAME.crt for NAME.key.
	Cert string

	// PassphraseFile holds the passphrase. When empty it is the environment
	// variable SBOM_BLESS_PASSWORD (for cosign's format then COSIGN_PASSWORD), or
	// asked for on the terminal.
	PassphraseFile string

	// Stdin is where the key named "-" is read from. When nil, no key has that name.
	Stdin io.Reader
}

// Load gives the private key that ref names: a PEM file, PEM in an environment
// variable (env://NAME) or on stdin (-), a KMS URI (awskms://, gcpkms://,
// azurekms://, hashivault://) or a PKCS#11 URI (pkcs11:, RFC 7512).
func Load(ctx context.Context, ref string, o Options) (*Key, error) {
	k, err := load(ctx, ref, o)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", shown(ref), err)
	}
	return k, nil
}

func load(ctx context.Context, ref string, o Options) (k *Key, err error) {
	switch {
	case isKMS(ref):
		k, err = loadKMS(ctx, ref)
	case strings.HasPrefix(ref, "pkcs11:"):
		k, err = loadPKCS11(ref)
	default:
		k, err = loadPEM(ctx, ref, o)
	}
	if err != nil {
		return nil, err
	}
	if err = k.fill(); err == nil {
		err = k.takeCert(ref, o.Cert)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func loadPEM(ctx context.Context, ref string, o Options) (*Key, error) {
	data, err := readPrivate(ref, o.Stdin)
	if err != nil {
		return nil, err
	}
	signer, err := parsePrivate(data, func(ofCosign bool) ([]byte, error) {
		return passphrase(ctx, ref, o.PassphraseFile, ofCosign)
	})
	if err != nil {
		return nil, err
	}
	return &Key{Signer: signer, Public: signer.Public()}, nil
}

// takeCert finds the certificate of k: the one that is asked for, the one that
// the token of k holds, or the one in the file beside k.
func (k *Key) takeCert(ref, path string) error {
	if path == "" && !k.Remote && isFile(ref) {
		beside := strings.TrimSuffix(ref, filepath.Ext(ref)) + ".crt"
		if _, err := os.Lstat(beside); err == nil && beside != ref {
			path = beside
		}
	}
	if path != "" {
		cert, err := readCert(path)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", shown(path), err)
		}
		k.Cert = cert
	}
	if k.Cert == nil {
		return nil
	}
	if err := checkCert(k.Cert, k.Public, time.Now()); err != nil {
		if path == "" {
			path = "on the token"
		}
		return fmt.Errorf("certificate %s: %w", shown(path), err)
	}
	return nil
}

// LoadPublic gives the public key that ref names: a file with a public key or a
// certificate, in PEM or DER, the same in an environment variable, or a URI as [Load] takes it. A certificate may
// have expired since it was signed with.
func LoadPublic(ctx context.Context, ref string) (crypto.PublicKey, error) {
	pub, err := loadPublic(ctx, ref)
	if err == nil {
		err = checkPublic(pub)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", shown(ref), err)
	}
	return pub, nil
}

func loadPublic(ctx context.Context, ref string) (crypto.PublicKey, error) {
	switch {
	case isKMS(ref):
		k, err := loadKMS(ctx, ref)
		if err != nil {
			return nil, err
		}
		return k.Public, nil
	case strings.HasPrefix(ref, "pkcs11:"):
		k, err := loadPKCS11(ref)
		if err != nil {
			return nil, err
		}
		return k.Public, k.Close()
	}
	data, err := readRef(ref)
	if err != nil {
		return nil, err
	}
	return parsePublic(data)
}

func parsePublic(data []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		if cert, err := x509.ParseCertificate(data); err == nil {
			return cert.PublicKey, nil
		}
		if pub, err := x509.ParsePKIXPublicKey(data); err == nil {
			return pub, nil
		}
		return nil, errors.New("neither a public key nor a certificate, in PEM or in DER")
	}
	block, err := oneBlock(data)
	if err != nil {
		return nil, err
	}
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	if strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("a private key, where the public one is enough\nhint: openssl pkey -in PRIVATE -pubout -out PUBLIC")
	}
	return nil, fmt.Errorf("PEM type %q is neither a public key nor a certificate", block.Type)
}
