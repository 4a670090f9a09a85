// SPDX-License-Identifier: Apache-2.0

package transport

// The members of a tar, read in place.

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/sbom-bless/sbom-bless/internal/magic"
)

// maxMembers bounds what an archive of an image may hold: an image has at most
// a few hundred layers, and legacy archives three files for each.
const maxMembers = 1 << 16

// tarFiles are the regular files of a tar, by cleaned name.
type tarFiles struct {
	tar     Blob
	members map[string]member
}

type member struct {
	off, size int64
	link      string // another member instead
}

// openTar opens a tar file; a gzip-compressed one is uncompressed to a
// temporary file first.
func openTar(ctx context.Context, path string, o Options) (*tarFiles, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("file %w", ErrNotFound)
	} else if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
		if info.IsDir() {
			err = fmt.Errorf("is a directory\nhint: oci:%s", path)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return indexTar(ctx, &fileBlob{f, info.Size()}, o)
}

// indexTar finds the members of b, which it closes if that fails.
func indexTar(ctx context.Context, b Blob, o Options) (*tarFiles, error) {
	t, err := plainTar(ctx, b, o)
	if err != nil {
		b.Close()
		return nil, err
	}
	f := &tarFiles{tar: t, members: map[string]member{}}
	if err := f.scan(ctx); err != nil {
		t.Close()
		return nil, fmt.Errorf("tar: %w", err)
	}
	return f, nil
}

func plainTar(ctx context.Context, b Blob, o Options) (Blob, error) {
	var head [6]byte
	if n, err := b.ReadAt(head[:], 0); n < len(head) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("tar: %w", err)
	}
	switch {
	case magic.Gzip(head[:]):
		z, err := gzip.NewReader(io.NewSectionReader(b, 0, b.Size()))
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		s, err := spoolAll(ctx, o.TempDir, z, o.MaxBlob)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		b.Close()
		return s, nil
	case magic.Zstd(head[:]):
		return nil, errors.New("compressed with zstd\nhint: unzstd it first")
	case string(head[:3]) == "BZh", string(head[:6]) == "\xfd7zXZ\x00":
		return nil, errors.New("compressed with bzip2 or xz\nhint: uncompress it first")
	}
	return b, nil
}

// scan notes where the content of each member is. archive/tar reads whole
// headers and nothing beyond, so the reader stands at the content after each.
func (t *tarFiles) scan(ctx context.Context) error {
	r := io.NewSectionReader(t.tar, 0, t.tar.Size())
	tr := tar.NewReader(r)
	for range maxMembers {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		off, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if err := t.add(h, off); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	return fmt.Errorf("more than %d members", maxMembers)
}

func (t *tarFiles) add(h *tar.Header, off int64) error {
	name := memberName(h.Name)
	m := member{off: off, size: h.Size}
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return errors.New("sparse files are not read in place\nhint: tar -xf and tar -cf without --sparse")
			}
		}
		if off+h.Size > t.tar.Size() {
			return io.ErrUnexpectedEOF
		}
	case tar.TypeSymlink:
		m = member{link: memberName(path.Join(path.Dir(name), h.Linkname))}
	case tar.TypeLink:
		m = member{link: memberName(h.Linkname)}
	default:
		return fmt.Errorf("member of type %q in an image archive", h.Typeflag)
	}
	if old, ok := t.members[name]; ok {
		same, err := t.same(old, m)
		if err != nil || same {
			return err
		}
		// Which of the two is meant, readers do not agree on.
		return errors.New("is there twice, and not the same")
	}
	t.members[name] = m
	return nil
}

// same compares two members byte for byte: some writers repeat a layer that an image has twice.
func (t *tarFiles) same(a, b member) (bool, error) {
	if a.link != b.link || a.size != b.size {
		return false, nil
	}
	var x, y [32 << 10]byte
	for off := int64(0); off < a.size; off += int64(len(x)) {
		n := min(int64(len(x)), a.size-off)
		if _, err := t.tar.ReadAt(x[:n], a.off+off); err != nil && err != io.EOF {
			return false, err
		}
		if _, err := t.tar.ReadAt(y[:n], b.off+off); err != nil && err != io.EOF {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}

func memberName(s string) string { return strings.TrimPrefix(path.Clean("/"+s), "/") }

// open gives a member. Links lead to other members, never out of the tar.
func (t *tarFiles) open(name string) (Blob, error) {
	m, ok := t.members[memberName(name)]
	for range 8 {
		if ok && m.link != "" {
			m, ok = t.members[m.link]
		}
	}
	if !ok || m.link != "" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return section{io.NewSectionReader(t.tar, m.off, m.size)}, nil
}

func (t *tarFiles) has(name string) bool {
	_, ok := t.members[name]
	return ok
}

// read gives a small member whole.
func (t *tarFiles) read(name string, max int64) ([]byte, error) {
	b, err := t.open(name)
	if err != nil {
		return nil, err
	}
	if b.Size() > max {
		return nil, fmt.Errorf("%s: %d bytes, more than the limit of %d", name, b.Size(), max)
	}
	raw, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err == nil && int64(len(raw)) != b.Size() {
		err = io.ErrUnexpectedEOF
	}
	return raw, err
}
