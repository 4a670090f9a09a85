// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sbom-bless/sbom-bless/tree"
)

// Tamper copies the first image of the OCI layout dir to a new layout out, with
// the last byte of the file path changed: an attacker who can write to a registry,
// and gets every digest of the image right. Attributes stay as they are.
func Tamper(dir, path, out string) error {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return err
	}
	list, err := index.IndexManifest()
	if err != nil || len(list.Manifests) == 0 {
		return fmt.Errorf("%s: no image: %w", dir, err)
	}
	img, err := index.Image(list.Manifests[0].Digest)
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.RootFS.DiffIDs, config.History = nil, nil
	result, err := mutate.ConfigFile(empty.Image, config)
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	changed := false
	for _, l := range layers {
		content, hit, err := tamperLayer(l, path)
		if err != nil {
			return err
		}
		changed = changed || hit
		l, err = tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
		if err != nil {
			return err
		}
		if result, err = mutate.AppendLayers(result, l); err != nil {
			return err
		}
	}
	if !changed {
		return fmt.Errorf("%s: no file %s", dir, path)
	}
	p, err := layout.Write(out, empty.Index)
	if err != nil {
		return err
	}
	return p.AppendImage(result, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": Tag}))
}

func tamperLayer(l v1.Layer, path string) (content []byte, changed bool, err error) {
	r, err := l.Uncompressed()
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	var buf bytes.Buffer
	in, out := tar.NewReader(r), tar.NewWriter(&buf)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			err = out.Close()
			return buf.Bytes(), changed, err
		}
		if err != nil {
			return nil, false, err
		}
		body, err := io.ReadAll(in)
		if err != nil {
			return nil, false, err
		}
		if name, err := tree.Clean(h.Name); err == nil && name == path && len(body) > 0 {
			body[len(body)-1] ^= 1
			changed = true
		}
		h.Xattrs = nil //nolint:staticcheck // the old field would win over PAXRecords
		if err := out.WriteHeader(h); err != nil {
			return nil, false, err
		}
		if _, err := out.Write(body); err != nil {
			return nil, false, err
		}
	}
}
