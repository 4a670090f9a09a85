// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Trust says whose signatures count.
type Trust struct {
	// Keys are public keys: *ecdsa.PublicKey, *rsa.PublicKey.
	Keys []crypto.PublicKey
	// Delegated returns nil for the certificate of a key that a trusted key
	// delegated to. Without it, no delegation counts.
	Delegated func(*x509.Certificate) error
	// Keyless returns nil for a bundle by a trusted identity. It is asked about bundles that no key signed.
	Keyless func(bundle []byte, subject v1.Hash) error
	// Unchecked takes signatures unseen, to show what is there. The result proves nothing.
	Unchecked bool
}

// Attestation is one signed statement about the subject.
type Attestation struct {
	// Referrer describes the manifest that carries the bundle.
	Referrer  v1.Descriptor
	Statement Statement
	// Key is the key that signed it, nil for a keyless signature or one that was not checked.
	Key crypto.PublicKey

	checked  bool // the signature was verified
	bundle   v1.Descriptor
	material VerificationMaterial
	envelope v1.Hash // of payload and signature
}

// Verified is what trusted keys say of an image.
type Verified struct {
	// Blessing is the predicate of the statement that Files and SBOMs hang on.
	Blessing Predicate
	// Files is the file list that Blessing names.
	Files *filelist.List
	// Attestations are all statements about the subject by a trusted key, the blessing among them. One that
	// is stored several times, with whatever around it, is there once.
	Attestations []Attestation
	// Rejected says of each other bundle why it does not count.
	Rejected []error

	store transport.ReadStore
}

// ErrNone means that the subject has no attestation at all.
var ErrNone = errors.New("no attestation")

// ErrUntrusted means that there are attestations, but no blessing by a trusted key about the subject.
var ErrUntrusted = errors.New("no blessing signed by the given key")

// Limits on what a store may make a reader take in.
const (
	maxReferrers = 1000
	maxManifest  = 4 << 20
	maxBundle    = 32 << 20
	maxBlob      = 256 << 20
	// maxAttestations is for the manifests and bundles of one image together, file list and SBOMs beside
	// them apart. A signer's are 20 MiB at most, and mostly 2: a dozen signers pass. What takes more
	// is refused, since anyone who may push can store the bundles of others, padded, as often as he likes.
	maxAttestations = 256 << 20
)

// reading is what one Verify takes in.
type reading struct {
	transport.ReadStore
	left  int64            // bytes that may be read yet
	taken map[v1.Hash]bool // envelopes that count
}

var errTooMuch = fmt.Errorf("manifests and bundles of more than %d bytes, the limit for one image\nhint: delete referrers of the image that nobody needs", maxAttestations)

// take counts what is about to be read.
func (r *reading) take(size int64) error {
	if r.left -= max(size, 0); r.left < 0 {
		return errTooMuch
	}
	return nil
}

// Manifest is that of the store.
func (r *reading) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	if err := r.take(desc.Size); err != nil {
		return nil, err
	}
	return r.ReadStore.Manifest(ctx, desc)
}

// Blob is that of the store.
func (r *reading) Blob(ctx context.Context, desc v1.Descriptor) (transport.Blob, error) {
	if err := r.take(desc.Size); err != nil {
		return nil, err
	}
	return r.ReadStore.Blob(ctx, desc)
}

// Verify reads the attestations of a platform manifest and checks them: the signature of
// each bundle, that its statement is about subject, and that the file list is
// the one that the blessing names. Bundles of other signers are no error, they are Rejected.
//
// Errors wrap ErrNone or ErrUntrusted, or say which part is missing or altered. An error of the store
// is handed on, and is neither: the attestation may be there.
func Verify(ctx context.Context, store transport.ReadStore, subject v1.Hash, trust Trust) (*Verified, error) {
	return verifyReferrers(ctx, store, subject, trust, func(v1.Descriptor) bool { return true })
}

// VerifyFiles is Verify for a node, which wants the file list: it does not read
// bundles that are listed with another predicate type than the blessing's, so no
// SBOM moves. The result has no other Attestations, and SBOM finds none but big ones.
func VerifyFiles(ctx context.Context, store transport.ReadStore, subject v1.Hash, trust Trust) (*Verified, error) {
	return verifyReferrers(ctx, store, subject, trust, func(d v1.Descriptor) bool {
		t, ok := d.Annotations[annotationPredicate]
		return !ok || t == PredicateBlessing
	})
}

func verifyReferrers(ctx context.Context, store transport.ReadStore, subject v1.Hash, trust Trust, wanted func(v1.Descriptor) bool) (*Verified, error) {
	referrers, err := store.Referrers(ctx, subject, "")
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", subject, err)
	}
	// Some registries list the media type of the config as artifact type, and are not believed.
	referrers = slices.DeleteFunc(referrers, func(d v1.Descriptor) bool {
		bundle := d.ArtifactType == MediaTypeBundle || d.ArtifactType == string(emptyDescriptor.MediaType) || d.ArtifactType == ""
		return !bundle || !wanted(d)
	})
	if len(referrers) > maxReferrers {
		return nil, fmt.Errorf("referrers of %s: %d are more than the limit of %d", subject, len(referrers), maxReferrers)
	}
	v := &Verified{store: store}
	in := &reading{store, maxAttestations, map[v1.Hash]bool{}}
	var blessing *Attestation
	var unread []error
	for _, r := range referrers {
		a, err := in.fetch(ctx, r, subject, trust)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var failed *storeError
		switch {
		case errors.Is(err, errTooMuch):
			return nil, fmt.Errorf("attestations of %s: %w", subject, errTooMuch)
		case errors.Is(err, errNoBundle):
			continue
		case errors.As(err, &failed):
			unread = append(unread, fmt.Errorf("%s: %w", r.Digest, err))
			continue
		case err != nil:
			v.Rejected = append(v.Rejected, fmt.Errorf("%s: %w", r.Digest, err))
			continue
		}
		if !in.taken[a.envelope] {
			in.taken[a.envelope] = true
			v.Attestations = append(v.Attestations, *a)
		}
		if a.Statement.PredicateType != PredicateBlessing {
			continue
		}
		var p Predicate
		if err := json.Unmarshal(a.Statement.Predicate, &p); err != nil {
			return nil, fmt.Errorf("%s: blessing: %w", subject, err)
		}
		if p.Image.Digest[subject.Algorithm] != subject.Hex {
			v.Rejected = append(v.Rejected, fmt.Errorf("%s: the blessing is that of sha256:%s, a manifest of the index", r.Digest, p.Image.Digest["sha256"]))
		} else if blessing == nil || newer(a.Referrer, blessing.Referrer) {
			blessing, v.Blessing = a, p
		}
	}
	if blessing == nil && len(unread) > 0 {
		return nil, fmt.Errorf("%s: %w", subject, errors.Join(unread...)) // who could not look knows nothing
	}
	v.Rejected = append(v.Rejected, unread...)
	if len(v.Attestations)+len(v.Rejected) == 0 {
		return nil, fmt.Errorf("%s: %w", subject, ErrNone)
	}
	if blessing == nil {
		return nil, fmt.Errorf("%s: %w: %w", subject, ErrUntrusted, errors.Join(v.Rejected...))
	}
	raw, err := v.blob(ctx, v.Blessing.FileList)
	if err != nil {
		return nil, fmt.Errorf("%s: file list: %w", subject, err)
	}
	if v.Files, err = filelist.Decode(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	return v, nil
}

// newer orders blessings of one manifest: by time of creation, then by digest,
// so that every reader of a store takes the same one.
func newer(a, b v1.Descriptor) bool {
	const created = "org.opencontainers.image.created"
	if x, y := a.Annotations[created], b.Annotations[created]; x != y {
		return x > y
	}
	return a.Digest.Hex > b.Digest.Hex
}

var errNoBundle = errors.New("not a bundle")

// storeError is an error of the store, which says nothing of the attestation.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

// fetch reads a bundle and verifies it, unless its envelope was taken; errNoBundle if the referrer is something else.
func (r *reading) fetch(ctx context.Context, referrer v1.Descriptor, subject v1.Hash, trust Trust) (*Attestation, error) {
	if referrer.Size > maxManifest {
		return nil, fmt.Errorf("manifest of %d bytes", referrer.Size)
	}
	raw, err := r.Manifest(ctx, referrer)
	if err != nil {
		return nil, &storeError{err}
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if m.ArtifactType != MediaTypeBundle {
		return nil, errNoBundle
	}
	if m.Subject == nil || m.Subject.Digest != subject {
		return nil, errors.New("manifest: its subject is another image")
	}
	if len(m.Layers) != 1 {
		return nil, fmt.Errorf("manifest: %d layers, want 1", len(m.Layers))
	}
	bundle := m.Layers[0]
	if bundle.Size > maxBundle {
		return nil, fmt.Errorf("bundle of %d bytes", bundle.Size)
	}
	if raw, err = transport.ReadBlob(ctx, r, bundle, maxBundle); err != nil {
		return nil, &storeError{err}
	}
	b, s, err := parseBundle(raw)
	if err != nil {
		return nil, err
	}
	a := &Attestation{Referrer: referrer, Statement: *s, checked: !trust.Unchecked, bundle: bundle, material: b.VerificationMaterial}
	if a.envelope = digest.Of(append(b.pae(), b.DSSEEnvelope.Signatures[0].Sig...)); r.taken[a.envelope] {
		return a, nil
	}
	if a.Key, err = trust.verify(b); err != nil {
		if trust.Keyless == nil {
			return nil, err
		}
		if e := trust.Keyless(raw, subject); e != nil {
			return nil, fmt.Errorf("%w; keyless: %w", err, e)
		}
	}
	for _, r := range s.Subject {
		if r.Digest[subject.Algorithm] == subject.Hex {
			return a, nil
		}
	}
	return nil, fmt.Errorf("statement %s is not about %s", s.PredicateType, subject)
}

// verify finds the trusted key that signed the bundle.
func (t *Trust) verify(b *Bundle) (crypto.PublicKey, error) {
	if t.Unchecked {
		return nil, nil
	}
	keys := t.Keys
	err := errors.New("no key is trusted")
	if c := b.VerificationMaterial.Certificate; c != nil && t.Delegated != nil {
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(c.RawBytes); err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		if err = t.Delegated(cert); err != nil {
			err = fmt.Errorf("delegated key: %w", err)
		} else {
			keys = append([]crypto.PublicKey{cert.PublicKey}, keys...)
		}
	}
	pae := b.pae()
	for _, key := range keys {
		if err = verify(key, pae, b.DSSEEnvelope.Signatures[0].Sig); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("signature: %w", err)
}

// Bundle reads the bundle of an attestation again: it may be large, and few want it.
func (v *Verified) Bundle(ctx context.Context, a *Attestation) ([]byte, error) {
	return transport.ReadBlob(ctx, v.store, a.bundle, maxBundle)
}

// SBOM gives the SBOM of a media type that the blessing names, whole, from its
// attestation or from beside it. The digest is verified.
func (v *Verified) SBOM(ctx context.Context, mediaType string) ([]byte, error) {
	for _, r := range v.Blessing.SBOMs {
		if r.MediaType != mediaType {
			continue
		}
		for _, a := range v.Attestations {
			if digest.Of(a.Statement.Predicate).Hex == r.Digest["sha256"] {
				return a.Statement.Predicate, nil
			}
		}
		raw, err := v.blob(ctx, r)
		switch {
		case errors.Is(err, transport.ErrNotFound):
			return nil, fmt.Errorf("SBOM %s: no document with the digest that the blessing names: sha256:%s: it is missing, or was altered", r.Name, r.Digest["sha256"])
		case err != nil:
			return nil, fmt.Errorf("SBOM %s: %w", r.Name, err)
		}
		return raw, nil
	}
	return nil, fmt.Errorf("the blessing names no SBOM of type %s", mediaType)
}

// blob reads what a signed statement names.
func (v *Verified) blob(ctx context.Context, r Resource) ([]byte, error) {
	desc, err := r.descriptor()
	if err != nil {
		return nil, err
	}
	return transport.ReadBlob(ctx, v.store, desc, maxBlob)
}
