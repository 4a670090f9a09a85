// SPDX-License-Identifier: Apache-2.0

package bless

// The manifests of the source: what is to be blessed, and what is only copied.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sbom-bless/sbom-bless/internal/imageconfig"
	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

const (
	maxIndexDepth    = 3
	maxIndexChildren = 1000
	maxLayers        = 500
	maxMoby          = 125 // moby, layer/layer_store.go: maxLayerDepth

	refTypeAnnotation = "vnd.docker.reference.type" // buildkit docs/attestations/attestation-storage.md
	attestationType   = "attestation-manifest"
)

// node is a manifest or index of the source.
type node struct {
	desc     v1.Descriptor
	raw      []byte
	bare     []byte          // raw without the embedded layer of an earlier blessing; nil if there is none
	children []*node         // of an index; nil for a child that is dropped
	image    *image          // of an image that is blessed
	config   types.MediaType // of a manifest that is none
}

// image is a manifest whose layers are blessed.
type image struct {
	manifest v1.Manifest
	config   []byte
	file     v1.ConfigFile
	layers   []*layerJob // in the order of the manifest; a layer that stands twice is one job
	embedded *layerJob   // taken off layers, see withoutEmbedded
	platform string
	tree     *tree.Tree    // once the layers are read
	results  []LayerResult // once they are blessed, as this manifest describes them
	draft    *drafted      // once they are blessed
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
	if err := jsonedit.Check(raw); err != nil {
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
		if depth == 0 {
			return nil, fmt.Errorf("the manifest is not an image: config %s", m.Config.MediaType)
		}
		n.config = m.Config.MediaType
		return n, nil
	}
	n.image, err = r.planImage(ctx, desc, m, jobs)
	if err != nil {
		return nil, err
	}
	if r.rewrites && imageconfig.HasEmbedded(&n.image.file) {
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

// isImage tells an image from an artifact that only uses the manifest. Some tools and registries gave the config a
// media type that says nothing, and runtimes start such images: then the layers tell.
func isImage(m *v1.Manifest) bool {
	switch m.Config.MediaType {
	case types.OCIConfigJSON, types.DockerConfigJSON:
		return true
	case "", "application/octet-stream", "application/json", "text/html", "text/plain":
		other := func(l v1.Descriptor) bool { _, err := packingOf(l.MediaType); return err != nil }
		return len(m.Layers) > 0 && !slices.ContainsFunc(m.Layers, other)
	}
	return false
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
			r.leave(desc, unknown, "media type "+string(desc.MediaType))
			continue
		}
		child, err := r.planNode(ctx, desc, depth+1, jobs, result)
		if errors.Is(err, transport.ErrNotFound) && transport.PlaceOf(r.src.Reference()) == transport.DockerArchive {
			// docker save writes the whole index, and the platforms that it has.
			r.progress.Notice(childName(desc) + " is left out: the archive does not hold it")
			n.children = append(n.children, nil)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w%s", childName(desc), err, r.otherPlatforms(index, desc))
		}
		switch {
		case child.image != nil && len(r.opts.Platforms) > 0 && !wanted(r.opts.Platforms, child.image.file.Platform()):
			child = nil // its config says what its descriptor did not
		case child.image == nil && !desc.MediaType.IsIndex():
			r.leave(desc, unknown, "config "+string(child.config))
		}
		n.children = append(n.children, child)
	}
	return nil
}

// otherPlatforms is the hint for an index with a child that cannot be blessed.
func (r *run) otherPlatforms(index *v1.IndexManifest, bad v1.Descriptor) string {
	var names []string
	for _, d := range index.Manifests {
		if d.Platform != nil && d.Platform.OS != "unknown" && d.Digest != bad.Digest {
			names = append(names, "--platform "+d.Platform.String())
		}
	}
	if len(names) == 0 || len(r.opts.Platforms) > 0 {
		return ""
	}
	return "\nhint: the other platforms can be chosen: " + strings.Join(names, " ")
}

// leave notes a child that is not read as an image. Runtimes choose by platform,
// some of them whatever the media type of the config: only one that says it is for
// no platform at all cannot be what a container is made of.
func (r *run) leave(desc v1.Descriptor, unknown bool, what string) {
	if !unknown {
		if r.rewrites {
			r.progress.Notice(childName(desc) + " is left as it is: the manifest is not an image: " + what)
		}
		r.unread = append(r.unread, Problem{
			Platform: childName(desc),
			Reason:   "a child of the index, " + desc.Digest.String() + ", is no image that can be read (" + what + "), and a runtime may choose it",
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
	config, err := transport.ReadBlob(ctx, r.src, m.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if err := jsonedit.Check(config); err != nil {
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

// ---- what an earlier blessing embedded ----

// checkEmbedded makes sure that the layer to be taken off the image is one of ours: nothing
// that somebody put into the image gets lost because of what a history says.
func (r *run) checkEmbedded(ctx context.Context, j *layerJob) error {
	blob, err := r.src.Blob(ctx, j.source)
	if err != nil {
		return err
	}
	defer blob.Close()
	_, err = readLayer(ctx, layerIn{desc: j.source, diffID: j.diffID, blob: blob}, r.limits, false, false, func(int64) {}, func(_ *xattr.Entry, f *tree.File) error {
		if f.Name != imageconfig.EmbeddedRoot && !strings.HasPrefix(f.Name, imageconfig.EmbeddedRoot+"/") {
			return fmt.Errorf("the history of the image says that it holds attestations of an earlier blessing, but it holds %s", tree.Show(f.Name))
		}
		return nil
	})
	return err
}

// withoutEmbedded takes the embedded layer of an earlier blessing off manifest and config: what it
// says is said of the image as it was then.
func (n *node) withoutEmbedded() error {
	img := n.image
	top := len(img.layers) - 1
	img.embedded, img.layers = img.layers[top], img.layers[:top]
	var err error
	if img.config, err = imageconfig.DropEmbedded(img.config); err != nil {
		return err
	}
	if err := json.Unmarshal(img.config, &img.file); err != nil {
		return err
	}
	var doc struct {
		Layers []json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(n.raw, &doc); err != nil {
		return err
	}
	n.bare, err = jsonedit.Apply(n.raw, jsonedit.Set(jsonedit.List(doc.Layers[:top]), "layers"))
	img.manifest.Layers = img.manifest.Layers[:top]
	return err
}
