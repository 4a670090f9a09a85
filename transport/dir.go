// SPDX-License-Identifier: Apache-2.0

package transport

// Layouts that hold attestations about images, and not the images: a directory of attestations,
// and the same in memory.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// shelf is a layout that nobody but sbom-bless writes: a manifest that it lists and that cannot be read is
// an error, where [layout] passes over it.
type shelf struct{ layout }

// listed are the entries of index.json, in their order; none if there is no such file.
func (s *shelf) listed() ([]v1.Descriptor, error) {
	x, err := s.index()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", s.ref, err)
	}
	var all []v1.Descriptor
	for _, e := range x.entries {
		all = append(all, e.desc)
	}
	return all, nil
}

// Referrers lists the manifests with that subject, in the order of index.json.
func (s *shelf) Referrers(_ context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	var out []v1.Descriptor
	err := s.eachReferrer(artifactType, func(desc v1.Descriptor, of v1.Hash) {
		if of == subject {
			out = append(out, desc)
		}
	})
	return out, err
}

// Subjects lists the digests that are the subject of a manifest with that artifactType.
func (s *shelf) Subjects(artifactType string) ([]v1.Hash, error) {
	var out []v1.Hash
	err := s.eachReferrer(artifactType, func(_ v1.Descriptor, of v1.Hash) {
		if !slices.Contains(out, of) {
			out = append(out, of)
		}
	})
	return out, err
}

func (s *shelf) eachReferrer(artifactType string, found func(desc v1.Descriptor, subject v1.Hash)) error {
	all, err := s.listed()
	if err != nil {
		return err
	}
	for _, desc := range all {
		if artifactType != "" && desc.ArtifactType != artifactType {
			continue
		}
		head, err := s.head(desc)
		if err != nil {
			return fmt.Errorf("%s: manifest %s: %w", s.ref, desc.Digest, err)
		}
		if head.Subject != nil {
			found(desc, head.Subject.Digest)
		}
	}
	return nil
}

// Dir is a directory with manifests that have a subject, of any number of images, in the form of an OCI
// image layout. It is what "--attestation-out DIR" writes, for places that cannot hold
// referrers, and what a node reads without a registry. Blobs can also be read from a directory that has no
// index.json: the content store of a runtime.
type Dir struct {
	shelf
	path string
}

// OpenDir makes a Dir of a path. A directory that is not there is empty.
func OpenDir(path string) *Dir {
	return &Dir{shelf{layout{reference{place: Layout, path: path}, pathFiles(path), Options{}.withDefaults()}}, path}
}

// pathFiles opens the directory anew for each file, so that nothing need be closed.
type pathFiles string

func (p pathFiles) open(name string) (Blob, error) {
	root, err := os.OpenRoot(string(p))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return directory{root}.open(name)
}

// Path is the directory.
func (d *Dir) Path() string { return d.path }

// Describe finds the size of what the directory has under a digest.
func (d *Dir) Describe(h v1.Hash) (v1.Descriptor, error) {
	if _, err := parseDigest(h.String()); err != nil {
		return v1.Descriptor{}, err
	}
	b, err := d.files.open(blobPath(h))
	if errors.Is(err, fs.ErrNotExist) {
		return v1.Descriptor{}, fmt.Errorf("%s: %s: %w", d.ref, h, ErrNotFound)
	} else if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{Digest: h, Size: b.Size()}, b.Close()
}

// DirWriter adds manifests with a subject to a directory.
type DirWriter struct{ d *layoutDestination }

// WriteDir prepares a directory to take manifests and blobs. It is made if need be, and may hold other files too.
// Several processes may write to one at the same time.
func WriteDir(path string) (*DirWriter, error) {
	d, err := newLayoutDestination(reference{place: Layout, path: path}, Options{}.withDefaults())
	if err != nil {
		return nil, err
	}
	return &DirWriter{d}, nil
}

// Has is that of Destination.
func (w *DirWriter) Has(ctx context.Context, desc v1.Descriptor) (bool, error) {
	return w.d.Has(ctx, desc)
}

// PutBlob is that of Destination.
func (w *DirWriter) PutBlob(ctx context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error {
	return w.d.PutBlob(ctx, desc, open)
}

// PutManifest is that of Destination. One without a subject is stored and not listed.
func (w *DirWriter) PutManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	return w.d.PutManifest(ctx, desc, raw)
}

// Commit lists the manifests, under a lock and in the order in which they were put.
func (w *DirWriter) Commit(ctx context.Context) error {
	err := w.d.syncs.Wait()
	if err == nil && w.d.began {
		err = w.d.locked(ctx, func() error {
			return w.d.list(func(x *index) error { return addReferrers(x, w.d.referrers, manifestHead{}) })
		})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", w.d.ref, err)
	}
	w.d.committed = true
	return nil
}

// Close drops what was not committed, as far as nobody else relies on it.
func (w *DirWriter) Close() error { return w.d.Close() }

// Memory is an OCI image layout in memory.
type Memory struct {
	shelf
	files memoryFiles
}

type memoryFiles map[string][]byte

func (m memoryFiles) open(name string) (Blob, error) {
	raw, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return memoryBlob{strings.NewReader(string(raw))}, nil
}

type memoryBlob struct{ *strings.Reader }

func (memoryBlob) Close() error { return nil }

// NewMemory makes a layout of its files, by path; none: an empty one.
func NewMemory(files map[string][]byte) *Memory {
	if files == nil {
		files = map[string][]byte{"oci-layout": []byte(layoutFile)}
	}
	return &Memory{shelf{layout{reference{place: Layout, path: "memory"}, memoryFiles(files), Options{}.withDefaults()}}, files}
}

// Files are the files of the layout, by path.
func (m *Memory) Files() map[string][]byte { return m.files }

// Listed are the manifests that index.json lists.
func (m *Memory) Listed() ([]v1.Descriptor, error) { return m.listed() }

// Has is that of Destination.
func (m *Memory) Has(_ context.Context, desc v1.Descriptor) (bool, error) {
	_, ok := m.files[blobPath(desc.Digest)]
	return ok, nil
}

// PutBlob is that of Destination.
func (m *Memory) PutBlob(_ context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, desc.Size+1))
	if err != nil {
		return err
	}
	return m.put(desc, raw)
}

func (m *Memory) put(desc v1.Descriptor, raw []byte) error {
	if err := verify(raw, desc); err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	m.files[blobPath(desc.Digest)] = raw
	return nil
}

// PutManifest stores a manifest and lists it.
func (m *Memory) PutManifest(_ context.Context, desc v1.Descriptor, raw []byte) error {
	if err := m.put(desc, raw); err != nil {
		return err
	}
	listed, err := m.listed()
	if err != nil {
		return err
	}
	m.files["index.json"], err = json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: append(listed, desc)})
	return err
}

var (
	_ ReadStore = (*Dir)(nil)
	_ ReadStore = (*Memory)(nil)
	_ Pusher    = (*Memory)(nil)
	_ Pusher    = (*DirWriter)(nil)
)
