// SPDX-License-Identifier: Apache-2.0

package tree

import "time"

// File is one entry of a layer, as the scan of the layer saw it. Field names of
// the JSON form are part of the documented output.
type File struct {
	// Name is the path inside the root filesystem, clean and relative: "usr/bin/env".
	Name string `json:"name"`
	// Type is the tar type flag: '0' regular, '1' hard link, '2' symbolic link, '3' and '4' character
	// and block device, '5' directory, '6' FIFO. Other flags of regular files (NUL, '7', 'S') are '0' here.
	Type byte `json:"type"`
	// Mode holds the permission bits with setuid, setgid and sticky (07777).
	Mode uint32 `json:"mode"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
	// Size is the expanded size in bytes.
	Size    int64     `json:"size,omitempty"`
	ModTime time.Time `json:"mtime"`
	// Link is the target of a link: clean and relative for hard links, as written for symbolic links.
	Link string `json:"link,omitempty"`
	// SHA256 is the digest of a regular file's expanded content; SHA1 is there when
	// an SPDX 2.3 document is to be written, which demands it. Digest is the one that went into security.ima
	// when that is not SHA-256.
	SHA256 []byte `json:"sha256,omitempty"`
	SHA1   []byte `json:"sha1,omitempty"`
	Digest []byte `json:"digest,omitempty"`
	// Code tells that the file counts as code: an x bit, ELF, "#!", or a known suffix.
	Code bool `json:"code,omitempty"`
	// Memory is what an ELF file asks for that nodes allow under rule jit alone: one of the Memory
	// constants of package bless, or empty.
	Memory string `json:"memory,omitempty"`
	// Xattrs are the extended attributes of the blessed entry, by name.
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

// Regular tells whether the entry carries content of its own.
func (f *File) Regular() bool { return f.Type == '0' }
