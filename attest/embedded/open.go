// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/internal/imageconfig"
	"github.com/sbom-bless/sbom-bless/internal/magic"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// Attestations are those in the last layer of an image.
type Attestations struct {
	transport.ReadStore
	// Image is the manifest as it is without the layer: the subject of the attestations.
	Image v1.Descriptor
	// Layer and DiffID are those of the layer.
	Layer  v1.Descriptor
	DiffID v1.Hash

	layers []v1.Descriptor // of the whole image, without that one
}

// Limits of what an image may make a reader take in.
const (
	maxConfig   = 8 << 20
	maxLayer    = 256 << 20 // packed, and unpacked
	maxManifest = 4 << 20
)

// Open reads the attestations embedded in the image with this manifest, as a store of
// referrers of Image. Whatever a trusted key says there of Image then holds for this
// manifest too, which Open has checked:
//
//   - its config is that of Image with the layer on top, byte for byte, so layers
//     below have the DiffIDs of Image's, and what runs is started in the same way;
//   - the DiffID of the layer is the one that the config names;
//   - the layer makes nothing but plain files below Root, owned by root, which nobody may execute.
//
// Signatures are not looked at: that is for attest.Verify with Image as subject, whose
// blessing is then to be held against the layers by [Attestations.Check]. The error wraps
// attest.ErrNone if nothing is embedded.
func Open(ctx context.Context, content transport.Fetcher, manifest v1.Descriptor) (*Attestations, error) {
	if manifest.Size > maxManifest {
		return nil, fmt.Errorf("%s: a manifest of %d bytes", manifest.Digest, manifest.Size)
	}
	raw, err := content.Manifest(ctx, manifest)
	if err != nil {
		return nil, err
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.Digest, err)
	}
	if m.Config.Size > maxConfig || len(m.Layers) == 0 {
		return nil, fmt.Errorf("%s: %w", manifest.Digest, attest.ErrNone)
	}
	config, err := transport.ReadBlob(ctx, content, m.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	var f v1.ConfigFile
	if json.Unmarshal(config, &f) != nil || !imageconfig.HasEmbedded(&f) {
		return nil, fmt.Errorf("%s: %w", manifest.Digest, attest.ErrNone)
	}
	top := len(m.Layers) - 1
	a := &Attestations{Layer: m.Layers[top], layers: m.Layers[:top]}
	if err := a.open(ctx, content, config); err != nil {
		return nil, fmt.Errorf("embedded attestations, layer %d: %w", top+1, err)
	}
	return a, nil
}

func (a *Attestations) open(ctx context.Context, content transport.Fetcher, config []byte) error {
	layer, err := transport.ReadBlob(ctx, content, a.Layer, maxLayer)
	if err != nil {
		return err
	}
	l, err := unpack(layer)
	if err != nil {
		return err
	}
	a.DiffID = l.diffID
	s := transport.NewMemory(l.files)
	a.ReadStore = s
	listed, err := s.Listed()
	if err != nil {
		return err
	}
	for _, d := range listed {
		if d.ArtifactType != "" {
			continue
		}
		if a.Image.Digest.Hex != "" {
			return errors.New("two images")
		}
		a.Image = d
	}
	raw, err := s.Manifest(ctx, a.Image)
	if err != nil {
		return fmt.Errorf("the image below: %w", err)
	}
	var below v1.Manifest
	if err := json.Unmarshal(raw, &below); err != nil {
		return fmt.Errorf("the image below: %w", err)
	}
	was, err := transport.ReadBlob(ctx, s, below.Config, maxConfig)
	if err != nil {
		return fmt.Errorf("config of the image below: %w", err)
	}
	want, err := imageconfig.AddEmbedded(was, a.DiffID)
	if err != nil {
		return fmt.Errorf("config of the image below: %w", err)
	}
	if !bytes.Equal(want, config) {
		return errors.New("the config of the image is not that of the image that the attestations are about, with this layer on top")
	}
	return nil
}

// Check holds the layers of the whole image against the blessing of the image below: they
// must be those that it names, packed as they were, or not at all, as after docker save.
func (a *Attestations) Check(p *attest.Predicate) error {
	if len(p.Layers) != len(a.layers) {
		return fmt.Errorf("the blessing names %d layers, the image has %d and the embedded one", len(p.Layers), len(a.layers))
	}
	for i, l := range a.layers {
		if b := p.Layers[i].Blessed; l.Digest != b.Digest && l.Digest != b.DiffID {
			return fmt.Errorf("layer %d: is %s, the blessing names %s", i+1, l.Digest, b.Digest)
		}
	}
	return nil
}

// unpacked is the layer as its tar tells it. It is the xattr.Handler of the scan.
type unpacked struct {
	diffID v1.Hash
	files  map[string][]byte // by path below Root
	name   string            // of the file at hand, "" for a directory
}

// unpack reads the tar of the layer, packed in whatever way.
func unpack(layer []byte) (*unpacked, error) {
	var r io.Reader = bytes.NewReader(layer)
	switch {
	case magic.Gzip(layer):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	case magic.Zstd(layer):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxLayer))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	}
	l := &unpacked{files: map[string][]byte{}}
	scanner, sum := xattr.NewScanner(l), sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, scanner), io.LimitReader(r, maxLayer+1))
	switch {
	case err != nil:
		return nil, err
	case n > maxLayer:
		return nil, fmt.Errorf("more than %d bytes when unpacked", maxLayer)
	}
	if err := scanner.Close(); err != nil {
		return nil, err
	}
	l.diffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return l, nil
}

// Entry takes directories and plain files below Root, as Layer makes them.
func (l *unpacked) Entry(e *xattr.Entry) error {
	refuse := func(what string) error { return fmt.Errorf("%q: %s", e.Name, what) }
	name, below := strings.CutPrefix(e.Name, Root+"/")
	switch e.Type {
	case '5':
		if e.Name != Root+"/" && e.Name != Root+"/blobs/" && e.Name != Root+"/"+blobDir+"/" || e.Mode != 0o755 {
			return refuse("a directory that has no place there")
		}
		l.name = ""
	case '0':
		hexes, blob := strings.CutPrefix(name, blobDir+"/")
		if blob {
			_, err := v1.NewHash("sha256:" + hexes)
			blob = err == nil
		}
		if !below || !blob && name != indexFile && name != layoutFile || e.Mode != 0o644 {
			return refuse("a file that has no place there")
		}
		if _, twice := l.files[name]; twice {
			return refuse("stands twice")
		}
		l.name, l.files[name] = name, nil
	default:
		return refuse("neither a file nor a directory")
	}
	for attribute := range e.Xattrs {
		switch attribute {
		case xattr.IMA, xattr.Bless, xattr.EVM:
		default:
			return refuse("has the attribute " + attribute)
		}
	}
	if e.UID != 0 || e.GID != 0 || e.Sparse {
		return refuse("not a plain file of root's")
	}
	return nil
}

// Content takes a piece of the file at hand.
func (l *unpacked) Content(p []byte) error {
	l.files[l.name] = append(l.files[l.name], p...)
	return nil
}

// End is that of xattr.Handler.
func (l *unpacked) End() error { return nil }
