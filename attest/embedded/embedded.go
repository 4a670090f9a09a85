// SPDX-License-Identifier: Apache-2.0

// Package embedded carries attestations within the image that they are about, in
// its last layer: for nodes without a registry, and through docker save.
//
// A layer cannot hold a statement about the manifest that lists it. What it holds
// is about the manifest as it is without the layer: bytes of that manifest and of
// its config, which are in the layer too, and the attestations with their
// digest as subject, in the form of an OCI image layout below "/.sbom-bless".
// [Layer] makes it. [Open] finds it in an image and checks that the image is the one below
// and this layer, and that the layer is nothing else; after that, what holds for the one holds for the other.
package embedded

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/internal/imageconfig"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Root is the directory of the layer, and all that the layer touches.
const Root = imageconfig.EmbeddedRoot

// Files of the layer, below Root.
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	blobDir    = "blobs/sha256"
)

// Layer makes the layer: the manifest and config of an image, and the artifacts
// whose subject the manifest is. The same arguments give the same bytes.
func Layer(manifest v1.Descriptor, raw, config []byte, artifacts []attest.Artifact, created time.Time) ([]byte, error) {
	s := transport.NewMemory(nil)
	manifest = v1.Descriptor{MediaType: manifest.MediaType, Size: manifest.Size, Digest: manifest.Digest}
	ctx := context.Background()
	if err := s.PutManifest(ctx, manifest, raw); err != nil {
		return nil, err
	}
	describes := v1.Descriptor{Size: int64(len(config)), Digest: digest.Of(config)}
	if err := s.PutBlob(ctx, describes, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(config)), nil }); err != nil {
		return nil, err
	}
	if err := attest.Push(ctx, s, artifacts); err != nil {
		return nil, err
	}
	return write(s.Files(), created)
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
