// SPDX-License-Identifier: Apache-2.0

// Package transport reads images from, and writes images to, the places that
// containers-transports(5) names: registries, OCI layouts and archives, and the
// Docker daemon and its archives.
//
// Both directions speak of content by descriptor, as the OCI image
// specification does: a [Source] resolves one root manifest or index once and
// gives the bytes behind any descriptor reachable from it; a [Destination]
// takes blobs and manifests and shows nothing of them until Commit.
package transport

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Source is an image or index that can be read many times and does not change:
// a tag is resolved once, by Open.
type Source interface {
	// Root describes the manifest or index that the reference named.
	Root() v1.Descriptor
	// Reference is the canonical name of the root, with its digest where the
	// place can express one: "registry.example/app@sha256:...".
	Reference() string
	// Manifest gives the bytes of a manifest or index, verified against
	// desc.Digest and desc.Size.
	Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error)
	// Blob gives random access to a blob, spooled to a temporary file where the
	// place is remote. Size is checked; the digest is for the caller to verify as
	// it reads (a spooled blob was verified on the way).
	Blob(ctx context.Context, desc v1.Descriptor) (Blob, error)
	// Close removes temporary files.
	Close() error
}

// Blob is the content behind a descriptor.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Destination takes the parts of an image in the order blobs, manifests,
// Commit. Methods are safe for concurrent use except Commit and Close.
type Destination interface {
	// Has tells whether the content is already there, so that it need not be put.
	Has(ctx context.Context, desc v1.Descriptor) (bool, error)
	// PutBlob stores a blob; open is called once per try. The digest and size of
	// what was stored are verified.
	PutBlob(ctx context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error
	// PutManifest stores a manifest or index by its digest, untagged.
	PutManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error
	// Commit makes root the image that the destination's reference names and
	// returns its canonical name: "registry.example/app@sha256:...".
	Commit(ctx context.Context, root v1.Descriptor) (string, error)
	// Close drops what was not committed, as far as the place can.
	Close() error
}

// Referrers is implemented by destinations and sources that can list manifests
// whose subject is a given digest (OCI distribution 1.1, or its fallback tag).
type Referrers interface {
	Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error)
}
