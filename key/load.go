// SPDX-License-Identifier: Apache-2.0

package key

// From what a person writes after --key to a key that may sign.

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options of [Load]. The zero value takes what lies beside the key.
type Options struct {
	// Cert is the file of the key's certificate, PEM or DER. When empty it is
	// looked for beside the key: NAME.crt for NAME.key.
	Cert string

	// PassphraseFile holds the passphrase. When empty it is the environment
	// variable SBOM_BLESS_PASSWORD (for cosign's format then COSIGN_PASSWORD), or
	// asked for on the terminal.
	PassphraseFile string
}

// Load gives the private key that ref names: a PEM file, a KMS URI
// (awskms://, gcpkms://, azurekms://, hashivault://) or a PKCS#11 URI (pkcs11:,
// RFC 7512).
func Load(ctx context.Context, ref string, o Options) (*Key, error) {
	k, err := load(ctx, ref, o)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", withoutPIN(ref), err)
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
		k, err = loadFile(ctx, ref, o)
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

func loadFile(ctx context.Context, path string, o Options) (*Key, error) {
	data, err := readPrivateFile(path)
	if err != nil {
		return nil, err
	}
	signer, err := parsePrivate(data, func(ofCosign bool) ([]byte, error) {
		return passphrase(ctx, path, o.PassphraseFile, ofCosign)
	})
	if err != nil {
		return nil, err
	}
	return &Key{Signer: signer, Public: signer.Public()}, nil
}

// takeCert finds the certificate of k: the one that is asked for, the one that
// the token of k holds, or the one in the file beside k.
func (k *Key) takeCert(ref, path string) error {
	if path == "" && !k.Remote {
		beside := strings.TrimSuffix(ref, filepath.Ext(ref)) + ".crt"
		if _, err := os.Lstat(beside); err == nil && beside != ref {
			path = beside
		}
	}
	if path != "" {
		cert, err := readCert(path)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", path, err)
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
		return fmt.Errorf("certificate %s: %w", path, err)
	}
	return nil
}

// readPrivateFile reads a file that nobody else may read.
func readPrivateFile(path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := readAll(f)
	if err != nil {
		return nil, err
	}
	// Of a file that is no private key there is something else to say.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return nil, fmt.Errorf("others may access it (mode %04o)\nhint: chmod 600 %s", mode, path)
	}
	return data, nil
}

func readFile(path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

// open opens a file. Its errors, and those of readAll, leave it to the caller to
// name the path.
func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if scheme, _, ok := strings.Cut(path, "://"); ok && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no file of that name, and %s:// is not one of %s", scheme, strings.Join(kmsSchemes(), " "))
	}
	return f, pathless(err)
}

func pathless(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

const maxFile = 1 << 20 // bytes of a key or certificate file

func readAll(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, pathless(err)
	}
	if len(data) > maxFile {
		return nil, errors.New("too large to be a key or a certificate")
	}
	return data, nil
}

// LoadPublic gives the public key that ref names: a file with a public key or a
// certificate, in PEM or DER, or a URI as [Load] takes it. A certificate may
// have expired since it was signed with.
func LoadPublic(ctx context.Context, ref string) (crypto.PublicKey, error) {
	pub, err := loadPublic(ctx, ref)
	if err == nil {
		err = checkPublic(pub)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", withoutPIN(ref), err)
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
	data, err := readFile(ref)
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
