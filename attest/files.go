// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"fmt"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/tree"
)

// FileList writes the file list of a tree: all regular files, with the owners
// that the SBOM found. Owner has indexes in packages.
func FileList(t *tree.Tree, owner map[string]int, packages []filelist.Package) ([]byte, error) {
	var files []filelist.File
	for i := range t.Files {
		e := &t.Files[i]
		if !e.Regular() {
			continue
		}
		f := filelist.File{Path: e.Name, Mode: uint16(e.Mode), UID: uint32(e.UID), GID: uint32(e.GID), Size: e.Size, Package: -1}
		if copy(f.SHA256[:], e.SHA256) != len(f.SHA256) {
			return nil, fmt.Errorf("%s: no SHA-256", e.Name)
		}
		if p, ok := owner[e.Name]; ok {
			f.Package = p
		}
		if e.Code {
			f.Flags |= filelist.Code
		}
		if e.Type == '1' {
			f.Flags |= filelist.HardLink
		}
		files = append(files, f)
	}
	return filelist.Encode(files, packages)
}

// CheckFiles compares a file list with a tree: paths, digests, sizes, owners and modes
// of the regular files must be the same. The error names the first file that differs.
func CheckFiles(l *filelist.List, t *tree.Tree) error {
	n := 0
	for i := range t.Files {
		e := &t.Files[i]
		if !e.Regular() {
			continue
		}
		if n == l.Len() {
			return fmt.Errorf("%q: not in the file list", e.Name)
		}
		f := l.File(n)
		n++
		switch {
		case f.Path > e.Name:
			return fmt.Errorf("%q: not in the file list", e.Name)
		case f.Path < e.Name:
			return fmt.Errorf("%q: in the file list, not in the image", f.Path)
		case !bytes.Equal(f.SHA256[:], e.SHA256):
			return fmt.Errorf("%q: SHA-256 %x in the file list, the file has %x", e.Name, f.SHA256, e.SHA256)
		case f.Size >= 0 && f.Size != e.Size:
			return fmt.Errorf("%q: %d bytes in the file list, the file has %d", e.Name, f.Size, e.Size)
		case uint32(f.Mode) != e.Mode || f.UID != uint32(e.UID) || f.GID != uint32(e.GID):
			return fmt.Errorf("%q: mode %o, owner %d:%d in the file list, the file has %o, %d:%d", e.Name, f.Mode, f.UID, f.GID, e.Mode, e.UID, e.GID)
		}
	}
	if n < l.Len() {
		return fmt.Errorf("%q: in the file list, not in the image", l.File(n).Path)
	}
	return nil
}
