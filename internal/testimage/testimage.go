// SPDX-License-Identifier: Apache-2.0

// Package testimage makes the images that tests, benchmarks and the demo work
// on, in the form of the OCI image specification, version 1.1.
//
// Two kinds. [Real] gives one of four big images, made once from Debian
// packages (or from a seed) and kept in the user's cache directory. [Image] and
// [Index] describe small ones, built in memory from tar entries; [Cases] lists
// those that are known for the trouble they make, hostile ones included. A
// built image goes to an OCI layout or to a registry.
//
// Nothing here checks what it writes: many of these images are wrong on purpose.
package testimage

import (
	"encoding/json"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Epoch is the time of everything made here, in seconds since 1970.
const Epoch = 1700000000

// Created is Epoch as a time.
var Created = time.Unix(Epoch, 0).UTC()

// Image describes a small image.
type Image struct {
	// Docker asks for Docker's media types in place of OCI's.
	Docker bool
	// Platform is linux/amd64 when empty.
	Platform    v1.Platform
	Layers      []Layer
	Config      v1.Config
	Annotations map[string]string
	// ConfigType replaces the media type of the config.
	ConfigType types.MediaType
}

// Layer is one layer of an Image.
type Layer struct {
	// Tar is the uncompressed layer; see [Tar].
	Tar []byte
	// Compression is "", "gzip" or "zstd".
	Compression string
	// Compressed replaces the output of Compression.
	Compressed []byte
	// MediaType replaces that of Compression.
	MediaType   types.MediaType
	Annotations map[string]string
}

// Bundle is an image or index with all its content, in memory.
type Bundle struct {
	Root v1.Descriptor
	// Blobs holds content by digest; Manifests tells which of it is a manifest or an index.
	Blobs     map[v1.Hash][]byte
	Manifests []v1.Descriptor // children before parents; the last one is Root
}

// Build makes the image.
func (im Image) Build() *Bundle { return im.build(nil) }

// build makes the image after edit had its way with the manifest and config.
func (im Image) build(edit func(*v1.Manifest, *v1.ConfigFile)) *Bundle {
	b := &Bundle{Blobs: map[v1.Hash][]byte{}}
	platform := im.Platform
	if platform.OS == "" {
		platform = v1.Platform{OS: "linux", Architecture: "amd64"}
	}
	config := &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		Created: v1.Time{Time: Created},
		Config:  im.Config,
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
	}
	manifest := &v1.Manifest{
		SchemaVersion: 2,
		MediaType:     im.mediaType(types.OCIManifestSchema1, types.DockerManifestSchema2),
		Layers:        []v1.Descriptor{},
		Annotations:   im.Annotations,
	}
	for i, l := range im.Layers {
		blob := l.Compressed
		if blob == nil {
			blob = Compress(l.Tar, l.Compression)
		}
		mediaType := l.MediaType
		if mediaType == "" {
			mediaType = im.layerType(l.Compression)
		}
		desc := b.add(mediaType, blob)
		desc.Annotations = l.Annotations
		manifest.Layers = append(manifest.Layers, desc)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, hashOf(l.Tar))
		config.History = append(config.History, v1.History{
			Created: v1.Time{Time: Created}, CreatedBy: fmt.Sprintf("layer %d", i),
		})
	}
	// An edit may change either; what it does to the config descriptor is undone.
	if edit != nil {
		edit(manifest, config)
	}
	configType := im.ConfigType
	if configType == "" {
		configType = im.mediaType(types.OCIConfigJSON, types.DockerConfigJSON)
	}
	manifest.Config = b.addJSON(configType, config)
	b.Root = b.addJSON(manifest.MediaType, manifest)
	b.Root.Platform = &platform
	b.Manifests = []v1.Descriptor{b.Root}
	return b
}

func (im Image) mediaType(oci, docker types.MediaType) types.MediaType {
	if im.Docker {
		return docker
	}
	return oci
}

func (im Image) layerType(compression string) types.MediaType {
	switch compression {
	case "gzip":
		return im.mediaType(types.OCILayer, types.DockerLayer)
	case "zstd":
		return types.OCILayerZStd // Docker has no name of its own for it
	}
	return im.mediaType(types.OCIUncompressedLayer, types.DockerUncompressedLayer)
}

// Index makes a multi-platform image. With attestations each platform gets the
// child that BuildKit puts beside it: a manifest of platform unknown/unknown
// that carries an in-toto statement and names the platform's manifest.
func Index(attestations bool, images ...Image) *Bundle {
	index := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	all := &Bundle{Blobs: map[v1.Hash][]byte{}}
	for _, im := range images {
		if im.Docker {
			index.MediaType = types.DockerManifestList
		}
		all.merge(im.Build())
		index.Manifests = append(index.Manifests, all.Root)
	}
	if attestations {
		for _, platform := range index.Manifests {
			all.merge(attestation(platform))
			index.Manifests = append(index.Manifests, all.Root)
		}
	}
	all.Root = all.addJSON(index.MediaType, index)
	all.Manifests = append(all.Manifests, all.Root)
	return all
}

// attestation is the manifest that BuildKit's legacy storage makes for a
// platform (BuildKit, docs/attestations/attestation-storage.md).
func attestation(platform v1.Descriptor) *Bundle {
	statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v0.1",`+
		`"predicateType":"https://spdx.dev/Document",`+
		`"subject":[{"name":"test","digest":{"sha256":%q}}],`+
		`"predicate":{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"test"}}`, platform.Digest.Hex)
	b := Image{
		Platform: v1.Platform{OS: "unknown", Architecture: "unknown"},
		Layers: []Layer{{Tar: statement, Annotations: map[string]string{
			"in-toto.io/predicate-type": "https://spdx.dev/Document",
		}}},
	}.build(func(m *v1.Manifest, _ *v1.ConfigFile) {
		m.Layers[0].MediaType = "application/vnd.in-toto+json"
	})
	b.Root.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": platform.Digest.String(),
	}
	return b
}

func (b *Bundle) add(mt types.MediaType, content []byte) v1.Descriptor {
	h := hashOf(content)
	b.Blobs[h] = content
	return v1.Descriptor{MediaType: mt, Size: int64(len(content)), Digest: h}
}

func (b *Bundle) addJSON(mt types.MediaType, v any) v1.Descriptor {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("testimage: " + err.Error())
	}
	return b.add(mt, raw)
}

// merge takes in what o holds; o's root becomes the root.
func (b *Bundle) merge(o *Bundle) {
	for h, content := range o.Blobs {
		b.Blobs[h] = content
	}
	b.Manifests = append(b.Manifests, o.Manifests...)
	b.Root = o.Root
}
