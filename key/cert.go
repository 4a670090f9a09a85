// SPDX-License-Identifier: Apache-2.0

package key

// The certificate of a signing key.

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// LoadCertificate reads the certificate that a kernel's keyring takes: the file
// PREFIX.crt or PREFIX.der of keygen, PEM or DER, or env://NAME.
func LoadCertificate(path string) (*x509.Certificate, error) {
	cert, err := readCert(path)
	if err == nil && len(cert.SubjectKeyId) == 0 {
		err = errors.New("has no subject key identifier, by which signatures name their key")
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w\nhint: the kernel takes certificates, as `sbom-bless keygen` makes them: PREFIX.crt", shown(path), err)
	}
	return cert, nil
}

func readCert(path string) (*x509.Certificate, error) {
	data, err := readRef(path)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block != nil {
		if block, err = oneBlock(data); err != nil {
			return nil, err
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s", block.Type)
		}
		data = block.Bytes
	}
	return x509.ParseCertificate(data)
}

// ErrOtherKey says that a certificate belongs to another key than the one it was found for.
var ErrOtherKey = errors.New("belongs to another key")

// checkCert tells why cert cannot stand for the key pub at the time now. Nodes
// find the key by the subject key identifier, four bytes of which are the key id
// of security.ima; signatures made under an expired certificate would be refused
// by whoever checks more than the kernel does.
func checkCert(cert *x509.Certificate, pub crypto.PublicKey, now time.Time) error {
	if !pub.(interface{ Equal(crypto.PublicKey) bool }).Equal(cert.PublicKey) {
		return ErrOtherKey
	}
	if len(cert.SubjectKeyId) < 4 {
		return errors.New("has no subject key identifier, by which signatures name their key" +
			"\nhint: openssl req -x509 -new -key KEY -subj /CN=NAME -days 3650 -addext subjectKeyIdentifier=hash -out CERTIFICATE")
	}
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("not valid before %s", cert.NotBefore.Format(time.RFC3339))
	}
	if now.After(cert.NotAfter) {
		return fmt.Errorf("expired on %s"+
			"\nhint: openssl x509 -in OLD -signkey KEY -days 3650 -out NEW renews it and keeps its key id", cert.NotAfter.Format(time.RFC3339))
	}
	return nil
}
