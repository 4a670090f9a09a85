// SPDX-License-Identifier: Apache-2.0

// Package transport reads images from, and writes images to, the places that
// containers-transports(5) names. [Open] and [Create] take references:
//
//	registry.example/app:1           a registry; docker:// may stand before it
//	docker-daemon:app:1              the Docker daemon; to read also by image ID
//	docker-archive:FILE[:NAME:TAG]   the file of docker save
//	oci:DIR[:TAG]                    an OCI image layout; to read also @DIGEST
//	oci-archive:FILE[:TAG]           the same in a tar; to read also @DIGEST
//
// Both directions speak of content by descriptor, as the OCI image
// specification does: a [Source] resolves one root manifest or index once and
// gives the bytes behind any descriptor reachable from it; a [Destination]
// takes blobs and manifests and shows nothing of them until Commit.
//
// Errors begin with the reference, and end with a line "hint: ..." where a person
// can do something. Layers are neither compressed nor uncompressed on the way,
// and the URLs of foreign layers are never fetched.
package transport

import (
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Options are the choices a caller has; the zero value is right for most.
type Options struct {
	// Insecure allows plain HTTP, and TLS certificates that do not verify. For
	// registries on this host, plain HTTP needs no allowance.
	Insecure bool
	// TempDir is where blobs are spooled, in files without names; empty means
	// os.TempDir.
	TempDir string
	// MaxManifest is the largest manifest or index that is read, in bytes; 0
	// means 4 MiB, which is what registries accept.
	MaxManifest int64
	// MaxBlob is the largest blob that is read, and the largest an archive may
	// become when it is uncompressed, in bytes; 0 means 64 GiB.
	MaxBlob int64

	patience patience // of the registry client; tests have less of it
}

func (o Options) withDefaults() Options {
	if o.MaxManifest == 0 {
		o.MaxManifest = 4 << 20
	}
	if o.MaxBlob == 0 {
		o.MaxBlob = 64 << 30
	}
	if o.patience == (patience{}) {
		o.patience = defaultPatience
	}
	return o
}

// ErrNotFound is wrapped by errors that say that what a reference or a
// descriptor names is not there.
var ErrNotFound = errors.New("not found")

// Fetcher gives content by descriptor.
type Fetcher interface {
	// Manifest gives the bytes of a manifest or index, verified against
	// desc.Digest and desc.Size.
	Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error)
	// Blob gives random access to a blob, spooled to a temporary file where the
	// place is remote. Size is checked; the digest is for the caller to verify as
	// it reads (a spooled blob was verified on the way).
	Blob(ctx context.Context, desc v1.Descriptor) (Blob, error)
}

// Pusher takes content by descriptor.
type Pusher interface {
	// Has tells whether the content is already there, so that it need not be put;
	// desc.MediaType says whether it is a manifest. A manifest with a subject is to
	// be put all the same, as that lists it among the referrers.
	Has(ctx context.Context, desc v1.Descriptor) (bool, error)
	// PutBlob stores a blob; open is called once per try. The digest and size of
	// what was stored are verified.
	PutBlob(ctx context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error
	// PutManifest stores a manifest or index by its digest, untagged.
	PutManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error
}

// Manifest is a manifest or index with its descriptor.
type Manifest struct {
	Descriptor v1.Descriptor
	Raw        []byte
}

// PutReferrers stores manifests that have a subject, as PutManifest does, one after the other. A registry that keeps
// the list of them under a tag gets it once for each subject, when all of them are there: some allow nobody to
// write a tag twice.
func PutReferrers(ctx context.Context, dst Pusher, manifests []Manifest) error {
	if d, ok := dst.(interface {
		putReferrers(context.Context, []Manifest) error
	}); ok {
		return d.putReferrers(ctx, manifests)
	}
	for _, m := range manifests {
		if err := dst.PutManifest(ctx, m.Descriptor, m.Raw); err != nil {
			return err
		}
	}
	return nil
}

// Referrers is implemented by destinations and sources that can list manifests
// whose subject is a given digest (OCI distribution 1.1, or its fallback tag):
// registries, OCI layouts and OCI archives. Their PutManifest takes manifests
// with a subject; that of other destinations refuses them.
type Referrers interface {
	// Referrers lists them with their artifactType and annotations, ordered by
	// digest; an empty artifactType lists all.
	Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error)
}

// ReadStore is a place that attestations can be read from: a registry, a layout, a [Dir], [Memory].
type ReadStore interface {
	Fetcher
	Referrers
}

// Source is an image or index that can be read many times and does not change:
// a tag is resolved once, by Open.
type Source interface {
	Fetcher
	// Root describes the manifest or index that the reference named.
	Root() v1.Descriptor
	// Reference is the canonical name of the root, with its digest where the
	// place can express one: "registry.example/app@sha256:...".
	Reference() string
	// Close ends it. Nothing may be read from it, or from its blobs, after that.
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
	Pusher
	// Commit makes root the image that the destination's reference names and
	// returns its canonical name: "registry.example/app@sha256:...".
	Commit(ctx context.Context, root v1.Descriptor) (string, error)
	// Close drops what was not committed, as far as the place can.
	Close() error
}

// Store is a destination that gives back what is in it already, committed or
// not: a registry or an OCI layout.
type Store interface {
	Destination
	ReadStore
}

// Mounter is a destination that can take a blob from the source's place without
// moving its bytes: a registry, from another repository of the same registry.
type Mounter interface {
	// Mount tells whether the blob is there now; false means it must be put.
	Mount(ctx context.Context, desc v1.Descriptor, from Source) (bool, error)
}
