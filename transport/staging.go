// SPDX-License-Identifier: Apache-2.0

package transport

// What an archive is made of, until it is written in order.

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/internal/atomicfile"
)

// staging holds blobs in temporary files and manifests in memory.
type staging struct {
	ref reference
	o   Options

	mu        sync.Mutex
	blobs     map[v1.Hash]*spool
	manifests map[v1.Hash]stagedManifest
}

type stagedManifest struct {
	desc v1.Descriptor
	raw  []byte
	head manifestHead
}

func newStaging(r reference, o Options) (*staging, error) {
	if r.path != "" {
		if info, err := os.Stat(filepath.Dir(r.path)); err != nil {
			return nil, fmt.Errorf("%s: %w", r, err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("%s: %s is not a directory", r, filepath.Dir(r.path))
		}
		if info, err := os.Stat(r.path); err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: %s is there, and not a regular file", r, r.path)
		}
	}
	return &staging{ref: r, o: o, blobs: map[v1.Hash]*spool{}, manifests: map[v1.Hash]stagedManifest{}}, nil
}

// Has tells what was put before.
func (s *staging) Has(_ context.Context, desc v1.Descriptor) (bool, error) {
	if err := checkDescriptor(desc, s.o.MaxBlob); err != nil {
		return false, fmt.Errorf("%s: blob %s: %w", s.ref, desc.Digest, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.manifests[desc.Digest]; ok {
		return true, nil
	}
	return s.blobs[desc.Digest] != nil, nil
}

// PutBlob spools a blob.
func (s *staging) PutBlob(ctx context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error {
	if there, err := s.Has(ctx, desc); there || err != nil {
		return err
	}
	r, err := open()
	if err != nil {
		return fmt.Errorf("%s: blob %s: %w", s.ref, desc.Digest, err)
	}
	defer r.Close()
	b, err := spoolBlob(ctx, s.o.TempDir, desc, r)
	if err != nil {
		return fmt.Errorf("%s: blob %s: %w", s.ref, desc.Digest, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.blobs[desc.Digest]; old != nil {
		return b.Close()
	}
	s.blobs[desc.Digest] = b
	return nil
}

func (s *staging) putManifest(desc v1.Descriptor, raw []byte) error {
	err := checkDescriptor(desc, s.o.MaxManifest)
	if err == nil {
		err = verify(raw, desc)
	}
	m := stagedManifest{desc: desc, raw: slices.Clone(raw)}
	if err == nil {
		m.head, err = parseHead(raw, string(desc.MediaType))
	}
	if err != nil {
		return fmt.Errorf("%s: manifest %s: %w", s.ref, desc.Digest, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.manifests[desc.Digest] = m
	return nil
}

func (s *staging) head(desc v1.Descriptor) (manifestHead, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.manifests[desc.Digest]
	if !ok {
		return manifestHead{}, fmt.Errorf("manifest %s: was not put: %w", desc.Digest, ErrNotFound)
	}
	return m.head, nil
}

// referrers gives the manifests with a subject, ordered by digest.
func (s *staging) referrers() []v1.Descriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list referrerList
	for _, m := range s.manifests {
		if m.head.Subject != nil {
			list.add(m.head.referrer(m.desc), "")
		}
	}
	return list.sorted()
}

// Close removes the temporary files.
func (s *staging) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, b := range s.blobs {
		errs = append(errs, b.Close())
	}
	clear(s.blobs)
	return errors.Join(errs...)
}

// tarFile is a small file of an archive.
type tarFile struct {
	name string
	raw  []byte
}

// write makes the file name, whole or not at all.
func (s *staging) write(ctx context.Context, name string, files []tarFile) error {
	return atomicfile.Write(name, 0o644, func(w io.Writer) error { return s.writeTar(ctx, w, files) })
}

// writeTar writes the small files, and blobs and manifests in the order of their
// digests. Times, owners and modes are always the same.
func (s *staging) writeTar(ctx context.Context, w io.Writer, files []tarFile) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := tar.NewWriter(w)
	put := func(name string, r io.Reader, size int64) error {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}); err != nil {
			return err
		}
		n, err := io.Copy(t, contextReader{ctx, r})
		if err == nil && n != size {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	for _, h := range s.digests() {
		var err error
		if m, ok := s.manifests[h]; ok {
			err = put(blobPath(h), bytes.NewReader(m.raw), int64(len(m.raw)))
		} else {
			b := s.blobs[h]
			err = put(blobPath(h), io.NewSectionReader(b, 0, b.size), b.size)
		}
		if err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := put(f.name, bytes.NewReader(f.raw), int64(len(f.raw))); err != nil {
			return err
		}
	}
	return t.Close()
}

func (s *staging) digests() []v1.Hash {
	var list []v1.Hash
	for h := range s.blobs {
		list = append(list, h)
	}
	for h := range s.manifests {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b v1.Hash) int { return cmp.Compare(a.String(), b.String()) })
	return slices.Compact(list)
}
