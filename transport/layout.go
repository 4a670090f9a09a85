// SPDX-License-Identifier: Apache-2.0

package transport

// Reading OCI image layouts (image specification 1.1, image-layout.md), as a
// directory or inside a tar.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	refName       = "org.opencontainers.image.ref.name"
	containerName = "io.containerd.image.name" // set by containerd and docker save
)

// files are the files of a layout. The error of open wraps fs.ErrNotExist if
// there is none of that name.
type files interface {
	open(name string) (Blob, error)
}

// directory gives the files of a directory. os.Root keeps symbolic links from
// leading out of it.
type directory struct{ root *os.Root }

func (d directory) open(name string) (Blob, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, rootError(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &fileBlob{f, info.Size()}, nil
}

// rootError explains what os.Root refuses.
func rootError(err error) error {
	if err != nil && strings.HasSuffix(err.Error(), "path escapes from parent") {
		return fmt.Errorf("%w: a symbolic link leads out of the layout\nhint: cp -rL makes a layout without links", err)
	}
	return err
}

type fileBlob struct {
	*os.File
	size int64
}

func (b *fileBlob) Size() int64 { return b.size }

// layout reads a layout whose files are somewhere.
type layout struct {
	ref   reference
	files files
	o     Options
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// Blob gives a file of the layout, in place.
func (l *layout) Blob(_ context.Context, desc v1.Descriptor) (Blob, error) {
	b, err := l.blob(desc, l.o.MaxBlob)
	if err != nil {
		return nil, fmt.Errorf("%s: blob %s: %w", l.ref, desc.Digest, err)
	}
	return b, nil
}

func (l *layout) blob(desc v1.Descriptor, max int64) (Blob, error) {
	if err := checkDescriptor(desc, max); err != nil {
		return nil, err
	}
	b, err := l.files.open(blobPath(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	} else if err != nil {
		return nil, err
	}
	if b.Size() != desc.Size {
		defer b.Close()
		return nil, sizeError(b.Size(), desc.Size)
	}
	return b, nil
}

// Manifest reads a manifest or index, verified.
func (l *layout) Manifest(_ context.Context, desc v1.Descriptor) ([]byte, error) {
	raw, err := l.manifest(desc)
	if err != nil {
		return nil, fmt.Errorf("%s: manifest %s: %w", l.ref, desc.Digest, err)
	}
	return raw, nil
}

func (l *layout) manifest(desc v1.Descriptor) ([]byte, error) {
	b, err := l.blob(desc, l.o.MaxManifest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return readBlob(b, desc)
}

// index reads index.json, which has no digest.
func (l *layout) index() (*index, error) {
	b, err := l.files.open("index.json")
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.Size() > l.o.MaxManifest {
		return nil, fmt.Errorf("index.json: %d bytes, more than the limit of %d", b.Size(), l.o.MaxManifest)
	}
	raw := make([]byte, b.Size())
	if _, err := b.ReadAt(raw, 0); err != nil && b.Size() > 0 {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	x, err := parseIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	return x, nil
}

// root finds the manifest or index that the reference names.
func (l *layout) root() (v1.Descriptor, error) {
	x, err := l.index()
	if errors.Is(err, fs.ErrNotExist) {
		return v1.Descriptor{}, fmt.Errorf("no OCI layout: index.json %w", ErrNotFound)
	} else if err != nil {
		return v1.Descriptor{}, err
	}
	if l.ref.digest != (v1.Hash{}) {
		return l.rootByDigest(x)
	}
	var found, all []v1.Descriptor
	for _, e := range x.entries {
		switch {
		case l.names(e.desc):
			found = append(found, e.desc)
		case !l.isReferrer(e.desc):
			all = append(all, e.desc)
		}
	}
	if l.ref.tag == "" && l.ref.name == nil {
		found = all
		if len(x.entries) == 1 {
			found = []v1.Descriptor{x.entries[0].desc}
		}
	}
	switch found = distinct(found); {
	case len(found) == 1:
		return l.checkRoot(found[0])
	case len(found) > 1:
		return v1.Descriptor{}, fmt.Errorf("%d images in it\nhint: choose one of %s", len(found), l.choices(found))
	case len(all) > 0:
		return v1.Descriptor{}, fmt.Errorf("tag %w\nhint: there is %s", ErrNotFound, l.choices(all))
	}
	return v1.Descriptor{}, fmt.Errorf("no image in it: %w", ErrNotFound)
}

// distinct drops what has the digest of an earlier one: an image may have two
// tags.
func distinct(list []v1.Descriptor) []v1.Descriptor {
	var kept []v1.Descriptor
	for _, desc := range list {
		if !slices.ContainsFunc(kept, func(d v1.Descriptor) bool { return d.Digest == desc.Digest }) {
			kept = append(kept, desc)
		}
	}
	return kept
}

// names tells whether the entry bears the tag of the reference.
func (l *layout) names(desc v1.Descriptor) bool {
	if l.ref.name != nil {
		n, err := parseName(desc.Annotations[containerName], false)
		return err == nil && n.Name() == l.ref.name.Name()
	}
	return l.ref.tag != "" && desc.Annotations[refName] == l.ref.tag
}

func (l *layout) rootByDigest(x *index) (v1.Descriptor, error) {
	for _, e := range x.entries {
		if e.desc.Digest == l.ref.digest {
			return l.checkRoot(e.desc)
		}
	}
	// A child of an index is not listed, but can be named all the same.
	b, err := l.files.open(blobPath(l.ref.digest))
	if errors.Is(err, fs.ErrNotExist) {
		return v1.Descriptor{}, ErrNotFound
	} else if err != nil {
		return v1.Descriptor{}, err
	}
	b.Close()
	return l.checkRoot(v1.Descriptor{Digest: l.ref.digest, Size: b.Size()})
}

// checkRoot reads the manifest and gives a descriptor of it that says no more
// than what it is: not its tag, and not the platform someone wrote beside it.
func (l *layout) checkRoot(desc v1.Descriptor) (v1.Descriptor, error) {
	raw, err := l.manifest(desc)
	if err == nil {
		var head manifestHead
		if head, err = parseHead(raw, string(desc.MediaType)); err == nil {
			return v1.Descriptor{MediaType: head.MediaType, Digest: desc.Digest, Size: desc.Size}, nil
		}
	}
	return v1.Descriptor{}, fmt.Errorf("manifest %s: %w", desc.Digest, err)
}

var fallbackPattern = regexp.MustCompile(`^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})$`)

// isReferrer tells entries that are about another one from images: manifests
// with a subject, and lists of such under the fallback tag.
func (l *layout) isReferrer(desc v1.Descriptor) bool {
	if tag := desc.Annotations[refName]; tag != "" {
		return fallbackPattern.MatchString(tag)
	}
	head, err := l.head(desc)
	return err == nil && head.Subject != nil
}

func (l *layout) head(desc v1.Descriptor) (manifestHead, error) {
	raw, err := l.manifest(desc)
	if err != nil {
		return manifestHead{}, err
	}
	return parseHead(raw, string(desc.MediaType))
}

// choices lists how the entries can be named, for hints.
func (l *layout) choices(entries []v1.Descriptor) string {
	const most = 10
	var list []string
	for i, desc := range entries {
		if i == most {
			list = append(list, fmt.Sprintf("%d more", len(entries)-most))
			break
		}
		r := reference{place: l.ref.place, path: l.ref.path, tag: desc.Annotations[refName]}
		if r.place == DockerArchive {
			r.name, _ = parseName(desc.Annotations[containerName], false)
		}
		if r.tag == "" {
			r.digest = desc.Digest
		}
		list = append(list, fmt.Sprintf("%q", r))
	}
	return strings.Join(list, ", ")
}

// Referrers lists the manifests with that subject that index.json lists, as oras
// writes them, and those in the index tagged with the fallback tag of the
// distribution specification, as regclient does.
func (l *layout) Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	x, err := l.index()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list referrerList
	if err == nil {
		err = l.collect(ctx, x.entries, subject, artifactType, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: referrers of %s: %w", l.ref, subject, err)
	}
	return list.sorted(), nil
}

func (l *layout) collect(ctx context.Context, entries []entry, subject v1.Hash, artifactType string, list *referrerList) error {
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		head, err := l.head(e.desc)
		if err != nil {
			continue // not ours to judge: some tools list what is not there
		}
		switch {
		case head.Subject != nil && head.Subject.Digest == subject:
			list.add(head.referrer(e.desc), artifactType)
		case e.desc.Annotations[refName] == fallbackTag(subject):
			for _, d := range head.Manifests {
				list.add(d, artifactType)
			}
		}
	}
	return nil
}

// layoutSource is an image in a layout.
type layoutSource struct {
	layout
	desc  v1.Descriptor
	close func() error
}

func (s *layoutSource) Root() v1.Descriptor { return s.desc }

func (s *layoutSource) Reference() string {
	return reference{place: s.ref.place, path: s.ref.path, digest: s.desc.Digest}.String()
}

func (s *layoutSource) Close() error { return s.close() }

func openLayout(r reference, o Options) (Source, error) {
	root, err := os.OpenRoot(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: directory %w", r, ErrNotFound)
	} else if err != nil {
		if info, serr := os.Stat(r.path); serr == nil && !info.IsDir() {
			err = fmt.Errorf("not a directory\nhint: oci-archive:%s, if it is a tar", r.path)
		}
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	s := &layoutSource{layout: layout{r, directory{root}, o}, close: root.Close}
	if s.desc, err = s.root(); err != nil {
		root.Close()
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	return s, nil
}
