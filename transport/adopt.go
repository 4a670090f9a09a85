// SPDX-License-Identifier: Apache-2.0

package transport

// Blobs that are written in the place where they stay.

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Adopter is a destination in the file system: what is made for it can be made
// in its place, and need not be copied.
type Adopter interface {
	// NewFile makes a file for a blob that is yet to be written. It is the caller's
	// to close and to remove, unless Adopt took it.
	NewFile() (*File, error)
	// Adopt makes f the blob of desc, whose digest and size the caller has computed
	// from what it wrote.
	Adopt(desc v1.Descriptor, f *File) error
}

// File is a file of an Adopter. What is written to it goes to the disk soon, so
// that Commit does not wait long.
type File struct {
	*os.File
	written, begun int64 // bytes, and how many of them are on their way to the disk
	adopted        bool
}

// Close closes the file unless Adopt took it.
func (f *File) Close() error {
	if f.adopted {
		return nil
	}
	return f.File.Close()
}

const tempPrefix = ".sbom-bless-"

// tempName is the name of a file that is yet to get its own.
func tempName() string { return fmt.Sprintf("%s%016x", tempPrefix, rand.Uint64()) }

// writeback is how many bytes are sent to the disk at once.
const writeback = 8 << 20

// Write writes at the end.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.written += int64(n)
	if f.written-f.begun >= writeback {
		beginWriteback(f.File, f.begun, f.written-f.begun)
		f.begun = f.written
	}
	return n, err
}

// NewFile makes a file beside those that put makes.
func (d *layoutDestination) NewFile() (*File, error) {
	err := d.begin(blobPath(v1.Hash{Algorithm: "sha256"}))
	var f *os.File
	if err == nil {
		f, err = d.root.OpenFile(tempName(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.ref, err)
	}
	return &File{File: f}, nil
}

// sweep takes away the files of runs that were killed.
func (d *layoutDestination) sweep() {
	left, _ := fs.Glob(d.root.FS(), tempPrefix+"*") // the pattern is right
	for _, name := range left {
		if st, err := d.root.Lstat(name); err == nil && time.Since(st.ModTime()) > 24*time.Hour {
			_ = d.root.Remove(name) // next time
		}
	}
}

// Adopt renames the file.
func (d *layoutDestination) Adopt(desc v1.Descriptor, f *File) error {
	err := checkDescriptor(desc, d.o.MaxBlob)
	if err == nil && f.written != desc.Size {
		err = sizeError(f.written, desc.Size)
	}
	name := blobPath(desc.Digest)
	if err == nil {
		err = d.begin(name)
	}
	if err == nil {
		err = d.root.Rename(filepath.Base(f.Name()), name)
	}
	if err != nil {
		return fmt.Errorf("%s: blob %s: %w", d.ref, desc.Digest, err)
	}
	f.adopted = true
	d.sync(desc, f.File)
	d.count(desc)
	return nil
}

var _ Adopter = (*layoutDestination)(nil)
