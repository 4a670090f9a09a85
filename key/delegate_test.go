// SPDX-License-Identifier: Apache-2.0

package key

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// countingSigner counts the signatures that a root key is asked for.
type countingSigner struct {
	crypto.Signer
	signatures int
}

func (s *countingSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.signatures++
	return s.Signer.Sign(rand, digest, opts)
}

func TestDelegate(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	for _, typ := range Types() {
		for _, certified := range []bool{true, false} {
			name := typ
			if !certified {
				name += " without a certificate"
			}
			t.Run(name, func(t *testing.T) {
				root, prefix := keyFiles(t, typ, "")
				if !certified {
					root.Cert = nil
				}
				counter := &countingSigner{Signer: root.Signer}
				root.Signer = counter

				leaf, err := Delegate(t.Context(), root, now)
				if err != nil {
					t.Fatal(err)
				}
				if counter.signatures != 1 {
					t.Errorf("the root signed %d times", counter.signatures)
				}
				if issuer := leaf.Cert.Issuer.CommonName; issuer != "sbom-bless "+root.ID() {
					t.Errorf("issuer %q", issuer)
				}
				if !bytes.Equal(leaf.Cert.AuthorityKeyId, subjectKeyID(root.Public)) {
					t.Errorf("authority key id %x", leaf.Cert.AuthorityKeyId)
				}
				if life := leaf.Cert.NotAfter.Sub(leaf.Cert.NotBefore); !leaf.Cert.NotBefore.Equal(now) || life != 24*time.Hour {
					t.Errorf("valid from %v for %v", leaf.Cert.NotBefore, life)
				}
				if leaf.Remote || !leaf.Deterministic || leaf.ID() == root.ID() {
					t.Errorf("leaf is %+v", leaf)
				}
				cert, err := VerifyDelegation(root.Public, leaf.Cert.Raw)
				if err != nil {
					t.Fatal(err)
				}
				if !cert.Equal(leaf.Cert) {
					t.Error("another certificate came out")
				}
				opensslVerifies(t, prefix+".pub", cert)
			})
		}
	}
}

// opensslVerifies has openssl check the signature that a certificate carries.
func opensslVerifies(t *testing.T, public string, cert *x509.Certificate) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tbs"), 0o644, cert.RawTBSCertificate)
	write(t, filepath.Join(dir, "sig"), 0o644, cert.Signature)
	hash := "-sha256"
	if cert.SignatureAlgorithm == x509.ECDSAWithSHA384 {
		hash = "-sha384"
	}
	tool(t, "openssl", "dgst", hash, "-verify", public, "-signature", filepath.Join(dir, "sig"), filepath.Join(dir, "tbs"))
}

func TestDelegateUsesTheHashOfTheRoot(t *testing.T) {
	for _, typ := range []string{"ecdsa-p256", "rsa-2048"} {
		for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			root := generate(t, typ)
			root.Hash = hash
			leaf, err := Delegate(t.Context(), root, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if got := leaf.Cert.SignatureAlgorithm.String(); !strings.Contains(got, strings.ReplaceAll(hash.String(), "-", "")) {
				t.Errorf("%s: signed with %s, not %v", typ, got, hash)
			}
			if _, err := VerifyDelegation(root.Public, leaf.Cert.Raw); err != nil {
				t.Error(err)
			}
		}
	}
	root := generate(t, "rsa-2048")
	root.Hash = crypto.SHA1
	if _, err := Delegate(t.Context(), root, time.Now()); err == nil {
		t.Error("signed with SHA-1")
	}
}

func TestDelegateStopsWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Delegate(ctx, generate(t, "ecdsa-p256"), time.Now()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestVerifyDelegationRefuses(t *testing.T) {
	root, other := generate(t, "ecdsa-p256"), generate(t, "ecdsa-p256")
	good, err := Delegate(t.Context(), root, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	// sign makes what Delegate would, but for a change.
	sign := func(change func(*x509.Certificate)) []byte {
		t.Helper()
		tmpl := certTemplate(delegateName+good.ID(), good, time.Now(), time.Now().Add(time.Hour))
		change(tmpl)
		der, err := x509.CreateCertificate(rand.Reader, tmpl, root.Cert, tmpl.PublicKey, root.Signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if _, err := VerifyDelegation(root.Public, sign(func(*x509.Certificate) {})); err != nil {
		t.Fatalf("no change: %v", err)
	}
	flipped := bytes.Clone(good.Cert.Raw)
	flipped[len(flipped)-1] ^= 1
	for _, test := range []struct {
		name string
		root crypto.PublicKey
		der  []byte
		want string
	}{
		{"another root", other.Public, good.Cert.Raw, "not signed by this key"},
		{"a root of another kind", generate(t, "rsa-2048").Public, good.Cert.Raw, "not signed by this key"},
		{"no root", nil, good.Cert.Raw, "not signed by this key"},
		{"a changed signature", root.Public, flipped, "not signed by this key"},
		{"the root's own certificate", root.Public, root.Cert.Raw, "for another purpose"},
		{"nothing", root.Public, nil, "x509"},
		{"bytes after its end", root.Public, append(bytes.Clone(good.Cert.Raw), 0), "trailing data"},
		{"a certificate for another purpose", root.Public, sign(func(c *x509.Certificate) { c.Subject.CommonName = "app" }), "for another purpose"},
		{"a name with another id", root.Public, sign(func(c *x509.Certificate) { c.Subject.CommonName = delegateName + "00000000" }), "for another purpose"},
		{"a critical extension that is unknown", root.Public, sign(func(c *x509.Certificate) { c.ExtraExtensions = criticalExtension() }), "for another purpose"},
		{"an authority", root.Public, sign(func(c *x509.Certificate) { c.IsCA = true }), "not for code signing alone"},
		{"a certificate for servers", root.Public, sign(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "not for code signing alone"},
		{"a certificate for more", root.Public, sign(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), "not for code signing alone"},
		{"another subject key identifier", root.Public, sign(func(c *x509.Certificate) { c.SubjectKeyId = make([]byte, 20) }), "subject key identifier"},
		{"a key that kernels do not know", root.Public, sign(func(c *x509.Certificate) { c.PublicKey = p521(t) }), "P-521"},
	} {
		if _, err := VerifyDelegation(test.root, test.der); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v does not say %q", test.name, err, test.want)
		}
	}
}

func criticalExtension() []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
}

func p521(t *testing.T) crypto.PublicKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k.Public()
}

func TestWithoutKeysNobodyCertifies(t *testing.T) {
	if _, err := CertifiedBy(nil, []byte("any certificate")); err == nil {
		t.Error("a certificate counts though no key is trusted")
	}
	if err := DelegatedBy(nil)(&x509.Certificate{}); err == nil {
		t.Error("a delegation counts though no key is trusted")
	}
}
