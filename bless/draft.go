// SPDX-License-Identifier: Apache-2.0

package bless

// The manifests of a blessed image: what the layers made of them, what the caller adds, and how
// all of it is written.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/internal/imageconfig"
	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Draft is a blessed image that nobody can see yet. Its layers are in the destination; its configs,
// manifests and indexes are not. What speaks of the blessed layers can be added now: Embed and Keep
// settle the last layer of an image, Beside adds manifests next to it. Write ends the draft.
type Draft struct {
	// Images are the platforms, in the order of the index, as they would be written now.
	Images []ImageResult

	*run
	root   *node
	result *Result
	nodes  []*node // of Images
}

// drafted is what Write will store for an image.
type drafted struct {
	desc     v1.Descriptor // of manifest
	manifest []byte
	config   []byte
	blobs    []v1.Descriptor // copied from the source as they are
	notices  []string
	beside   []v1.Descriptor
}

// draft works out manifest and config of an image whose layers are blessed.
func (r *run) draft(n *node) (ImageResult, error) {
	img := n.image
	img.results = make([]LayerResult, len(img.layers))
	for i, j := range img.layers {
		img.results[i] = j.out
	}
	if !r.rewrites {
		img.draft = &drafted{desc: n.desc, manifest: n.raw, config: img.config}
		return n.imageResult(), nil
	}
	if err := img.describeLayers(); err != nil {
		return ImageResult{}, err
	}
	d := &drafted{}
	raw := n.raw
	if img.embedded != nil {
		raw = n.bare
		d.notices = append(d.notices, "the attestations that an earlier blessing embedded are left out: they are about the image as it was")
	}
	var edits []jsonedit.Edit
	var err error
	if d.config, edits, err = r.editImage(img, d); err != nil {
		return ImageResult{}, fmt.Errorf("config %s: %w", img.manifest.Config.Digest, err)
	}
	if d.manifest, err = jsonedit.Apply(raw, append(edits, configEdits(img.manifest.Config, d.config)...)...); err != nil {
		return ImageResult{}, fmt.Errorf("manifest %s: %w", n.desc.Digest, err)
	}
	d.desc = described(n.desc, d.manifest)
	img.draft = d
	return n.imageResult(), nil
}

// describeLayers describes the blessed layers as this manifest has them. A layer that stands in several
// manifests, or twice in one, is blessed once; its media type stays in the family that it has
// here, and annotations are those from here: runtimes refuse a manifest with another's.
func (img *image) describeLayers() error {
	for i := range img.results {
		l, own := &img.results[i], img.manifest.Layers[i]
		said, err := packingOf(own.MediaType)
		if err != nil {
			return err
		}
		is, err := packingOf(l.Blessed.MediaType)
		if err != nil {
			return err
		}
		made := own
		if made.Digest, made.Size = l.Blessed.Digest, l.Blessed.Size; made.Digest != own.Digest {
			made.Annotations, _ = withoutTOC(own.Annotations)
			made.Data = nil
		}
		if is != said {
			if made.MediaType, err = is.mediaType(own.MediaType); err != nil {
				return fmt.Errorf("layer %d: %w", i+1, err)
			}
		}
		l.Source, l.Blessed = own, made
	}
	return nil
}

// imageResult tells what became of the image.
func (n *node) imageResult() ImageResult {
	img := n.image
	ir := ImageResult{
		Platform: img.platform, Source: n.desc, Blessed: img.draft.desc, Manifest: img.draft.manifest, Config: img.draft.config,
		Created: img.file.Created.Time, Tree: img.tree,
	}
	if e := img.embedded; e != nil {
		ir.SourceEmbedded = &e.source
	}
	ir.Layers = img.results
	if img.tree != nil {
		ir.Memory = memoryFiles(img.tree)
	}
	return ir
}

// described is old with the digest and size of raw, and with raw itself if old carried its content.
func described(old v1.Descriptor, raw []byte) v1.Descriptor {
	old.Digest, old.Size = digest.Of(raw), int64(len(raw))
	if old.Data != nil {
		old.Data = raw
	}
	return old
}

// editImage gives the new config, and the edits of the manifest but for those of
// the config's descriptor.
func (r *run) editImage(img *image, d *drafted) (_ []byte, manifest []jsonedit.Edit, err error) {
	var config []jsonedit.Edit
	for i, out := range img.results {
		old := img.manifest.Layers[i]
		at := strconv.Itoa(i)
		if kept, dropped := withoutTOC(old.Annotations); len(dropped) > 0 {
			manifest = append(manifest, jsonedit.Set(kept, "layers", at, "annotations"))
			d.notices = append(d.notices, fmt.Sprintf("layer %d: dropped the annotations %s: some unpackers believe that table of contents and not the tar", i+1, strings.Join(dropped, ", ")))
		}
		if out.Blessed.MediaType != old.MediaType {
			manifest = append(manifest, jsonedit.Set(out.Blessed.MediaType, "layers", at, "mediaType"))
		}
		if out.Blessed.Digest == old.Digest {
			continue
		}
		if old.Data != nil {
			manifest = append(manifest, jsonedit.Set(nil, "layers", at, "data")) // it held the source
		}
		config = append(config, jsonedit.Set(out.BlessedDiffID, "rootfs", "diff_ids", at))
		manifest = append(manifest,
			jsonedit.Set(out.Blessed.Digest, "layers", at, "digest"),
			jsonedit.Set(out.Blessed.Size, "layers", at, "size"))
	}
	if cert := r.opts.Certificate; cert != nil && len(config) > 0 {
		config = append(config, imageconfig.SetCertificate(&img.file, cert)...)
	}
	raw, err := jsonedit.Apply(img.config, config...)
	return raw, manifest, err
}

// configEdits are the edits of the manifest that a new config makes.
func configEdits(old v1.Descriptor, raw []byte) []jsonedit.Edit {
	desc := described(old, raw)
	if desc.Digest == old.Digest {
		return nil
	}
	edits := []jsonedit.Edit{jsonedit.Set(desc.Digest, "config", "digest"), jsonedit.Set(desc.Size, "config", "size")}
	if desc.Data != nil {
		edits = append(edits, jsonedit.Set(raw, "config", "data"))
	}
	return edits
}

// tocAnnotations begin the names of the annotations of eStargz and zstd:chunked, as containerd, stargz-snapshotter
// and containers/storage write them.
var tocAnnotations = []string{"containerd.io/snapshot/stargz/", "io.containers.estargz.", "io.github.containers.zstd-chunked.", "io.containers.zstd-chunked."}

// withoutTOC takes away the annotations of eStargz and zstd:chunked, which
// describe the bytes of the layer.
func withoutTOC(annotations map[string]string) (kept map[string]string, dropped []string) {
	kept = map[string]string{}
	for name, value := range annotations {
		if slices.ContainsFunc(tocAnnotations, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			dropped = append(dropped, name)
			continue
		}
		kept[name] = value
	}
	slices.Sort(dropped)
	return kept, dropped
}

// ---- what the caller adds ----

var errDetached = errors.New("a detached run leaves the image as it is")

// Keep leaves the image with this index in Images as it is in the source, with the layer that an earlier
// blessing embedded. The caller vouches that what the layer says still holds; below is the manifest
// without it, which it speaks of. The image must be [ImageResult.Unchanged].
func (d *Draft) Keep(image int, below v1.Descriptor) error {
	n, ir := d.nodes[image], &d.Images[image]
	top := n.image.embedded
	switch {
	case !d.rewrites:
		return errDetached
	case top == nil || !ir.Unchanged():
		return fmt.Errorf("%s: there is no embedded layer that can be kept", ir.Platform)
	}
	n.image.draft = &drafted{desc: n.desc, manifest: n.raw, blobs: []v1.Descriptor{n.image.manifest.Config, top.source}, beside: n.image.draft.beside}
	*ir = n.imageResult()
	ir.Embedded = &EmbeddedLayer{Image: below, Layer: top.source, DiffID: top.diffID}
	return nil
}

// Embed puts a layer on top of the image with this index in Images. Its files are blessed like any others.
func (d *Draft) Embed(ctx context.Context, image int, tar []byte) error {
	if !d.rewrites {
		return errDetached
	}
	n := d.nodes[image]
	out := n.image.draft
	if layers := len(n.image.layers) + 1; layers > maxMoby {
		out.notices = append(out.notices, fmt.Sprintf("%d layers with the embedded attestations: Docker's own store takes no more than %d", layers, maxMoby))
	}
	layer, diffID, err := d.putEmbedded(ctx, n, tar)
	if err != nil {
		return fmt.Errorf("embedded layer: %w", err)
	}
	if out.config, err = imageconfig.AddEmbedded(out.config, diffID); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	var doc struct {
		Layers []json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(out.manifest, &doc); err != nil {
		return err
	}
	entry, err := json.Marshal(layer)
	if err != nil {
		return err
	}
	edits := append(configEdits(n.image.manifest.Config, out.config), jsonedit.Set(jsonedit.List(append(doc.Layers, entry)), "layers"))
	if out.manifest, err = jsonedit.Apply(out.manifest, edits...); err != nil {
		return fmt.Errorf("manifest %s: %w", n.desc.Digest, err)
	}
	below := out.desc
	below.Data = nil
	out.desc = described(n.desc, out.manifest)
	d.Images[image] = n.imageResult()
	d.Images[image].Embedded = &EmbeddedLayer{Image: below, Layer: layer, DiffID: diffID}
	return nil
}

// putEmbedded packs the layer, blesses its files, and stores it.
func (d *Draft) putEmbedded(ctx context.Context, n *node, tar []byte) (v1.Descriptor, v1.Hash, error) {
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
	desc := v1.Descriptor{Digest: digest.Of(packed.Bytes()), Size: int64(packed.Len())}
	if desc.MediaType, err = packGzip.mediaType(like); err != nil {
		return desc, v1.Hash{}, err
	}
	var blessed bytes.Buffer
	var out *layerOut
	err = d.withWorkers(func() error {
		out, err = d.layer(ctx, layerIn{desc: desc, diffID: digest.Of(tar), blob: bytes.NewReader(packed.Bytes())}, &blessed, func(int64) {})
		return err
	})
	if err != nil {
		return desc, v1.Hash{}, err
	}
	desc.Digest, desc.Size = out.digest, out.size
	if desc.MediaType, err = out.packing.mediaType(desc.MediaType); err != nil {
		return desc, out.diffID, err
	}
	return desc, out.diffID, d.putBytes(ctx, desc, blessed.Bytes())
}

// Beside lists manifests, which are in the destination already, behind the image with this index in
// Images. A single image gets an index for that.
func (d *Draft) Beside(image int, manifests ...v1.Descriptor) error {
	if !d.rewrites {
		return errDetached
	}
	out := d.nodes[image].image.draft
	out.beside = append(out.beside, manifests...)
	return nil
}

// ---- writing ----

// Write stores configs, manifests and indexes by their digests. The result lacks only what Commit adds.
func (d *Draft) Write(ctx context.Context) (*Result, error) {
	d.result.Images = d.Images
	if !d.rewrites {
		d.result.Blessed, d.result.Descriptor = d.result.Source, d.result.SourceDescriptor
		return d.result, nil
	}
	root, err := d.write(ctx, d.root)
	if err == nil && d.root.image != nil && len(d.root.image.draft.beside) > 0 {
		root, err = d.wrap(ctx, root, d.root.image)
	}
	d.result.Descriptor = root
	return d.result, err
}

// write stores a manifest or index, children first, and describes it.
func (r *run) write(ctx context.Context, n *node) (v1.Descriptor, error) {
	switch {
	case n.image != nil:
		return r.writeImage(ctx, n.image)
	case n.raw == nil: // not a manifest: whatever it is, it is kept
		return n.desc, r.copyBlob(ctx, n.desc)
	case n.desc.MediaType.IsIndex():
		return r.writeIndex(ctx, n)
	}
	if err := r.copyNode(ctx, n); err != nil {
		return n.desc, err
	}
	return r.putManifest(ctx, n.desc, n.raw)
}

func (r *run) writeImage(ctx context.Context, img *image) (v1.Descriptor, error) {
	d := img.draft
	for _, text := range d.notices {
		r.progress.Notice(text)
	}
	for _, desc := range d.blobs {
		if err := r.copyBlob(ctx, desc); err != nil {
			return d.desc, err
		}
	}
	if d.config != nil {
		if err := r.putBytes(ctx, described(img.manifest.Config, d.config), d.config); err != nil {
			return d.desc, err
		}
	}
	return d.desc, r.dst.PutManifest(ctx, d.desc, d.manifest)
}

// wrap makes an index around a single image.
func (r *run) wrap(ctx context.Context, desc v1.Descriptor, img *image) (v1.Descriptor, error) {
	desc.Annotations = nil
	if p, err := v1.ParsePlatform(img.platform); err == nil {
		desc.Platform = p
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: append([]v1.Descriptor{desc}, img.draft.beside...)}
	raw, err := json.Marshal(index)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return r.putManifest(ctx, v1.Descriptor{MediaType: index.MediaType}, raw)
}

// writeIndex writes the children and then the index, without those that were
// dropped.
func (r *run) writeIndex(ctx context.Context, n *node) (v1.Descriptor, error) {
	var doc struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(n.raw, &doc); err != nil {
		return v1.Descriptor{}, err
	}
	var kept []json.RawMessage
	for i, child := range n.children {
		if child == nil {
			continue
		}
		desc, err := r.write(ctx, child)
		if err != nil {
			return desc, fmt.Errorf("%s: %w", childName(child.desc), err)
		}
		entry := doc.Manifests[i]
		if desc.Digest != child.desc.Digest {
			edits := []jsonedit.Edit{jsonedit.Set(desc.Digest, "digest"), jsonedit.Set(desc.Size, "size")}
			if desc.Data != nil {
				edits = append(edits, jsonedit.Set(desc.Data, "data"))
			}
			if entry, err = jsonedit.Apply(entry, edits...); err != nil {
				return desc, err
			}
		}
		kept = append(kept, entry)
		if child.image == nil {
			continue
		}
		for _, d := range child.image.draft.beside {
			entry, err := json.Marshal(d)
			if err != nil {
				return desc, err
			}
			kept = append(kept, entry)
		}
	}
	raw, err := jsonedit.Apply(n.raw, jsonedit.Set(jsonedit.List(kept), "manifests"))
	if err != nil {
		return v1.Descriptor{}, err
	}
	if slices.EqualFunc(doc.Manifests, kept, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		raw = n.raw // nothing changed: not a space either
	}
	return r.putManifest(ctx, n.desc, raw)
}

// putManifest stores raw, and describes it as old was described.
func (r *run) putManifest(ctx context.Context, old v1.Descriptor, raw []byte) (v1.Descriptor, error) {
	desc := described(old, raw)
	return desc, r.dst.PutManifest(ctx, desc, raw)
}

// putBytes stores a small blob.
func (r *run) putBytes(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	return r.dst.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
}

// copyNode copies the blobs of an artifact as they are.
func (r *run) copyNode(ctx context.Context, n *node) error {
	m, err := v1.ParseManifest(bytes.NewReader(n.raw))
	if err != nil {
		return fmt.Errorf("manifest %s: %w", n.desc.Digest, err)
	}
	for _, desc := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := r.copyBlob(ctx, desc); err != nil {
			return err
		}
	}
	return nil
}

// copyBlob brings a blob of the source to the destination unchanged.
func (r *run) copyBlob(ctx context.Context, desc v1.Descriptor) error {
	if ok, err := r.dst.Has(ctx, desc); ok || err != nil {
		return err
	}
	if m, ok := r.dst.(transport.Mounter); ok {
		if done, err := m.Mount(ctx, desc, r.src); done || err != nil {
			return err
		}
	}
	b, err := r.src.Blob(ctx, desc)
	if err != nil {
		return err
	}
	defer b.Close()
	return r.dst.PutBlob(ctx, desc, func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(b, 0, desc.Size)), nil
	})
}
