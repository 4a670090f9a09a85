// SPDX-License-Identifier: Apache-2.0

package keyless

import (
	"encoding/hex"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// Identity is whom to trust: the subject of the certificate, as an e-mail address or URI,
// and the issuer of the token. Each is given as it is or as a regular expression.
type Identity struct {
	Issuer, IssuerRegexp   string
	Subject, SubjectRegexp string
}

// Verifier checks bundles by identity. Its method Verify is an attest.Trust.Keyless.
type Verifier struct {
	verifier *verify.Verifier
	identity verify.CertificateIdentity
}

// NewVerifier trusts the identity, as certified and logged by the instance that the root describes: an
// entry in its log and, where the root names logs of certificates, a proof that the certificate is in one.
func NewVerifier(material root.TrustedMaterial, id Identity) (*Verifier, error) {
	if id.Issuer == "" && id.IssuerRegexp == "" || id.Subject == "" && id.SubjectRegexp == "" {
		return nil, errors.New("keyless: trust needs both the subject and the issuer of certificates")
	}
	identity, err := verify.NewShortCertificateIdentity(id.Issuer, id.IssuerRegexp, id.Subject, id.SubjectRegexp)
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	options := []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1)}
	if len(material.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	v, err := verify.NewVerifier(material, options...)
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	return &Verifier{v, identity}, nil
}

// Verify checks a bundle: signature, certificate, log entry, identity, and that its statement is about subject.
func (v *Verifier) Verify(raw []byte, subject v1.Hash) error {
	var b bundle.Bundle
	if err := b.UnmarshalJSON(raw); err != nil {
		return err
	}
	sum, err := hex.DecodeString(subject.Hex)
	if err != nil {
		return err
	}
	_, err = v.verifier.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest(subject.Algorithm, sum), verify.WithCertificateIdentity(v.identity)))
	return err
}

// Root reads a trusted root, the file that cosign and sigstore's clients take. An empty path
// stands for the root of the public instance, which is fetched by TUF.
func Root(path string) (root.TrustedMaterial, error) {
	if path == "" {
		r, err := root.FetchTrustedRoot()
		if err != nil {
			return nil, fmt.Errorf("trusted root of the public sigstore: %w", err)
		}
		return r, nil
	}
	r, err := root.NewTrustedRootFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("trusted root %s: %w", path, err)
	}
	return r, nil
}
