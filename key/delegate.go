// SPDX-License-Identifier: Apache-2.0

package key

// Delegation: a root key signs the certificate of a fresh key, which signs the
// files of one run. The root signs once, however many files there are.

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"time"
)

// delegateName begins the common name of delegated keys. It keeps a code signing
// certificate that the root key signed for another purpose from being one.
const delegateName = "sbom-bless delegate "

// delegateLife is how long a delegated key may sign: longer than any build.
const delegateLife = 24 * time.Hour

// Delegate makes a key in memory, ECDSA P-256, whose certificate the root key
// signs: the one use of root. Leaf.Cert.Raw is what proves the delegation, see
// [VerifyDelegation].
func Delegate(ctx context.Context, root *Key, now time.Time) (leaf *Key, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	signer, err := newSigner("ecdsa-p256")
	if err != nil {
		return nil, err
	}
	leaf = &Key{Signer: signer, Public: signer.Public()}
	if err := leaf.fill(); err != nil {
		return nil, err
	}
	parent := root.Cert
	if parent == nil {
		parent = &x509.Certificate{
			Subject:      pkix.Name{CommonName: commonName(root)},
			SubjectKeyId: root.subjectKeyID(), // becomes the authority key identifier
			PublicKey:    root.Public,
		}
	}
	t := certTemplate(delegateName+leaf.ID(), leaf, now, now.Add(delegateLife))
	if leaf.Cert, err = issue(t, parent, root); err != nil {
		return nil, fmt.Errorf("delegate: %w", err)
	}
	return leaf, nil
}

// CertifiedBy gives the key in the certificate of a delegated run, if one of the
// roots signed it.
func CertifiedBy(roots []crypto.PublicKey, der []byte) (crypto.PublicKey, error) {
	err := errors.New("no key is trusted that could have certified it")
	for _, root := range roots {
		cert, e := VerifyDelegation(root, der)
		if e == nil {
			return cert.PublicKey, nil
		}
		err = e
	}
	return nil, err
}

// DelegatedBy is CertifiedBy for attest.Trust.
func DelegatedBy(roots []crypto.PublicKey) func(*x509.Certificate) error {
	return func(cert *x509.Certificate) error {
		_, err := CertifiedBy(roots, cert.Raw)
		return err
	}
}

// VerifyDelegation gives the certificate that root signed for a delegated key.
// Its validity says when the key could sign; signatures carry no time to hold
// against it, so it is not judged here.
func VerifyDelegation(root crypto.PublicKey, der []byte) (leaf *x509.Certificate, err error) {
	if leaf, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("delegation: %w", err)
	}
	if err := verifyLeaf(root, leaf); err != nil {
		return nil, fmt.Errorf("delegation %q: %w", leaf.Subject.CommonName, err)
	}
	return leaf, nil
}

func verifyLeaf(root crypto.PublicKey, leaf *x509.Certificate) error {
	parent := &x509.Certificate{PublicKey: root}
	switch root.(type) {
	case *ecdsa.PublicKey:
		parent.PublicKeyAlgorithm = x509.ECDSA
	case *rsa.PublicKey:
		parent.PublicKeyAlgorithm = x509.RSA
	}
	switch leaf.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return fmt.Errorf("signed with %v", leaf.SignatureAlgorithm)
	}
	if err := parent.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		return fmt.Errorf("not signed by this key: %w", err)
	}
	if err := checkPublic(leaf.PublicKey); err != nil {
		return err
	}
	id := (&Key{Public: leaf.PublicKey}).ID()
	switch {
	case leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature ||
		!slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}):
		return errors.New("not for code signing alone")
	case leaf.Subject.CommonName != delegateName+id || len(leaf.UnhandledCriticalExtensions) > 0:
		return errors.New("signed by this key, but for another purpose")
	case !slices.Equal(leaf.SubjectKeyId, subjectKeyID(leaf.PublicKey)):
		return errors.New("subject key identifier is not that of its key")
	}
	return nil
}
