// SPDX-License-Identifier: Apache-2.0

// Package tree computes the file tree that a container sees: layers laid over
// each other as the OCI image specification 1.1, layer.md ("Applying
// Changesets") says.
//
// [Clean] turns a name of a tar entry into a path, [Flatten] turns the entries
// of all layers into a [Tree]. Where unpackers in use give different trees for
// the same layers, Flatten refuses instead of choosing one of them.
package tree

import (
	"sort"
)

// Tree is the effective tree of an image.
type Tree struct {
	// Files are all entries sorted by path, bytewise; the root directory is not among them.
	Files []Entry
	// Warnings are findings that do not make the tree ambiguous: "layer 2: etc/motd: entry repeated, the last one counts".
	Warnings []string
}

// Entry is one name of the effective tree.
//
// A hard link to a regular file has Type '1', the path of the file in Link,
// and size, digests, owner, mode and attributes of that file; the path in Link
// may itself be gone from the tree when an upper layer removed it. A hard link to anything else
// has the type of what it links to.
type Entry struct {
	File
	// Layer is the index of the layer, from the bottom, whose entry made the name.
	Layer int
	// Content is the index of the layer that holds the content. It differs from Layer
	// for a hard link to a file of a lower layer.
	Content int
}

// Regular tells whether the name leads to a regular file: by an entry with
// content of its own, or by a hard link to one.
func (e *Entry) Regular() bool { return e.Type == '0' || e.Type == '1' }

// Lookup finds the entry of a clean path, or nil.
func (t *Tree) Lookup(path string) *Entry {
	i := sort.Search(len(t.Files), func(i int) bool { return t.Files[i].Name >= path })
	if i < len(t.Files) && t.Files[i].Name == path {
		return &t.Files[i]
	}
	return nil
}
