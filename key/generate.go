// SPDX-License-Identifier: Apache-2.0

package key

// A new key, its certificate, and the four files that hold them.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Types are the key types that [Generate] knows, the default one first.
func Types() []string {
	return []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"}
}

// Generate makes a key of one of [Types] with a self-signed certificate that is
// valid for ten years from the given time. The certificate's common name is
// name, or "sbom-bless KEYID" when name is empty.
func Generate(typ, name string, from time.Time) (*Key, error) {
	signer, err := newSigner(typ)
	if err != nil {
		return nil, err
	}
	k := &Key{Signer: signer, Public: signer.Public()}
	if err := k.fill(); err != nil {
		return nil, err
	}
	if name == "" {
		name = commonName(k)
	}
	t := certTemplate(name, k, from, from.AddDate(10, 0, 0))
	// A keyring that only takes what a trusted key signed (.ima) finds the signer
	// by this, also when the certificate signed itself: restrict_link_by_signature,
	// crypto/asymmetric_keys/restrict.c.
	t.AuthorityKeyId = t.SubjectKeyId
	if k.Cert, err = issue(t, t, k); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return k, nil
}

func newSigner(typ string) (crypto.Signer, error) {
	switch typ {
	case "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "rsa-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("key type %q: not one of %q", typ, Types())
}

func commonName(k *Key) string { return "sbom-bless " + k.ID() }

// certTemplate is what the certificates made here have in common; the public
// key in it is that of subject.
func certTemplate(name string, subject *Key, from, to time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             from.UTC(),
		NotAfter:              to.UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true, // CA:FALSE
		SubjectKeyId:          subjectKeyID(subject.Public),
		PublicKey:             subject.Public,
	}
}

// issue has signer sign the certificate t on behalf of parent: one signature.
func issue(t, parent *x509.Certificate, signer *Key) (*x509.Certificate, error) {
	var err error
	if t.SignatureAlgorithm, err = signatureAlgorithm(signer); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, t.PublicKey, signer.Signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func signatureAlgorithm(k *Key) (x509.SignatureAlgorithm, error) {
	_, isRSA := k.Public.(*rsa.PublicKey)
	switch {
	case isRSA && k.Hash == crypto.SHA256:
		return x509.SHA256WithRSA, nil
	case isRSA && k.Hash == crypto.SHA384:
		return x509.SHA384WithRSA, nil
	case isRSA && k.Hash == crypto.SHA512:
		return x509.SHA512WithRSA, nil
	case !isRSA && k.Hash == crypto.SHA256:
		return x509.ECDSAWithSHA256, nil
	case !isRSA && k.Hash == crypto.SHA384:
		return x509.ECDSAWithSHA384, nil
	case !isRSA && k.Hash == crypto.SHA512:
		return x509.ECDSAWithSHA512, nil
	}
	return 0, fmt.Errorf("hash %v: not one that certificates are signed with", k.Hash)
}

// WriteFiles writes PREFIX.key (PKCS#8, encrypted unless passphrase is empty),
// PREFIX.pub (PKIX), PREFIX.crt and PREFIX.der (the certificate in PEM and in
// DER). k comes from [Generate]. If one of them exists, or cannot be written,
// none is left behind.
func (k *Key) WriteFiles(prefix string, passphrase []byte) (err error) {
	private, err := marshalPrivate(k.Signer, passphrase)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return err
	}
	if err := CheckFiles(prefix); err != nil {
		return err
	}
	files := []struct {
		name string
		mode fs.FileMode
		data []byte
	}{
		{prefix + ".key", 0o600, pem.EncodeToMemory(private)},
		{prefix + ".pub", 0o644, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})},
		{prefix + ".crt", 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Cert.Raw})},
		{prefix + ".der", 0o644, k.Cert.Raw},
	}
	for _, f := range files {
		if err := writeNew(f.name, f.mode, f.data); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				os.Remove(f.name)
			}
		}()
	}
	return nil
}

// ErrExists says that a file that is to hold a key is there already.
var ErrExists = errors.New("exists already, and keys are never overwritten")

// CheckFiles tells whether one of the files that [Key.WriteFiles] is to write
// exists already; worth knowing before a passphrase is asked for.
func CheckFiles(prefix string) error {
	for _, ext := range []string{".key", ".pub", ".crt", ".der"} {
		if _, err := os.Lstat(prefix + ext); err == nil {
			return fmt.Errorf("%s: %w", prefix+ext, ErrExists)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// writeNew writes a file that does not exist yet, all of it or nothing.
func writeNew(name string, mode fs.FileMode, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
	}
	return err
}
