// SPDX-License-Identifier: Apache-2.0

package bless

// The manifests: what of the source is to be blessed, what is only copied, and
// how both are put together again.

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/tree"
)

// CertificateLabel is the label of the image config that holds the certificate
// of a delegated key, DER in base64.
const CertificateLabel = "dev.sbom-bless.certificate"

const (
	maxIndexDepth    = 3
	maxIndexChildren = 1000
	maxLayers        = 500

	refTypeAnnotation = "vnd.docker.reference.type" // buildkit docs/attestations/attestation-storage.md
	attestationType   = "attestation-manifest"
)

// node is a manifest or index of the source.
type node struct {
	desc     v1.Descriptor
	raw      []byte
	bare     []byte  // raw without the embedded layer of an earlier blessing; nil if there is none
	children []*node // of an index; nil for a child that is dropped
	image    *image  // of an image that is blessed
}

// image is a manifest whose layers are blessed.
type image struct {
	manifest v1.Manifest
	config   []byte
	file     v1.ConfigFile
	layers   []*layerJob // in the order of the manifest; a layer that stands twice is one job
	embedded *layerJob   // taken off layers, see withoutEmbedded
	platform string
	tree     *tree.Tree // once the layers are read
}

// layerJob is a layer to be blessed, once.
type layerJob struct {
	name   string // for messages: "layer 3"
	source v1.Descriptor
	diffID v1.Hash
	out    LayerResult
}

// plan reads all manifests, from the root down.
func (r *run) plan(ctx context.Context, result *Result) (*node, error) {
	jobs := map[[2]v1.Hash]*layerJob{}
	root, err := r.planNode(ctx, r.src.Root(), 0, jobs, result)
	if err != nil {
		return nil, err
	}
	images := root.images()
	if len(images) == 0 {
		if len(r.opts.Platforms) > 0 {
			return nil, fmt.Errorf("no image for platform %s", platformList(r.opts.Platforms))
		}
		return nil, errors.New("the index holds no image")
	}
	if len(r.opts.Platforms) > 0 && len(images) == 1 {
		return images[0], nil // one platform chosen: its manifest, without an index around it
	}
	return root, nil
}

func (n *node) images() []*node {
	if n.image != nil {
		return []*node{n}
	}
	var all []*node
	for _, c := range n.children {
		if c != nil {
			all = append(all, c.images()...)
		}
	}
	return all
}

func (r *run) planNode(ctx context.Context, desc v1.Descriptor, depth int, jobs map[[2]v1.Hash]*layerJob, result *Result) (*node, error) {
	if err := checkManifestType(desc); err != nil {
		return nil, err
	}
	raw, err := r.src.Manifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	if err := strictJSON(raw); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	n := &node{desc: desc, raw: raw}
	if desc.MediaType.IsIndex() {
		return n, r.planIndex(ctx, n, depth, jobs, result)
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if !isImage(m) {
		return n, nil
	}
	n.image, err = r.planImage(ctx, desc, m, jobs)
	if err != nil {
		return nil, err
	}
	if r.dst != nil && hasEmbedded(&n.image.file) {
		top := n.image.layers[len(n.image.layers)-1]
		if err := r.checkEmbedded(ctx, top); err != nil {
			return nil, fmt.Errorf("%s: %w", top.name, err)
		}
		if err := n.withoutEmbedded(); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
		}
	}
	if depth == 0 && len(r.opts.Platforms) > 0 && !wanted(r.opts.Platforms, n.image.file.Platform()) {
		return nil, fmt.Errorf("the image is for %s, not for %s", n.image.platform, platformList(r.opts.Platforms))
	}
	return n, nil
}

// checkManifestType refuses what is neither manifest nor index.
func checkManifestType(desc v1.Descriptor) error {
	switch desc.MediaType {
	case types.OCIManifestSchema1, types.OCIImageIndex, types.DockerManifestSchema2, types.DockerManifestList:
		return nil
	case types.DockerManifestSchema1, types.DockerManifestSchema1Signed:
		return fmt.Errorf("media type %s: Docker's schema 1 is not supported\nhint: pull and push the image with a current tool", desc.MediaType)
	}
	return fmt.Errorf("media type %q is not an image manifest or index", desc.MediaType)
}

// isImage tells an image from an artifact that only uses the manifest.
func isImage(m *v1.Manifest) bool {
	return m.Config.MediaType == types.OCIConfigJSON || m.Config.MediaType == types.DockerConfigJSON
}

func (r *run) planIndex(ctx context.Context, n *node, depth int, jobs map[[2]v1.Hash]*layerJob, result *Result) error {
	if depth == maxIndexDepth {
		return fmt.Errorf("index %s: nested deeper than %d", n.desc.Digest, maxIndexDepth)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(n.raw))
	if err != nil {
		return fmt.Errorf("index %s: %w", n.desc.Digest, err)
	}
	if len(index.Manifests) > maxIndexChildren {
		return fmt.Errorf("index %s: %d children, more than %d", n.desc.Digest, len(index.Manifests), maxIndexChildren)
	}
	for _, desc := range index.Manifests {
		unknown := desc.Platform != nil && desc.Platform.OS == "unknown" && desc.Platform.Architecture == "unknown"
		if desc.Annotations[refTypeAnnotation] == attestationType && unknown {
			result.Dropped = append(result.Dropped, desc)
			n.children = append(n.children, nil)
			continue
		}
		if len(r.opts.Platforms) > 0 && desc.Platform != nil && !wanted(r.opts.Platforms, desc.Platform) {
			n.children = append(n.children, nil)
			continue
		}
		if checkManifestType(desc) != nil {
			n.children = append(n.children, &node{desc: desc})
			r.leave(desc, unknown)
			continue
		}
		child, err := r.planNode(ctx, desc, depth+1, jobs, result)
		if err != nil {
			return fmt.Errorf("%s: %w", childName(desc), err)
		}
		switch {
		case child.image != nil && len(r.opts.Platforms) > 0 && !wanted(r.opts.Platforms, child.image.file.Platform()):
			child = nil // its config says what its descriptor did not
		case child.image == nil && !desc.MediaType.IsIndex():
			r.leave(desc, unknown)
		}
		n.children = append(n.children, child)
	}
	return nil
}

// leave notes a child that is not read as an image. Runtimes choose by platform,
// some of them whatever the media type of the config: only one that says it is for
// no platform at all cannot be what a container is made of.
func (r *run) leave(desc v1.Descriptor, unknown bool) {
	if !unknown {
		r.unread = append(r.unread, Problem{
			Platform: childName(desc),
			Reason:   "a child of the index, " + desc.Digest.String() + ", is no image that can be read, and a runtime may choose it",
		})
	}
}

func childName(desc v1.Descriptor) string {
	if desc.Platform != nil {
		return desc.Platform.String()
	}
	return desc.Digest.String()
}

func (r *run) planImage(ctx context.Context, desc v1.Descriptor, m *v1.Manifest, jobs map[[2]v1.Hash]*layerJob) (*image, error) {
	config, err := readBlob(ctx, r.src, m.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if err := strictJSON(config); err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	img := &image{manifest: *m, config: config}
	if err := json.Unmarshal(config, &img.file); err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	img.platform = platformName(img.file)
	diffIDs := img.file.RootFS.DiffIDs
	if len(diffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("the manifest %s has %d layers, its config names %d DiffIDs", desc.Digest, len(m.Layers), len(diffIDs))
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%d layers, more than %d", len(m.Layers), maxLayers)
	}
	for i, l := range m.Layers {
		if _, err := packingOf(l.MediaType); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		if len(l.URLs) > 0 {
			return nil, fmt.Errorf("layer %d: its descriptor sends readers to %s, which is not part of the image", i+1, l.URLs[0])
		}
		if l.Size < 0 {
			return nil, fmt.Errorf("layer %d: a size of %d bytes", i+1, l.Size)
		}
		if l.Digest.Algorithm != "sha256" || diffIDs[i].Algorithm != "sha256" {
			return nil, fmt.Errorf("layer %d: digest %s: the algorithm must be sha256", i+1, l.Digest)
		}
		key := [2]v1.Hash{l.Digest, diffIDs[i]}
		job := jobs[key]
		if job == nil {
			job = &layerJob{name: fmt.Sprintf("layer %d", i+1), source: l, diffID: diffIDs[i]}
			jobs[key] = job
		}
		img.layers = append(img.layers, job)
	}
	return img, nil
}

const maxConfig = 8 << 20

// readBlob reads a small blob whole and checks its digest.
func readBlob(ctx context.Context, src transport.Source, desc v1.Descriptor, max int64) ([]byte, error) {
	if desc.Size > max {
		return nil, fmt.Errorf("%s: %d bytes, more than %d", desc.Digest, desc.Size, max)
	}
	b, err := src.Blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	raw, err := io.ReadAll(io.NewSectionReader(b, 0, desc.Size))
	if err != nil {
		return nil, err
	}
	if got, _, _ := v1.SHA256(bytes.NewReader(raw)); got != desc.Digest {
		return nil, fmt.Errorf("%s: the bytes have the digest %s", desc.Digest, got)
	}
	return raw, nil
}

// wanted tells whether p is one of the platforms, both spelled as containerd
// spells them.
func wanted(all []v1.Platform, p *v1.Platform) bool {
	return p != nil && slices.ContainsFunc(all, func(want v1.Platform) bool { return normal(*p).Satisfies(normal(want)) })
}

func normal(p v1.Platform) v1.Platform {
	n := platforms.Normalize(ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion})
	p.OS, p.Architecture, p.Variant = n.OS, n.Architecture, n.Variant
	return p
}

func platformList(ps []v1.Platform) string {
	var s []string
	for _, p := range ps {
		s = append(s, p.String())
	}
	return strings.Join(s, ", ")
}

func platformName(f v1.ConfigFile) string {
	if p := f.Platform(); p != nil && p.OS != "" {
		return tree.Show(p.String())
	}
	return "unknown"
}

// ---- writing ----

// write puts configs, manifests and indexes, children first, and returns the new
// root, and what belongs beside it in an index.
func (r *run) write(ctx context.Context, n *node, result *Result) (root v1.Descriptor, beside []v1.Descriptor, err error) {
	switch {
	case n.image != nil:
	case n.raw == nil: // not a manifest: whatever it is, it is kept
		return n.desc, nil, r.copyBlob(ctx, n.desc)
	case n.desc.MediaType.IsIndex():
		root, err = r.writeIndex(ctx, n, result)
		return root, nil, err
	default:
		if err := r.copyNode(ctx, n); err != nil {
			return root, nil, err
		}
		root, err = r.putManifest(ctx, n.desc, n.raw)
		return root, nil, err
	}
	root, embedded, err := r.writeImage(ctx, n)
	if err != nil {
		return root, nil, err
	}
	ir := n.imageResult(root)
	ir.Embedded = embedded
	result.Images = append(result.Images, ir)
	if r.opts.Beside != nil {
		beside, err = r.opts.Beside(ctx, ir)
	}
	return root, beside, err
}

// imageResult tells what became of the image, whose manifest is now blessed.
func (n *node) imageResult(blessed v1.Descriptor) ImageResult {
	ir := ImageResult{Platform: n.image.platform, Source: n.desc, Blessed: blessed, Created: n.image.file.Created.Time, Tree: n.image.tree}
	if e := n.image.embedded; e != nil {
		ir.SourceEmbedded = &e.source
	}
	for _, l := range n.image.layers {
		ir.Layers = append(ir.Layers, l.out)
	}
	if n.image.tree != nil {
		ir.Memory = memoryFiles(n.image.tree)
	}
	return ir
}

// wrap makes an index around a single image.
func (r *run) wrap(ctx context.Context, image v1.Descriptor, ir ImageResult, beside []v1.Descriptor) (v1.Descriptor, error) {
	image.Annotations = nil
	if p, err := v1.ParsePlatform(ir.Platform); err == nil {
		image.Platform = p
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: append([]v1.Descriptor{image}, beside...)}
	raw, err := json.Marshal(index)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return r.putManifest(ctx, v1.Descriptor{MediaType: index.MediaType}, raw)
}

// putManifest stores raw, and describes it as old was described.
func (r *run) putManifest(ctx context.Context, old v1.Descriptor, raw []byte) (v1.Descriptor, error) {
	desc := old
	desc.Digest, desc.Size = sha256Bytes(raw), int64(len(raw))
	if desc.Data != nil {
		desc.Data = raw
	}
	return desc, r.dst.PutManifest(ctx, desc, raw)
}

// writeImage puts config and manifest of an image, and what is embedded in it.
func (r *run) writeImage(ctx context.Context, n *node) (root v1.Descriptor, embedded *EmbeddedLayer, err error) {
	if layer, ok := r.keeps(ctx, n); ok {
		for _, desc := range []v1.Descriptor{n.image.manifest.Config, layer.Layer} {
			if err := r.copyBlob(ctx, desc); err != nil {
				return root, nil, err
			}
		}
		root, err = r.putManifest(ctx, n.desc, n.raw)
		return root, layer, err
	}
	raw := n.raw
	if n.image.embedded != nil {
		raw = n.bare
		r.progress.Notice("the attestations that an earlier blessing embedded are left out: they are about the image as it was")
	}
	config, edits, err := r.editImage(n.image)
	if err != nil {
		return root, nil, fmt.Errorf("config %s: %w", n.image.manifest.Config.Digest, err)
	}
	desc, more := configEdits(n.image.manifest.Config, config)
	if raw, err = editJSON(raw, append(edits, more...)...); err != nil {
		return root, nil, fmt.Errorf("manifest %s: %w", n.desc.Digest, err)
	}
	if r.opts.Embed != nil {
		return r.embed(ctx, n, raw, config)
	}
	if err := r.putBytes(ctx, desc, config); err != nil {
		return root, nil, err
	}
	root, err = r.putManifest(ctx, n.desc, raw)
	return root, nil, err
}

// editImage gives the new config, and the edits of the manifest but for those of
// the config's descriptor.
func (r *run) editImage(img *image) (_ []byte, manifest []jsonEdit, err error) {
	var config []jsonEdit
	for i, job := range img.layers {
		old, out := img.manifest.Layers[i], job.out
		at := strconv.Itoa(i)
		if kept, dropped := withoutTOC(old.Annotations); len(dropped) > 0 {
			manifest = append(manifest, jsonEdit{[]string{"layers", at, "annotations"}, kept})
			r.progress.Notice(fmt.Sprintf("layer %d: dropped the annotations %s: some unpackers believe that table of contents and not the tar", i+1, strings.Join(dropped, ", ")))
		}
		if out.Blessed.Digest == old.Digest {
			continue
		}
		if old.Data != nil {
			manifest = append(manifest, jsonEdit{[]string{"layers", at, "data"}, nil}) // it held the source
		}
		config = append(config, jsonEdit{[]string{"rootfs", "diff_ids", at}, out.BlessedDiffID})
		manifest = append(manifest,
			jsonEdit{[]string{"layers", at, "digest"}, out.Blessed.Digest},
			jsonEdit{[]string{"layers", at, "size"}, out.Blessed.Size})
		if out.Blessed.MediaType != old.MediaType {
			manifest = append(manifest, jsonEdit{[]string{"layers", at, "mediaType"}, out.Blessed.MediaType})
		}
	}
	if cert := r.opts.Certificate; cert != nil && len(config) > 0 {
		config = append(config, labelEdits(img.file, CertificateLabel, base64.StdEncoding.EncodeToString(cert))...)
	}
	raw, err := editJSON(img.config, config...)
	return raw, manifest, err
}

// configEdits describes a config as the old one was described, and gives the edits
// that this makes in the manifest.
func configEdits(old v1.Descriptor, raw []byte) (v1.Descriptor, []jsonEdit) {
	desc := old
	desc.Digest, desc.Size = sha256Bytes(raw), int64(len(raw))
	if desc.Digest == old.Digest {
		return desc, nil
	}
	edits := []jsonEdit{{[]string{"config", "digest"}, desc.Digest}, {[]string{"config", "size"}, desc.Size}}
	if desc.Data != nil {
		edits = append(edits, jsonEdit{[]string{"config", "data"}, raw})
	}
	return desc, edits
}

// labelEdits sets a label of the image config, where labels may be missing.
func labelEdits(f v1.ConfigFile, name, value string) []jsonEdit {
	if f.Config.Labels == nil {
		return []jsonEdit{{[]string{"config", "Labels"}, map[string]string{name: value}}}
	}
	return []jsonEdit{{[]string{"config", "Labels", name}, value}}
}

// withoutTOC takes away the annotations of eStargz and zstd:chunked, which
// describe the bytes of the layer.
func withoutTOC(annotations map[string]string) (kept map[string]string, dropped []string) {
	kept = map[string]string{}
	for name, value := range annotations {
		if strings.HasPrefix(name, "containerd.io/snapshot/stargz/") || strings.HasPrefix(name, "io.github.containers.zstd-chunked.") {
			dropped = append(dropped, name)
			continue
		}
		kept[name] = value
	}
	slices.Sort(dropped)
	return kept, dropped
}

// writeIndex writes the children and then the index, without those that were
// dropped.
func (r *run) writeIndex(ctx context.Context, n *node, result *Result) (v1.Descriptor, error) {
	var doc struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(n.raw, &doc); err != nil {
		return v1.Descriptor{}, err
	}
	var kept [][]byte
	for i, child := range n.children {
		if child == nil {
			continue
		}
		desc, beside, err := r.write(ctx, child, result)
		if err != nil {
			return desc, fmt.Errorf("%s: %w", childName(child.desc), err)
		}
		entry := doc.Manifests[i]
		if desc.Digest != child.desc.Digest {
			edits := []jsonEdit{{[]string{"digest"}, desc.Digest}, {[]string{"size"}, desc.Size}}
			if desc.Data != nil {
				edits = append(edits, jsonEdit{[]string{"data"}, desc.Data})
			}
			if entry, err = editJSON(entry, edits...); err != nil {
				return desc, err
			}
		}
		kept = append(kept, entry)
		for _, d := range beside {
			entry, err := json.Marshal(d)
			if err != nil {
				return desc, err
			}
			kept = append(kept, entry)
		}
	}
	list := json.RawMessage("[" + string(bytes.Join(kept, []byte(","))) + "]")
	raw, err := editJSON(n.raw, jsonEdit{[]string{"manifests"}, list})
	if err != nil {
		return v1.Descriptor{}, err
	}
	if slices.EqualFunc(doc.Manifests, kept, func(a json.RawMessage, b []byte) bool { return bytes.Equal(a, b) }) {
		raw = n.raw // nothing changed: not a space either
	}
	return r.putManifest(ctx, n.desc, raw)
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

func sha256Bytes(raw []byte) v1.Hash {
	h, _, _ := v1.SHA256(bytes.NewReader(raw)) // reading from memory does not fail
	return h
}
