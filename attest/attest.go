// SPDX-License-Identifier: Apache-2.0

// Package attest makes and checks what sbom-bless says about a blessed image:
// in-toto statements (in-toto/attestation, Statement v1) in DSSE envelopes, in
// sigstore bundles v0.3, attached to the image as OCI 1.1 referrers; next to
// them the file list, SBOMs too big for a bundle, and a classic in-toto link.
//
// [Make] turns a [Blessing] into [Artifact] values, [Push] and [WriteDir] put
// them somewhere, [Verify] reads them back. docs/attestation.md has the formats.
// The package knows nothing of layers or xattrs: the caller tells it facts.
package attest

import (
	"bytes"
	"context"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
)

// Predicate types of the statements.
const (
	PredicateSPDX       = "https://spdx.dev/Document"
	PredicateCycloneDX  = "https://cyclonedx.org/bom"
	PredicateProvenance = "https://slsa.dev/provenance/v1"
	PredicateReference  = "https://in-toto.io/attestation/reference/v0.1"
	PredicateBlessing   = "https://github.com/sbom-bless/sbom-bless/blessing/v1"
)

// BuildType and BuilderID are the type URIs of the SLSA provenance.
const (
	BuildType = "https://github.com/sbom-bless/sbom-bless/bless/v1"
	BuilderID = "https://github.com/sbom-bless/sbom-bless"
)

// Media types of SBOMs, and artifact types of the referrers that carry one raw.
const (
	MediaTypeSPDX      = "application/spdx+json"
	MediaTypeCycloneDX = "application/vnd.cyclonedx+json"
)

// Blessing is all that the attestations of one platform manifest say.
type Blessing struct {
	// Image is the manifest the attestations are about: the blessed one, in detached mode
	// the source's own. Index is the index that holds it, if there is one.
	Image v1.Descriptor
	Index *v1.Descriptor
	// Name is the image's repository, without tag or digest; empty for places that have no names.
	Name     string
	Platform string // "linux/arm64/v8"
	Detached bool

	Source Source
	Layers []Layer
	// Embedded is the layer on top of Layers that carries attestations of the image without it, if there is one.
	Embedded   *LayerDigests
	Attributes []Attribute
	Key        Key
	Counts     Counts

	SBOMs []SBOM
	// FileList is the file list as filelist.Encode gives it.
	FileList []byte

	// Parameters are the options of the run, for the provenance.
	Parameters map[string]any
	// Version is the version of sbom-bless.
	Version string
	// Created goes into provenance and annotations unless it is zero.
	Created time.Time
}

// Source is what was blessed. Index is the digest of the index the reference named, if it named one.
type Source struct {
	Name   string // as the user named it, without digest
	Digest v1.Hash
	Index  *v1.Hash
}

// Layer tells how one layer was rewritten; both sides are equal in detached mode.
type Layer struct {
	Source  LayerDigests `json:"source"`
	Blessed LayerDigests `json:"blessed"`
	// Content is the DiffID of either side without our records, if that is not the DiffID of Source:
	// the source had such records already.
	Content *v1.Hash `json:"content,omitempty"`
}

// LayerDigests are the digests of a layer: the uncompressed tar and the blob.
type LayerDigests struct {
	DiffID v1.Hash `json:"diffID"`
	Digest v1.Hash `json:"digest"`
	// MediaType is that of the blob as the manifest has it; empty in blessings of earlier versions.
	MediaType types.MediaType `json:"mediaType,omitempty"`
}

// Attribute describes an extended attribute that files carry.
type Attribute struct {
	Name   string `json:"name"`   // "security.ima"
	Format string `json:"format"` // "ima-signature-v2", "ima-signature-v3", "ima-digest", "pkcs7", "evm-portable"
	Hash   string `json:"hash"`   // "sha256"
	Files  string `json:"files"`  // "all", "code"
}

// Key names the key that signed the files.
type Key struct {
	// ID is the key id of the IMA signatures, eight hexadecimal digits.
	ID string `json:"id,omitempty"`
	// Certificate is the DER certificate of the key.
	Certificate []byte `json:"certificate,omitempty"`
}

// Counts are numbers of the effective tree.
type Counts struct {
	Files    int `json:"files"` // regular files, hard links included
	Code     int `json:"code"`
	Packages int `json:"packages"`
}

// SBOM is one software bill of materials.
type SBOM struct {
	// MediaType is MediaTypeSPDX or MediaTypeCycloneDX.
	MediaType string
	// Raw is the whole document, without white space at its ends.
	Raw []byte
	// Short is a document of the same format without the files. It takes the place of
	// Raw in the attestation when Raw is too big for one.
	Short []byte
}

// sbomFormat is what depends on the media type of an SBOM.
type sbomFormat struct{ name, predicateType, file string }

var sbomFormats = map[string]sbomFormat{
	MediaTypeSPDX:      {"spdx-json", PredicateSPDX, "sbom.spdx.json"},
	MediaTypeCycloneDX: {"cyclonedx-json", PredicateCycloneDX, "sbom.cdx.json"},
}

// maxInBundle is the size from which an SBOM is kept beside its attestation.
// A bundle is 4/3 of its SBOM (base64) and Kyverno reads no more than 10 MiB.
const maxInBundle = 7 << 20

// Make signs the statements of a blessing and wraps them for a registry. The
// same arguments give the same bytes if the signer's signatures are
// deterministic. The order of the answer is the order to push in: the
// statement of the blessing, which names the other parts, is last.
func Make(ctx context.Context, b Blessing, s Bundler) ([]Artifact, error) {
	var out []Artifact
	p, err := b.predicate()
	if err != nil {
		return nil, err
	}
	out = append(out, b.artifact(b.Image, filelist.MediaType, nil, newBlob(filelist.MediaType, "files.zst", b.FileList)))
	if s, ok := s.(*Signer); ok { // a layout names keys, so there is no link without one
		link, file, err := b.link(s)
		if err != nil {
			return nil, fmt.Errorf("link: %w", err)
		}
		if link != nil {
			out = append(out, b.artifact(b.Image, MediaTypeLink, nil, newBlob(MediaTypeLink, file, link)))
		}
	}
	attest := func(predicateType string, predicate []byte) error {
		statement, err := b.statement(predicateType, predicate)
		if err != nil {
			return fmt.Errorf("statement %s: %w", predicateType, err)
		}
		bundle, err := s.Bundle(ctx, statement)
		if err != nil {
			return fmt.Errorf("statement %s: %w", predicateType, err)
		}
		subjects := []v1.Descriptor{b.Image}
		if b.Index != nil {
			subjects = append(subjects, *b.Index)
		}
		for _, subject := range subjects {
			out = append(out, b.artifact(subject, MediaTypeBundle, map[string]string{
				annotationContent:   "dsse-envelope",
				annotationPredicate: predicateType,
			}, newBlob(MediaTypeBundle, "", bundle)))
		}
		return nil
	}
	for _, sbom := range b.SBOMs {
		f := sbomFormats[sbom.MediaType]
		if len(sbom.Raw) <= maxInBundle {
			if err := attest(f.predicateType, sbom.Raw); err != nil {
				return nil, err
			}
			continue
		}
		raw := newBlob(sbom.MediaType, f.file, sbom.Raw)
		out = append(out, b.artifact(b.Image, sbom.MediaType, nil, raw))
		if len(sbom.Short) <= maxInBundle { // else the packages alone are too many: the reference says where they are
			if err := attest(f.predicateType, sbom.Short); err != nil {
				return nil, err
			}
		}
		reference, err := b.reference(raw.Descriptor)
		if err != nil {
			return nil, err
		}
		if err := attest(PredicateReference, reference); err != nil {
			return nil, err
		}
	}
	provenance, err := b.provenance(p)
	if err != nil {
		return nil, err
	}
	if err := attest(PredicateProvenance, provenance); err != nil {
		return nil, err
	}
	blessing, err := jsonedit.Marshal(p)
	if err != nil {
		return nil, err
	}
	return out, attest(PredicateBlessing, blessing)
}

// predicate checks the blessing and gives the predicate that sums it up.
func (b *Blessing) predicate() (*Predicate, error) {
	list, err := filelist.Decode(b.FileList)
	if err != nil {
		return nil, err
	}
	if list.Len() != b.Counts.Files {
		return nil, fmt.Errorf("file list: %d files, the image has %d", list.Len(), b.Counts.Files)
	}
	p := &Predicate{
		Image:      b.subject(b.Image.Digest),
		Source:     newResource(b.Source.Name, "", b.Source.Digest, 0),
		Platform:   b.Platform,
		Detached:   b.Detached,
		Layers:     b.Layers,
		Embedded:   b.Embedded,
		Attributes: b.Attributes,
		Key:        b.Key,
		Counts:     b.Counts,
		FileList:   newResource("files.zst", filelist.MediaType, digest.Of(b.FileList), int64(len(b.FileList))),
		SBOMs:      []Resource{},
		Version:    b.Version,
		Created:    b.created(),
	}
	if b.Source.Index != nil {
		index := newResource(b.Source.Name, "", *b.Source.Index, 0)
		p.SourceIndex = &index
	}
	for _, sbom := range b.SBOMs {
		f, ok := sbomFormats[sbom.MediaType]
		switch {
		case !ok:
			return nil, fmt.Errorf("SBOM of unknown type %q", sbom.MediaType)
		case len(sbom.Raw) == 0 || len(bytes.TrimSpace(sbom.Raw)) != len(sbom.Raw):
			return nil, fmt.Errorf("SBOM %s: empty, or white space at its ends", f.name)
		case len(sbom.Raw) > maxInBundle && len(sbom.Short) == 0:
			return nil, fmt.Errorf("SBOM %s: %d bytes are too many for an attestation, and no short form is given", f.name, len(sbom.Raw))
		}
		p.SBOMs = append(p.SBOMs, newResource(f.file, sbom.MediaType, digest.Of(sbom.Raw), int64(len(sbom.Raw))))
	}
	return p, nil
}
