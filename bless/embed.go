// SPDX-License-Identifier: Apache-2.0

package bless

// One more layer: what a caller has to say about the blessed image, carried by
// the image itself.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// embeddedBy is what the history of an image config says of the embedded layer.
// It is a hint: what the layer is, its content tells.
const embeddedBy = "sbom-bless bless --embed"

// EmbeddedRoot is the directory that embedded layers fill, and all that they touch.
const EmbeddedRoot = ".sbom-bless"

// EmbeddedLayer is a layer that Options.Embed gave.
type EmbeddedLayer struct {
	// Image is the manifest as it is without the layer, which the layer speaks of.
	Image  v1.Descriptor `json:"image"`
	Layer  v1.Descriptor `json:"layer"`
	DiffID v1.Hash       `json:"diffId"`
}

// HasEmbedded tells whether the last layer of an image says that it is an
// embedded one. Config is the image config.
func HasEmbedded(config []byte) bool {
	var f v1.ConfigFile
	return json.Unmarshal(config, &f) == nil && hasEmbedded(&f)
}

func hasEmbedded(f *v1.ConfigFile) bool {
	n := len(f.History)
	return n > 0 && f.History[n-1].CreatedBy == embeddedBy && len(f.RootFS.DiffIDs) > 0
}

// EmbedInConfig is config with the layer on top of the others, every other byte
// as it was.
func EmbedInConfig(config []byte, diffID v1.Hash) ([]byte, error) {
	var doc struct {
		History []json.RawMessage `json:"history"`
		RootFS  struct {
			DiffIDs []json.RawMessage `json:"diff_ids"`
		} `json:"rootfs"`
		Created json.RawMessage `json:"created"`
	}
	if err := json.Unmarshal(config, &doc); err != nil {
		return nil, err
	}
	entry, err := json.Marshal(struct {
		Created   json.RawMessage `json:"created,omitempty"` // of the image: the clock has no say
		CreatedBy string          `json:"created_by"`
	}{doc.Created, embeddedBy})
	if err != nil {
		return nil, err
	}
	id, err := json.Marshal(diffID)
	if err != nil {
		return nil, err
	}
	return editJSON(config,
		jsonEdit{[]string{"rootfs", "diff_ids"}, list(append(doc.RootFS.DiffIDs, id))},
		jsonEdit{[]string{"history"}, list(append(doc.History, entry))})
}

// list is a JSON array of the elements, byte for byte.
func list(elements []json.RawMessage) json.RawMessage {
	var parts [][]byte
	for _, e := range elements {
		parts = append(parts, e)
	}
	return json.RawMessage("[" + string(bytes.Join(parts, []byte(","))) + "]")
}

// checkEmbedded makes sure that the layer to be taken off the image is one of ours: nothing
// that somebody put into the image gets lost because of what a history says.
func (r *run) checkEmbedded(ctx context.Context, j *layerJob) error {
	blob, err := r.src.Blob(ctx, j.source)
	if err != nil {
		return err
	}
	defer blob.Close()
	_, err = readLayer(ctx, layerIn{desc: j.source, diffID: j.diffID, blob: blob}, r.limits, false, false, func(int64) {}, func(_ *xattr.Entry, f *tree.File) error {
		if f.Name != EmbeddedRoot && !strings.HasPrefix(f.Name, EmbeddedRoot+"/") {
			return fmt.Errorf("the history of the image says that it holds attestations of an earlier blessing, but it holds %s", tree.Show(f.Name))
		}
		return nil
	})
	return err
}

// withoutEmbedded takes the embedded layer of an earlier blessing off the image,
// from manifest and config: what it says is said of the image as it was then.
func (n *node) withoutEmbedded() error {
	img := n.image
	top := len(img.layers) - 1
	img.embedded, img.layers = img.layers[top], img.layers[:top]
	var doc struct {
		Layers  []json.RawMessage `json:"layers"`
		History []json.RawMessage `json:"history"`
		RootFS  struct {
			DiffIDs []json.RawMessage `json:"diff_ids"`
		} `json:"rootfs"`
	}
	for _, raw := range [][]byte{n.raw, img.config} {
		if err := json.Unmarshal(raw, &doc); err != nil {
			return err
		}
	}
	var err error
	if img.config, err = editJSON(img.config,
		jsonEdit{[]string{"rootfs", "diff_ids"}, list(doc.RootFS.DiffIDs[:top])},
		jsonEdit{[]string{"history"}, list(doc.History[:len(doc.History)-1])}); err != nil {
		return err
	}
	if err := json.Unmarshal(img.config, &img.file); err != nil {
		return err
	}
	n.bare, err = editJSON(n.raw, jsonEdit{[]string{"layers"}, list(doc.Layers[:top])})
	img.manifest.Layers = img.manifest.Layers[:top]
	return err
}

// keeps tells whether the image stays as it is, embedded layer included: nothing
// is to be changed below it, and the caller holds it for good.
func (r *run) keeps(ctx context.Context, n *node) (*EmbeddedLayer, bool) {
	top := n.image.embedded
	if top == nil || r.opts.Embedded == nil {
		return nil, false
	}
	for _, l := range n.image.layers {
		if l.out.Blessed.Digest != l.source.Digest {
			return nil, false
		}
	}
	below, ok := r.opts.Embedded(ctx, n.desc)
	return &EmbeddedLayer{Image: below, Layer: top.source, DiffID: top.diffID}, ok
}

// embed puts the layer that the caller gives on top of the image, whose manifest
// is raw, and stores manifest and config of both together.
func (r *run) embed(ctx context.Context, n *node, raw, config []byte) (root v1.Descriptor, embedded *EmbeddedLayer, err error) {
	below := n.desc
	below.Digest, below.Size, below.Data = sha256Bytes(raw), int64(len(raw)), nil
	tar, err := r.opts.Embed(ctx, n.imageResult(below), raw, config)
	if err != nil {
		return root, nil, err
	}
	layer, diffID, err := r.putEmbedded(ctx, n, tar)
	if err != nil {
		return root, nil, fmt.Errorf("embedded layer: %w", err)
	}
	if config, err = EmbedInConfig(config, diffID); err != nil {
		return root, nil, fmt.Errorf("config: %w", err)
	}
	var doc struct {
		Layers []json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return root, nil, err
	}
	entry, err := json.Marshal(layer)
	if err != nil {
		return root, nil, err
	}
	desc, edits := configEdits(n.image.manifest.Config, config)
	raw, err = editJSON(raw, append(edits, jsonEdit{[]string{"layers"}, list(append(doc.Layers, entry))})...)
	if err != nil {
		return root, nil, fmt.Errorf("manifest %s: %w", n.desc.Digest, err)
	}
	if err := r.putBytes(ctx, desc, config); err != nil {
		return root, nil, err
	}
	root, err = r.putManifest(ctx, n.desc, raw)
	return root, &EmbeddedLayer{Image: below, Layer: layer, DiffID: diffID}, err
}

// putEmbedded packs the layer, blesses its files like any others, and stores it.
func (r *run) putEmbedded(ctx context.Context, n *node, tar []byte) (v1.Descriptor, v1.Hash, error) {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return v1.Descriptor{}, v1.Hash{}, err
	}
	if _, err := z.Write(tar); err != nil {
		return v1.Descriptor{}, v1.Hash{}, err
	}
	if err := z.Close(); err != nil {
		return v1.Descriptor{}, v1.Hash{}, err
	}
	var like types.MediaType // Docker's or OCI's, as the others are
	if layers := n.image.manifest.Layers; len(layers) > 0 {
		like = layers[0].MediaType
	}
	desc := v1.Descriptor{Digest: sha256Bytes(packed.Bytes()), Size: int64(packed.Len())}
	if desc.MediaType, err = packGzip.mediaType(like); err != nil {
		return desc, v1.Hash{}, err
	}
	var blessed bytes.Buffer
	out, err := r.layer(ctx, layerIn{desc: desc, diffID: sha256Bytes(tar), blob: bytes.NewReader(packed.Bytes())}, &blessed, func(int64) {})
	if err != nil {
		return desc, v1.Hash{}, err
	}
	desc.Digest, desc.Size = out.digest, out.size
	if desc.MediaType, err = out.packing.mediaType(desc.MediaType); err != nil {
		return desc, out.diffID, err
	}
	return desc, out.diffID, r.putBytes(ctx, desc, blessed.Bytes())
}

// putBytes stores a small blob.
func (r *run) putBytes(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	return r.dst.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
}
