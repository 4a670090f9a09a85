// SPDX-License-Identifier: Apache-2.0

// Package filelist reads and writes the file list of a blessed image: one
// record per regular file of the effective tree, sorted by path, small enough
// to ship to every node and fast enough to load there in milliseconds.
//
// The format is section "File list" of docs/attestation.md. [Encode] writes
// it, [Decode] reads and checks it. The list says nothing of who made it: its
// digest is in the signed blessing statement.
package filelist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// MediaType is the media type of the compressed list, and the artifact type of its referrer.
const MediaType = "application/vnd.sbom-bless.filelist.v1+zstd"

// Flags of a file.
const (
	// Code marks a file that counts as code.
	Code uint16 = 1 << iota
	// HardLink marks a name that is a hard link to another regular file.
	HardLink
)

// File is one record.
type File struct {
	// Path is clean and relative: "usr/bin/env". Any bytes but NUL.
	Path   string
	SHA256 [32]byte
	// Mode holds the permission bits with setuid, setgid and sticky (07777).
	Mode     uint16
	Flags    uint16
	UID, GID uint32
	// Package is the index of the owner in the list of packages, or -1.
	Package int
	// Size is that of the content, or -1 in a list of version 1, which has no sizes.
	Size int64
}

// Package is a package that owns files.
type Package struct {
	// Type is the type of the package's URL (purl): "deb", "rpm", "apk", "pypi", ...
	Type, Name, Version string
}

// String gives the form of messages: "deb openssl 3.0.15-1".
func (p Package) String() string { return p.Type + " " + p.Name + " " + p.Version }

// Sizes and limits. The limits bound what a reader allocates.
const (
	magic       = "sbom-bless files"
	version     = 2
	headerSize  = 32
	fileSize    = 64
	fileSize1   = 56 // in version 1
	packageSize = 24
	maxFiles    = 16 << 20
	maxRaw      = 2 << 30
)

// List is a decoded list. It is safe for concurrent use.
type List struct {
	files    []byte // records
	size     int    // of a record
	packages []Package
	text     string
	count    int
}

// Encode writes a list. Files need not be sorted; files and packages are not changed.
// The same arguments give the same bytes, for one release of this program.
//
// Errors: a path twice or empty, a package index out of range, an unknown size.
func Encode(files []File, packages []Package) ([]byte, error) {
	order := make([]int, len(files))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(a, b int) bool { return files[order[a]].Path < files[order[b]].Path })
	var text []byte
	le := binary.LittleEndian
	raw := make([]byte, headerSize, headerSize+len(files)*(fileSize+40))
	for n, i := range order {
		f := &files[i]
		switch {
		case f.Path == "":
			return nil, errors.New("empty path")
		case n > 0 && files[order[n-1]].Path == f.Path:
			return nil, fmt.Errorf("%s: listed twice", f.Path)
		case f.Package < -1 || f.Package >= len(packages):
			return nil, fmt.Errorf("%s: package %d of %d", f.Path, f.Package, len(packages))
		case len(f.Path) > 1<<16-1:
			return nil, fmt.Errorf("path of %d bytes", len(f.Path))
		case f.Size < 0:
			return nil, fmt.Errorf("%s: size %d", f.Path, f.Size)
		}
		raw = append(raw, f.SHA256[:]...)
		raw = le.AppendUint32(raw, uint32(len(text)))
		raw = le.AppendUint16(raw, uint16(len(f.Path)))
		raw = le.AppendUint16(raw, f.Mode)
		raw = le.AppendUint32(raw, f.UID)
		raw = le.AppendUint32(raw, f.GID)
		raw = le.AppendUint16(raw, f.Flags)
		raw = le.AppendUint16(raw, 0)
		raw = le.AppendUint32(raw, uint32(f.Package+1))
		raw = le.AppendUint64(raw, uint64(f.Size))
		text = append(text, f.Path...)
	}
	for _, p := range packages {
		for _, s := range []string{p.Type, p.Name, p.Version} {
			raw = le.AppendUint32(raw, uint32(len(text)))
			raw = le.AppendUint32(raw, uint32(len(s)))
			text = append(text, s...)
		}
	}
	copy(raw, magic)
	le.PutUint32(raw[16:], version)
	le.PutUint32(raw[20:], uint32(len(files)))
	le.PutUint32(raw[24:], uint32(len(packages)))
	le.PutUint32(raw[28:], uint32(len(text)))
	raw = append(raw, text...)
	if len(files) > maxFiles || len(raw) > maxRaw {
		return nil, fmt.Errorf("%d files are more than the format holds", len(files))
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return w.EncodeAll(raw, nil), nil
}

// Decode reads a list and checks all of it: what it returns has strictly
// ascending paths and references that hold.
func Decode(compressed []byte) (*List, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := r.DecodeAll(compressed, nil)
	if err != nil {
		return nil, fmt.Errorf("file list: %w", err)
	}
	l, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("file list: %w", err)
	}
	return l, nil
}

func parse(raw []byte) (*List, error) {
	le := binary.LittleEndian
	if len(raw) < headerSize || !bytes.HasPrefix(raw, []byte(magic)) {
		return nil, errors.New("not a file list")
	}
	size := uint64(fileSize)
	switch v := le.Uint32(raw[16:]); v {
	case version:
	case 1:
		size = fileSize1
	default:
		return nil, fmt.Errorf("version %d, this program reads versions 1 and %d\nhint: a newer sbom-bless reads it", v, version)
	}
	files, packages, text := uint64(le.Uint32(raw[20:])), uint64(le.Uint32(raw[24:])), uint64(le.Uint32(raw[28:]))
	body := raw[headerSize:]
	if files*size+packages*packageSize+text != uint64(len(body)) {
		return nil, errors.New("size does not match the header")
	}
	l := &List{files: body[:files*size], size: int(size), count: int(files), text: string(body[uint64(len(body))-text:])}
	refs := body[files*size : uint64(len(body))-text]
	l.packages = make([]Package, packages)
	for i := range l.packages {
		p := &l.packages[i]
		for j, s := range []*string{&p.Type, &p.Name, &p.Version} {
			ref := refs[i*packageSize+j*8:]
			off, n := uint64(le.Uint32(ref)), uint64(le.Uint32(ref[4:]))
			if off+n > text {
				return nil, fmt.Errorf("package %d: string out of range", i)
			}
			*s = l.text[off : off+n]
		}
	}
	last := ""
	for i := range l.count {
		rec := l.record(i)
		off, n := uint64(le.Uint32(rec[32:])), uint64(le.Uint16(rec[36:]))
		if off+n > text {
			return nil, fmt.Errorf("file %d: path out of range", i)
		}
		path := l.text[off : off+n]
		if path <= last {
			return nil, fmt.Errorf("file %d: paths are not ascending", i)
		}
		last = path
		if uint64(le.Uint32(rec[52:])) > packages {
			return nil, fmt.Errorf("%s: package out of range", path)
		}
		if size == fileSize && int64(le.Uint64(rec[56:])) < 0 {
			return nil, fmt.Errorf("%s: size out of range", path)
		}
	}
	return l, nil
}

func (l *List) record(i int) []byte { return l.files[i*l.size : (i+1)*l.size] }

// Len is the number of files.
func (l *List) Len() int { return l.count }

// Packages are the packages that File.Package counts in.
func (l *List) Packages() []Package { return l.packages }

// File gives the i-th file, in the order of paths.
func (l *List) File(i int) File {
	le := binary.LittleEndian
	rec := l.record(i)
	f := File{
		Path:    l.path(i),
		Mode:    le.Uint16(rec[38:]),
		UID:     le.Uint32(rec[40:]),
		GID:     le.Uint32(rec[44:]),
		Flags:   le.Uint16(rec[48:]),
		Package: int(le.Uint32(rec[52:])) - 1,
		Size:    -1,
	}
	if l.size == fileSize {
		f.Size = int64(le.Uint64(rec[56:]))
	}
	copy(f.SHA256[:], rec)
	return f
}

func (l *List) path(i int) string {
	rec := l.record(i)
	off := binary.LittleEndian.Uint32(rec[32:])
	return l.text[off : off+uint32(binary.LittleEndian.Uint16(rec[36:]))]
}

// Find gives the file with the path.
func (l *List) Find(path string) (File, bool) {
	i, ok := sort.Find(l.count, func(i int) int { return strings.Compare(path, l.path(i)) })
	if !ok {
		return File{}, false
	}
	return l.File(i), true
}
