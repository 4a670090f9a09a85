// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Dir is a directory with attestations of any number of images, in the form of
// an OCI image layout 1.0 that holds referrers alone. It is what "--attestation-out DIR" writes, for
// places that cannot hold referrers, and what a node reads without a registry.
type Dir string

// WriteDir adds the artifacts to a directory, which is made if need be.
func WriteDir(ctx context.Context, dir string, artifacts []Artifact) error {
	return Push(ctx, Dir(dir), artifacts)
}

func (d Dir) blob(h v1.Hash) (string, error) {
	if _, err := v1.NewHash(h.String()); err != nil {
		return "", err
	}
	return filepath.Join(string(d), "blobs", h.Algorithm, h.Hex), nil
}

// Has tells whether the directory has the content.
func (d Dir) Has(_ context.Context, desc v1.Descriptor) (bool, error) {
	path, err := d.blob(desc.Digest)
	if err != nil {
		return false, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() == desc.Size, err
}

// Describe tells the size of what the directory has under a digest.
func (d Dir) Describe(h v1.Hash) (v1.Descriptor, error) {
	path, err := d.blob(h)
	if err != nil {
		return v1.Descriptor{}, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v1.Descriptor{}, fmt.Errorf("%s: %w", h, transport.ErrNotFound)
	} else if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{Digest: h, Size: info.Size()}, nil
}

// PutBlob stores a blob. Its digest is verified.
func (d Dir) PutBlob(_ context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, desc.Size+1))
	if err != nil {
		return err
	}
	if err := check(desc, raw); err != nil {
		return err
	}
	path, err := d.blob(desc.Digest)
	if err != nil {
		return err
	}
	return writeFile(path, raw)
}

// PutManifest stores a manifest and lists it in index.json.
func (d Dir) PutManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	if err := d.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(string(d), "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	index, err := d.index()
	if err != nil {
		return err
	}
	for _, m := range index.Manifests {
		if m.Digest == desc.Digest {
			return nil
		}
	}
	index.Manifests = append(index.Manifests, desc)
	out, err := encode(index)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(string(d), "index.json"), out)
}

func (d Dir) index() (*v1.IndexManifest, error) {
	raw, err := os.ReadFile(filepath.Join(string(d), "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}, nil
	} else if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%s: index.json: %w", d, err)
	}
	return &index, nil
}

// Referrers lists the manifests whose subject is the digest. An empty artifactType stands for all.
func (d Dir) Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	var out []v1.Descriptor
	err := d.eachSubject(ctx, artifactType, func(desc v1.Descriptor, of v1.Hash) {
		if of == subject {
			out = append(out, desc)
		}
	})
	return out, err
}

// Subjects lists the manifests that the directory has file lists of: those of images, not their
// indexes. Nothing is verified.
func (d Dir) Subjects(ctx context.Context) ([]v1.Hash, error) {
	var out []v1.Hash
	err := d.eachSubject(ctx, filelist.MediaType, func(_ v1.Descriptor, of v1.Hash) {
		if !slices.Contains(out, of) {
			out = append(out, of)
		}
	})
	return out, err
}

// eachSubject gives the manifests of a type that have a subject, and that. An empty
// artifactType stands for all.
func (d Dir) eachSubject(ctx context.Context, artifactType string, found func(desc v1.Descriptor, subject v1.Hash)) error {
	index, err := d.index()
	if err != nil {
		return err
	}
	for _, desc := range index.Manifests {
		if artifactType != "" && desc.ArtifactType != artifactType {
			continue
		}
		raw, err := d.Manifest(ctx, desc)
		if err != nil {
			return err
		}
		var m v1.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("%s: %w", desc.Digest, err)
		}
		if m.Subject != nil {
			found(desc, m.Subject.Digest)
		}
	}
	return nil
}

// Manifest reads a manifest. Size and digest are verified.
func (d Dir) Manifest(_ context.Context, desc v1.Descriptor) ([]byte, error) {
	path, err := d.blob(desc.Digest)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return raw, check(desc, raw)
}

// Blob opens a blob.
func (d Dir) Blob(_ context.Context, desc v1.Descriptor) (transport.Blob, error) {
	path, err := d.blob(desc.Digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return file{f, info.Size()}, nil
}

type file struct {
	*os.File
	size int64
}

func (f file) Size() int64 { return f.size }

// writeFile writes a file at once: a reader sees the old content or the new.
func writeFile(path string, raw []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Chmod(0o644)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// check verifies content against its descriptor.
func check(desc v1.Descriptor, raw []byte) error {
	if int64(len(raw)) != desc.Size {
		return fmt.Errorf("%s: %d bytes, want %d", desc.Digest, len(raw), desc.Size)
	}
	if got := digest(raw); got != desc.Digest {
		return fmt.Errorf("%s: content has digest %s", desc.Digest, got)
	}
	return nil
}
