// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package testima sets up the kernel's own integrity subsystem in a test guest:
// keys that are made on the host, the keyring that the guest's kernel looks
// for, and the one policy that a boot can have (Debian's kernels have neither
// CONFIG_INTEGRITY_TRUSTED_KEYRING nor CONFIG_IMA_WRITE_POLICY).
package testima

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"github.com/sbom-bless/sbom-bless/xattr"
	"golang.org/x/sys/unix"
)

// Kinds are the keys that the kernel can use. Debian's 6.1 has no ECDSA.
func Kinds(k vm.Kernel) []string {
	if k == "6.1" {
		return []string{"rsa-2048", "rsa-4096"}
	}
	return []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096"}
}

// Signer is a key and its certificate.
type Signer struct {
	*xattr.Signer
	Kind string
	DER  []byte // the certificate
}

// MakeKey writes a key of a kind and its certificate to path.key and path.crt.
func MakeKey(path, kind string) error {
	key, err := generate(kind)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true, SubjectKeyId: make([]byte, 20),
	}
	if _, err := rand.Read(template.SubjectKeyId); err != nil {
		return err
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".crt", cert, 0o644); err != nil {
		return err
	}
	return os.WriteFile(path+".key", private, 0o600)
}

func generate(kind string) (crypto.Signer, error) {
	switch kind {
	case "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("key of kind %q", kind)
}

// Load reads what MakeKey wrote.
func Load(path, kind string) (*Signer, error) {
	private, err := os.ReadFile(path + ".key")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	der, err := os.ReadFile(path + ".crt")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	s, err := xattr.NewSigner(key.(crypto.Signer), cert)
	if err != nil {
		return nil, err
	}
	return &Signer{s, kind, der}, nil
}

// Digest is the digest of a content.
func Digest(h xattr.Hash, content []byte) xattr.Digest {
	sum := h.New()
	sum.Write(content)
	return xattr.Digest{Hash: h, Sum: sum.Sum(nil)}
}

// Sign sets security.ima of a file to a signature of version 2 over its SHA-256.
func (s *Signer) Sign(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	value, err := s.IMA(Digest(xattr.SHA256, content), 2)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return set(path, value)
}

// SetDigest sets security.ima of a file to its SHA-256.
func SetDigest(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return set(path, Digest(xattr.SHA256, content).IMA())
}

func set(path string, value []byte) error {
	if err := unix.Setxattr(path, xattr.IMA, value, 0); err != nil {
		return fmt.Errorf("%s: %s: %w", path, xattr.IMA, err)
	}
	return nil
}

// Trust makes a keyring that the kernel's integrity code looks for (_ima,
// _evm) in root's user keyring, with the certificates of signers. The kernel
// looks once per boot: a second keyring of that name is never seen. It gives
// the keyring's serial number.
func Trust(keyring string, signers ...*Signer) (int, error) {
	ring, err := unix.AddKey("keyring", keyring, nil, unix.KEY_SPEC_USER_KEYRING)
	if err != nil {
		return 0, fmt.Errorf("keyring %s: %w", keyring, err)
	}
	for _, s := range signers {
		if _, err := unix.AddKey("asymmetric", "", s.DER, ring); err != nil {
			return 0, fmt.Errorf("keyring %s: %s: %w", keyring, s.Kind, err)
		}
	}
	return ring, nil
}

// Policy loads the one policy that a boot can have. Appraisal needs
// ima_appraise=enforce on the kernel's command line.
func Policy(rules ...string) error {
	text := strings.Join(rules, "\n") + "\n"
	if err := os.WriteFile("/sys/kernel/security/ima/policy", []byte(text), 0); err != nil {
		return fmt.Errorf("policy %q: %w", text, err)
	}
	return nil
}
