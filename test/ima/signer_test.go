// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ima

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// kinds are the keys that the kernel can use. Debian's 6.1 has no ECDSA.
func kinds(k vm.Kernel) []string {
	if k == "6.1" {
		return []string{"rsa-2048", "rsa-4096"}
	}
	return []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096"}
}

// signer is a key and its certificate.
type signer struct {
	*xattr.Signer
	kind string
	der  []byte
}

const keyDir = "/keys"

// bringKeys makes keys of each kind on the host, where it is quicker: those
// that the guest is to trust, and a stranger of each kind.
func bringKeys(t vm.TB, c *vm.Config) {
	t.Helper()
	dir := t.TempDir()
	for _, kind := range kinds(c.Kernel) {
		for _, name := range []string{kind, "stranger-" + kind} {
			if err := makeKey(filepath.Join(dir, name), kind); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	c.Files[keyDir] = dir
}

func makeKey(path, kind string) error {
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
	}
	return rsa.GenerateKey(rand.Reader, 4096)
}

// load reads what makeKey wrote, in the guest.
func load(t *testing.T, name, kind string) *signer {
	t.Helper()
	private, err := os.ReadFile(filepath.Join(keyDir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := os.ReadFile(filepath.Join(keyDir, name+".crt"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s, err := xattr.NewSigner(key.(crypto.Signer), cert)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{s, kind, der}
}

// signers are those that the guest is to trust.
func signers(t *testing.T, k vm.Kernel) []*signer {
	t.Helper()
	var list []*signer
	for _, kind := range kinds(k) {
		list = append(list, load(t, kind, kind))
	}
	return list
}

func stranger(t *testing.T, s *signer) *signer {
	t.Helper()
	return load(t, "stranger-"+s.kind, s.kind)
}

// ima gives the value of security.ima for a content.
func (s *signer) ima(t *testing.T, h xattr.Hash, content []byte, version int) []byte {
	t.Helper()
	value, err := s.IMA(digestOf(h, content), version)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func digestOf(h xattr.Hash, content []byte) xattr.Digest {
	sum := h.New()
	sum.Write(content)
	return xattr.Digest{Hash: h, Sum: sum.Sum(nil)}
}

// bless sets on each regular file of a layer what attrs says, by the edits of
// package xattr.
func bless(t *testing.T, layer []byte, attrs func(e *xattr.Entry, content []byte) map[string][]byte) []byte {
	t.Helper()
	b := &blesser{attrs: attrs}
	s := xattr.NewScanner(b)
	if _, err := s.Write(layer); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var out []byte
	at := int64(0)
	for _, e := range b.edits {
		out = append(append(out, layer[at:e.Off]...), e.New...)
		at = e.Off + e.Len
	}
	return append(out, layer[at:]...)
}

type blesser struct {
	attrs   func(e *xattr.Entry, content []byte) map[string][]byte
	entry   *xattr.Entry
	content bytes.Buffer
	edits   []xattr.Edit
}

func (b *blesser) Entry(e *xattr.Entry) error {
	b.entry = e
	b.content.Reset()
	return nil
}

func (b *blesser) Content(p []byte) error {
	b.content.Write(p)
	return nil
}

func (b *blesser) End() error {
	edit, set, err := b.entry.Set(b.attrs(b.entry, b.content.Bytes()))
	if set {
		b.edits = append(b.edits, edit)
	}
	return err
}
