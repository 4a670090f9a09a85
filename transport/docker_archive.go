// SPDX-License-Identifier: Apache-2.0

package transport

// Reading the archives of docker save and podman save: manifest.json, with layers
// as they were stored, or, since Docker 25, an OCI layout beside it. The format
// is that of moby's image/spec v1.2 and of image/tarexport/save.go.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/internal/magic"
)

// savedImage is an element of manifest.json. Paths are names of members.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func openDockerArchive(ctx context.Context, r reference, o Options) (Source, error) {
	t, err := openTar(ctx, r.path, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	s, err := newSaved(ctx, r, t, o)
	if err != nil {
		t.tar.Close()
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	return s, nil
}

// newSaved opens one image of an archive of docker save.
func newSaved(ctx context.Context, r reference, t *tarFiles, o Options) (Source, error) {
	images, err := savedImages(t, o)
	if err != nil {
		return nil, err
	}
	listed, err := listsImages(t, o)
	if err != nil {
		return nil, err
	}
	if listed || images == nil && t.has("oci-layout") {
		s := &savedLayout{layoutSource{layout: layout{r, t, o}, close: t.tar.Close}}
		// An image ID is no digest of a manifest; its archive has one image.
		byName := layout{reference{place: r.place, path: r.path, name: r.name}, t, o}
		if s.desc, err = byName.root(); err != nil {
			return nil, err
		}
		return s, s.agrees(images)
	}
	if images == nil {
		if t.has("repositories") {
			return nil, errors.New("no manifest.json: an archive of Docker before 1.10\nhint: docker load and docker save it with a current Docker")
		}
		return nil, fmt.Errorf("not an archive of docker save: manifest.json %w", ErrNotFound)
	}
	image, err := choose(images, r)
	if err != nil {
		return nil, err
	}
	s := &savedSource{ref: r, tar: t, o: o, blobs: map[v1.Hash]string{}}
	return s, s.build(ctx, image)
}

func savedImages(t *tarFiles, o Options) ([]savedImage, error) {
	raw, err := t.read("manifest.json", o.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	images := []savedImage{}
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	return images, nil
}

// listsImages tells whether there is an OCI layout with an image in it. Docker 25 writes one without for an image
// that has no tag; manifest.json counts then.
func listsImages(t *tarFiles, o Options) (bool, error) {
	if !t.has("oci-layout") || !t.has("index.json") {
		return false, nil
	}
	raw, err := t.read("index.json", o.MaxManifest)
	if err != nil {
		return false, err
	}
	var index struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return false, fmt.Errorf("index.json: %w", err)
	}
	return len(index.Manifests) > 0, nil
}

func choose(images []savedImage, r reference) (savedImage, error) {
	var found []savedImage
	var names []string
	for _, image := range images {
		if image.named(r) {
			found = append(found, image)
		}
		names = append(names, image.RepoTags...)
	}
	hint := ""
	if len(names) > 0 {
		if len(names) > 10 {
			names = append(names[:10], "...")
		}
		hint = fmt.Sprintf("\nhint: docker-archive:%s:%s", r.path, strings.Join(names, ", "))
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return savedImage{}, fmt.Errorf("image %w in it%s", ErrNotFound, hint)
	}
	return savedImage{}, fmt.Errorf("%d images in it%s", len(found), hint)
}

// savedLayout is an image in the OCI layout that docker save writes since 25.
type savedLayout struct{ layoutSource }

func (s *savedLayout) Reference() string { return s.ref.String() }

// agrees refuses an archive in which the layout and manifest.json name different
// images: some readers take one, some the other.
func (s *savedLayout) agrees(images []savedImage) error {
	if images == nil {
		return nil
	}
	head, err := s.head(s.desc)
	if err != nil {
		return err
	}
	heads := []manifestHead{head}
	for _, child := range head.Manifests {
		if h, err := s.head(child); err == nil { // docker save leaves out platforms it does not have
			heads = append(heads, h)
		}
	}
	for _, h := range heads {
		if h.Config != nil && slices.ContainsFunc(images, func(i savedImage) bool { return i.named(s.ref) && i.same(h) }) {
			return nil
		}
	}
	return errors.New("index.json and manifest.json in it name different images")
}

// named tells whether the image has the name of the reference, if that has one.
func (i savedImage) named(r reference) bool {
	return r.name == nil || slices.ContainsFunc(i.RepoTags, func(tag string) bool {
		n, err := parseName(tag, false)
		return err == nil && n.Name() == r.name.Name()
	})
}

// same tells whether manifest.json names the same files as an OCI manifest.
func (i savedImage) same(m manifestHead) bool {
	return memberName(i.Config) == blobPath(m.Config.Digest) &&
		slices.EqualFunc(i.Layers, m.Layers, func(name string, desc v1.Descriptor) bool { return memberName(name) == blobPath(desc.Digest) })
}

// savedSource is an image described by manifest.json alone. It is shown as the
// manifest a registry would have for the same files.
type savedSource struct {
	ref   reference
	tar   *tarFiles
	o     Options
	desc  v1.Descriptor
	raw   []byte
	blobs map[v1.Hash]string
}

func (s *savedSource) Root() v1.Descriptor { return s.desc }
func (s *savedSource) Reference() string   { return s.ref.String() }
func (s *savedSource) Close() error        { return s.tar.tar.Close() }

func (s *savedSource) Manifest(_ context.Context, desc v1.Descriptor) ([]byte, error) {
	if desc.Digest != s.desc.Digest {
		return nil, fmt.Errorf("%s: manifest %s: %w", s.ref, desc.Digest, ErrNotFound)
	}
	return slices.Clone(s.raw), nil
}

func (s *savedSource) Blob(_ context.Context, desc v1.Descriptor) (Blob, error) {
	b, err := s.blob(desc)
	if err != nil {
		return nil, fmt.Errorf("%s: blob %s: %w", s.ref, desc.Digest, err)
	}
	return b, nil
}

func (s *savedSource) blob(desc v1.Descriptor) (Blob, error) {
	if err := checkDescriptor(desc, s.o.MaxBlob); err != nil {
		return nil, err
	}
	name, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, ErrNotFound
	}
	b, err := s.tar.open(name)
	if err != nil {
		return nil, err
	}
	if b.Size() != desc.Size {
		return nil, sizeError(b.Size(), desc.Size)
	}
	return b, nil
}

// build makes the manifest. An uncompressed layer has its DiffID as digest, which
// whoever reads it verifies; compressed ones are read once, to know theirs.
func (s *savedSource) build(ctx context.Context, image savedImage) error {
	raw, err := s.tar.read(memberName(image.Config), s.o.MaxManifest)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	var config struct {
		RootFS struct {
			DiffIDs []v1.Hash `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if len(config.RootFS.DiffIDs) != len(image.Layers) {
		return fmt.Errorf("%d layers, the config says %d", len(image.Layers), len(config.RootFS.DiffIDs))
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2, Layers: make([]v1.Descriptor, len(image.Layers))}
	digest, err := sum(raw, v1.Hash{})
	if err != nil {
		return err
	}
	m.Config = v1.Descriptor{MediaType: types.DockerConfigJSON, Digest: digest, Size: int64(len(raw))}
	s.blobs[digest] = image.Config
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range image.Layers {
		work.Go(func() (err error) {
			if m.Layers[i], err = s.layer(ctx, name, config.RootFS.DiffIDs[i]); err != nil {
				return fmt.Errorf("layer %d: %w", i+1, err)
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	for i, l := range m.Layers {
		s.blobs[l.Digest] = image.Layers[i]
	}
	useOCI(&m)
	if s.raw, err = json.Marshal(m); err != nil {
		return err
	}
	root, err := sum(s.raw, v1.Hash{})
	s.desc = v1.Descriptor{MediaType: m.MediaType, Digest: root, Size: int64(len(s.raw))}
	return err
}

func (s *savedSource) layer(ctx context.Context, name string, diffID v1.Hash) (v1.Descriptor, error) {
	b, err := s.tar.open(name)
	if err != nil {
		return v1.Descriptor{}, err
	}
	desc := v1.Descriptor{MediaType: types.DockerUncompressedLayer, Digest: diffID, Size: b.Size()}
	var head [magic.Size]byte
	if _, err := b.ReadAt(head[:], 0); err != nil && err != io.EOF {
		return desc, err
	}
	switch {
	case magic.Gzip(head[:]):
		desc.MediaType = types.DockerLayer
	case magic.Zstd(head[:]):
		desc.MediaType = types.OCILayerZStd
	default:
		_, err := parseDigest(diffID.String())
		return desc, err
	}
	desc.Digest, _, err = v1.SHA256(contextReader{ctx, io.NewSectionReader(b, 0, b.Size())})
	return desc, err
}

// useOCI gives a manifest with a zstd layer OCI types, as Docker has none for it.
func useOCI(m *v1.Manifest) {
	if !slices.ContainsFunc(m.Layers, func(d v1.Descriptor) bool { return d.MediaType == types.OCILayerZStd }) {
		return
	}
	m.MediaType, m.Config.MediaType = types.OCIManifestSchema1, types.OCIConfigJSON
	for i := range m.Layers {
		switch m.Layers[i].MediaType {
		case types.DockerLayer:
			m.Layers[i].MediaType = types.OCILayer
		case types.DockerUncompressedLayer:
			m.Layers[i].MediaType = types.OCIUncompressedLayer
		}
	}
}
