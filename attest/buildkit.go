// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// mediaTypeBuildKit is the artifact type of BuildKit's attestation manifests (moby/buildkit, docs/attestations/attestation-storage.md).
const mediaTypeBuildKit = "application/vnd.docker.attestation.manifest.v1+json"

// maxInBuildKit is the largest attestation that BuildKit's readers take, less some room for the statement.
const maxInBuildKit = 79 << 20

// BuildKit makes the attestation manifest that BuildKit would put into the
// index of an image, with the SPDX document and the provenance, for docker buildx
// and Docker Scout. It is not signed. Its descriptor goes into the index beside that of the image.
func BuildKit(b Blessing) (Artifact, error) {
	b.Index = nil // its digest depends on this manifest
	p, err := b.predicate()
	if err != nil {
		return Artifact{}, err
	}
	var blobs []Blob
	add := func(predicateType string, predicate []byte) error {
		statement, err := b.statement(predicateType, predicate)
		if err != nil {
			return fmt.Errorf("statement %s: %w", predicateType, err)
		}
		blob := newBlob(payloadType, "", statement)
		blob.Descriptor.Annotations = map[string]string{"in-toto.io/predicate-type": predicateType}
		blobs = append(blobs, blob)
		return nil
	}
	for _, sbom := range b.SBOMs {
		if sbom.MediaType != MediaTypeSPDX {
			continue // no reader takes another one
		}
		doc := sbom.Raw
		if len(doc) > maxInBuildKit {
			doc = sbom.Short
		}
		if err := add(PredicateSPDX, doc); err != nil {
			return Artifact{}, err
		}
	}
	provenance, err := b.provenance(p)
	if err != nil {
		return Artifact{}, err
	}
	if err := add(PredicateProvenance, provenance); err != nil {
		return Artifact{}, err
	}
	a := b.artifact(b.Image, mediaTypeBuildKit, nil, blobs...)
	a.Descriptor.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	a.Descriptor.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": b.Image.Digest.String(),
	}
	return a, nil
}
