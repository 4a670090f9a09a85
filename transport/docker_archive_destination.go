// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// dockerArchive is an archive as docker save writes it since Docker 25:
// manifest.json for docker load, podman load and skopeo, and an OCI layout with
// the same files, which keeps the manifest.
type dockerArchive struct {
	*staging
}

func createDockerArchive(r reference, o Options) (*dockerArchive, error) {
	s, err := newStaging(r, o)
	if err != nil {
		return nil, err
	}
	return &dockerArchive{s}, nil
}

// ErrNoIndex says that a place takes images, and no index of several.
var ErrNoIndex = fmt.Errorf("docker save has no form for an index: %w", errors.ErrUnsupported)

// PutManifest takes the manifest of one image.
func (a *dockerArchive) PutManifest(_ context.Context, desc v1.Descriptor, raw []byte) error {
	if desc.MediaType.IsIndex() {
		return fmt.Errorf("%s: manifest %s: %w", a.ref, desc.Digest, ErrNoIndex)
	}
	head, err := parseHead(raw, string(desc.MediaType))
	if err == nil && head.Subject != nil {
		err = fmt.Errorf("docker save has no form for manifests about images: %w\nhint: a registry, oci: and oci-archive: have", errors.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("%s: manifest %s: %w", a.ref, desc.Digest, err)
	}
	return a.putManifest(desc, raw)
}

// Commit writes the archive beside its name and renames it. The same image makes
// the same archive.
func (a *dockerArchive) Commit(ctx context.Context, root v1.Descriptor) (string, error) {
	files, err := a.files(root)
	if err == nil {
		err = a.write(ctx, a.ref.path, files)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", a.ref, err)
	}
	return a.ref.String(), nil
}

// files makes what is not content: the two lists of images.
func (a *dockerArchive) files(root v1.Descriptor) ([]tarFile, error) {
	head, err := a.head(root)
	if err != nil {
		return nil, err
	}
	if head.Config == nil || !head.Config.MediaType.IsConfig() {
		return nil, fmt.Errorf("manifest %s: not that of an image", root.Digest)
	}
	image := savedImage{Config: blobPath(head.Config.Digest), Layers: []string{}}
	need := append([]v1.Descriptor{*head.Config}, head.Layers...)
	for i, desc := range need {
		if a.blobs[desc.Digest] == nil {
			return nil, fmt.Errorf("blob %s: was not put: %w", desc.Digest, ErrNotFound)
		}
		if i > 0 {
			image.Layers = append(image.Layers, blobPath(desc.Digest))
		}
	}
	desc := v1.Descriptor{MediaType: head.MediaType, Digest: root.Digest, Size: root.Size}
	if a.ref.name != nil {
		image.RepoTags = []string{familiar(a.ref.name)}
		desc.Annotations = map[string]string{containerName: fullName(a.ref.name), refName: a.ref.name.Identifier()}
	}
	e, err := newEntry(desc)
	if err != nil {
		return nil, err
	}
	x := newIndex()
	x.entries = append(x.entries, e)
	list, err := x.marshal()
	if err != nil {
		return nil, err
	}
	saved, err := json.Marshal([]savedImage{image})
	if err != nil {
		return nil, err
	}
	return []tarFile{{"oci-layout", []byte(layoutFile)}, {"index.json", list}, {"manifest.json", saved}}, nil
}
