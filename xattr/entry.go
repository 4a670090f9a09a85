// SPDX-License-Identifier: Apache-2.0

package xattr

import "time"

// Entry is one member of a tar archive, PAX records and GNU long names applied.
// It holds nothing of the scanner's and may be kept.
type Entry struct {
	// Name and Linkname are as written in the archive, not normalised.
	Name, Linkname string
	// Type is the type flag: '0' regular, '1' hard link, '2' symbolic link, '3' and '4' character and
	// block device, '5' directory, '6' FIFO. The other flags of regular files (NUL, '7', 'S') are '0' here.
	Type               byte
	Mode               int64
	UID, GID           int64
	Uname, Gname       string
	Size               int64 // expanded, in bytes
	ModTime            time.Time
	Devmajor, Devminor int64
	// Xattrs holds the SCHILY.xattr.* and LIBARCHIVE.xattr.* records, by attribute.
	Xattrs map[string][]byte
	// Sparse: the archive stores less than Size bytes, holes are left out.
	Sparse bool
	// Off is where the entry's first header block begins.
	Off int64

	content int64  // where what is stored of it begins, sparse map included
	stored  int64  // bytes stored there
	head    []byte // from Off to the end of its extended header, nil without one
	before  int    // bytes of head that precede the extended header
}

// Stored is how many bytes of content the archive holds for the entry, padding
// left out.
func (e *Entry) Stored() int64 { return e.stored }

// Next is where the next entry begins at the earliest.
func (e *Entry) Next() int64 { return e.content + padded(e.stored) }
