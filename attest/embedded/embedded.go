// SPDX-License-Identifier: Apache-2.0

// Package embedded carries attestations within the image that they are about, in
// its last layer: for nodes without a registry, and through docker save.
//
// A layer cannot hold a statement about the manifest that lists it. What it holds
// is about the manifest as it is without the layer: bytes of that manifest and of
// its config, which are in the layer too, and the attestations with their
// digest as subject, in the form of an attest.Dir below "/.sbom-bless".
// [Layer] makes it. [Open] finds it in an image and checks that the image is the one below
// and this layer, and that the layer is nothing else; after that, what holds for the one holds for the other.
package embedded

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/internal/imageconfig"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Root is the directory of the layer, and all that the layer touches.
const Root = imageconfig.EmbeddedRoot

const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	blobDir    = "blobs/sha256"
)

// layout is the one file that says the same in every layout.
const layout = `{"imageLayoutVersion":"1.0.0"}`

// Layer makes the layer: the manifest and config of an image, and the artifacts
// whose subject the manifest is. The same arguments give the same bytes.
func Layer(manifest v1.Descriptor, raw, config []byte, artifacts []attest.Artifact, created time.Time) ([]byte, error) {
	s := newStore()
	manifest = v1.Descriptor{MediaType: manifest.MediaType, Size: manifest.Size, Digest: manifest.Digest}
	ctx := context.Background()
	if err := s.PutManifest(ctx, manifest, raw); err != nil {
		return nil, err
	}
	s.blobs[digest.Of(config)] = config
	if err := attest.Push(ctx, s, artifacts); err != nil {
		return nil, err
	}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: s.manifests})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{layoutFile: []byte(layout), indexFile: index}
	for h, content := range s.blobs {
		files[blobDir+"/"+h.Hex] = content
	}
	return write(files, created)
}

// write is the tar of a layer with these files, by paths below Root.
func write(files map[string][]byte, created time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if created.IsZero() {
		created = time.Unix(0, 0)
	}
	header := func(name string, kind byte, mode int64, size int) error {
		return w.WriteHeader(&tar.Header{Typeflag: kind, Name: name, Mode: mode, Size: int64(size), ModTime: created, Format: tar.FormatUSTAR})
	}
	for _, dir := range []string{Root, Root + "/blobs", Root + "/" + blobDir} {
		if err := header(dir+"/", tar.TypeDir, 0o755, 0); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := header(Root+"/"+name, tar.TypeReg, 0o644, len(files[name])); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// store is an attest.Store in memory.
type store struct {
	blobs     map[v1.Hash][]byte
	manifests []v1.Descriptor // of index.json, in order
}

func newStore() *store { return &store{blobs: map[v1.Hash][]byte{}} }

// Has is that of attest.Destination.
func (s *store) Has(_ context.Context, desc v1.Descriptor) (bool, error) {
	_, ok := s.blobs[desc.Digest]
	return ok, nil
}

// PutBlob is that of attest.Destination.
func (s *store) PutBlob(_ context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.blobs[desc.Digest] = raw
	return check(desc, raw)
}

// PutManifest is that of attest.Destination.
func (s *store) PutManifest(_ context.Context, desc v1.Descriptor, raw []byte) error {
	s.blobs[desc.Digest] = raw
	s.manifests = append(s.manifests, desc)
	return check(desc, raw)
}

// Referrers is that of attest.Store.
func (s *store) Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	var out []v1.Descriptor
	for _, desc := range s.manifests {
		raw, err := s.Manifest(ctx, desc)
		if err != nil {
			return nil, err
		}
		var m v1.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", desc.Digest, err)
		}
		if m.Subject != nil && m.Subject.Digest == subject && cmp.Or(artifactType, m.ArtifactType) == m.ArtifactType {
			out = append(out, desc)
		}
	}
	return out, nil
}

// Manifest is that of attest.Store.
func (s *store) Manifest(_ context.Context, desc v1.Descriptor) ([]byte, error) {
	raw, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: %w", desc.Digest, transport.ErrNotFound)
	}
	return raw, check(desc, raw)
}

// Blob is that of attest.Store.
func (s *store) Blob(ctx context.Context, desc v1.Descriptor) (transport.Blob, error) {
	raw, err := s.Manifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	return blob{strings.NewReader(string(raw))}, nil
}

type blob struct{ *strings.Reader }

func (blob) Close() error { return nil }

// check verifies content against its descriptor.
func check(desc v1.Descriptor, raw []byte) error {
	if got := digest.Of(raw); got != desc.Digest || int64(len(raw)) != desc.Size {
		return fmt.Errorf("%s of %d bytes: the content has digest %s, and %d bytes", desc.Digest, desc.Size, got, len(raw))
	}
	return nil
}
