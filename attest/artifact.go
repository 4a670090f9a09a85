// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Artifact is one referrer, ready to push: a manifest with one layer, and a subject.
type Artifact struct {
	// Descriptor describes Manifest as the list of referrers does, with artifact type and annotations.
	Descriptor v1.Descriptor
	Manifest   []byte
	// Layer describes Blob.
	Layer v1.Descriptor
	Blob  []byte
}

// The empty config of artifacts (OCI image specification 1.1, "Guidance for an Empty Descriptor").
var (
	emptyConfig     = []byte("{}")
	emptyDescriptor = v1.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Size: 2, Digest: digest(emptyConfig)}
)

// artifact wraps a blob. Title is the file name that tools give the blob.
func (b *Blessing) artifact(subject v1.Descriptor, artifactType, mediaType, title string, blob []byte, annotations map[string]string) Artifact {
	layer := v1.Descriptor{MediaType: types.MediaType(mediaType), Size: int64(len(blob)), Digest: digest(blob)}
	if title != "" {
		layer.Annotations = map[string]string{"org.opencontainers.image.title": title}
	}
	if t := b.created(); t != "" {
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations["org.opencontainers.image.created"] = t
	}
	m := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  artifactType,
		Config:        emptyDescriptor,
		Layers:        []v1.Descriptor{layer},
		Subject:       &v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest},
		Annotations:   annotations,
	}
	raw, err := encode(m)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return Artifact{
		Descriptor: v1.Descriptor{MediaType: m.MediaType, Size: int64(len(raw)), Digest: digest(raw), ArtifactType: artifactType, Annotations: annotations},
		Manifest:   raw,
		Layer:      layer,
		Blob:       blob,
	}
}

// Destination is what Push needs of a transport.Destination.
type Destination interface {
	Has(ctx context.Context, desc v1.Descriptor) (bool, error)
	PutBlob(ctx context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error
	PutManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error
}

// Push stores the artifacts, in their order, next to the image that they are about.
func Push(ctx context.Context, dst Destination, artifacts []Artifact) error {
	for _, a := range artifacts {
		if err := putBlob(ctx, dst, emptyDescriptor, emptyConfig); err != nil {
			return fmt.Errorf("%s: config: %w", a.Descriptor.ArtifactType, err)
		}
		if err := putBlob(ctx, dst, a.Layer, a.Blob); err != nil {
			return fmt.Errorf("%s: blob: %w", a.Descriptor.ArtifactType, err)
		}
		if err := dst.PutManifest(ctx, a.Descriptor, a.Manifest); err != nil {
			return fmt.Errorf("%s: manifest: %w", a.Descriptor.ArtifactType, err)
		}
	}
	return nil
}

func putBlob(ctx context.Context, dst Destination, desc v1.Descriptor, blob []byte) error {
	if has, err := dst.Has(ctx, desc); err != nil || has {
		return err
	}
	return dst.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil })
}
