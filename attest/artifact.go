// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Annotations of a bundle's manifest, as cosign writes them.
const (
	annotationContent   = "dev.sigstore.bundle.content"
	annotationPredicate = "dev.sigstore.bundle.predicateType"
)

// Artifact is one referrer, ready to push: a manifest with a subject.
type Artifact struct {
	// Descriptor describes Manifest as the list of referrers does, with artifact type and annotations.
	Descriptor v1.Descriptor
	Manifest   []byte
	// Blobs are the layers of the manifest: one, but for BuildKit's artifacts.
	Blobs []Blob
}

// Blob is content with its descriptor.
type Blob struct {
	Descriptor v1.Descriptor
	Content    []byte
}

// newBlob describes content. Title is the file name that tools give it; it may be empty.
func newBlob(mediaType, title string, content []byte) Blob {
	d := v1.Descriptor{MediaType: types.MediaType(mediaType), Size: int64(len(content)), Digest: digest.Of(content)}
	if title != "" {
		d.Annotations = map[string]string{"org.opencontainers.image.title": title}
	}
	return Blob{d, content}
}

// The empty config of artifacts (OCI image specification 1.1, "Guidance for an Empty Descriptor").
var (
	emptyConfig     = []byte("{}")
	emptyDescriptor = v1.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Size: 2, Digest: digest.Of(emptyConfig)}
)

// artifact wraps blobs in a manifest.
func (b *Blessing) artifact(subject v1.Descriptor, artifactType string, annotations map[string]string, blobs ...Blob) Artifact {
	m := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  artifactType,
		Config:        emptyDescriptor,
		Subject:       &v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest},
		Annotations:   maps.Clone(annotations),
	}
	if t := b.created(); t != "" {
		if m.Annotations == nil {
			m.Annotations = map[string]string{}
		}
		m.Annotations["org.opencontainers.image.created"] = t
	}
	for _, blob := range blobs {
		m.Layers = append(m.Layers, blob.Descriptor)
	}
	raw, err := jsonedit.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return Artifact{
		Descriptor: v1.Descriptor{MediaType: m.MediaType, Size: int64(len(raw)), Digest: digest.Of(raw), ArtifactType: artifactType, Annotations: m.Annotations},
		Manifest:   raw,
		Blobs:      blobs,
	}
}

// Push stores the artifacts, in their order, next to the image that they are about.
func Push(ctx context.Context, dst transport.Pusher, artifacts []Artifact) error {
	var manifests []transport.Manifest
	for _, a := range artifacts {
		for _, b := range append([]Blob{{emptyDescriptor, emptyConfig}}, a.Blobs...) {
			if err := putBlob(ctx, dst, b); err != nil {
				return fmt.Errorf("%s: %w", a.Descriptor.ArtifactType, err)
			}
		}
		manifests = append(manifests, transport.Manifest{Descriptor: a.Descriptor, Raw: a.Manifest})
	}
	return transport.PutReferrers(ctx, dst, manifests)
}

// WriteDir adds the artifacts to a directory of attestations, which is made if need be. Several processes may
// write to one at the same time.
func WriteDir(ctx context.Context, dir string, artifacts []Artifact) (err error) {
	w, err := transport.WriteDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := Push(ctx, w, artifacts); err != nil {
		return err
	}
	return w.Commit(ctx)
}

func putBlob(ctx context.Context, dst transport.Pusher, b Blob) error {
	if has, err := dst.Has(ctx, b.Descriptor); err != nil || has {
		return err
	}
	return dst.PutBlob(ctx, b.Descriptor, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Content)), nil })
}
