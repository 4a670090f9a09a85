// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
)

// Signed says by whom a statement is signed, as its bundle has it. Of a statement
// that Verify took, it is true.
type Signed struct {
	// KeySHA256 is the SHA-256 of the public key in PKIX DER, in hexadecimal; empty for an identity.
	KeySHA256 string `json:"keySha256,omitempty"`
	// Identity is the subject of a keyless signature, Issuer who vouched for it.
	Identity string `json:"identity,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
	// Delegated tells that the key was made for one run, and that another key certified it.
	Delegated bool `json:"delegated,omitempty"`
	// Checked tells that the signature was verified, by a key or an identity that is trusted.
	Checked bool `json:"checked"`
}

// Signed says by whom the attestation is signed.
func (a *Attestation) Signed() Signed {
	s := Signed{Checked: a.checked}
	if hint := a.material.PublicKey; hint != nil {
		if sum, err := base64.StdEncoding.DecodeString(hint.Hint); err == nil {
			s.KeySHA256 = hex.EncodeToString(sum)
		}
	}
	if a.Key != nil { // the hint is only that
		if der, err := x509.MarshalPKIXPublicKey(a.Key); err == nil {
			sum := sha256.Sum256(der)
			s.KeySHA256 = hex.EncodeToString(sum[:])
		}
	}
	c := a.material.Certificate
	if c == nil {
		return s
	}
	cert, err := x509.ParseCertificate(c.RawBytes)
	if err != nil {
		return s
	}
	if a.Key == nil {
		if sum, err := certificate.SummarizeCertificate(cert); err == nil && sum.Issuer != "" {
			s.Identity, s.Issuer = sum.SubjectAlternativeName, sum.Issuer
			return s
		}
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	if of := hex.EncodeToString(sum[:]); a.Key == nil || of == s.KeySHA256 { // else anyone put the certificate there
		s.KeySHA256, s.Delegated = of, true
	}
	return s
}
