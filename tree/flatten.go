// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	aufs     = ".wh..wh."      // of what aufs kept for itself, at the root
	aufsLink = ".wh..wh.plnk/" // of its files with several names
)

// ofAUFS tells whether the clean path is one that aufs kept for itself.
func ofAUFS(name string) bool { return strings.HasPrefix(name, aufs) && name != opaque }

// Flatten lays the layers over each other, the bottom one first, entries in
// the order of the tar.
//
//   - A whiteout hides what lower layers have under its name, an opaque
//     whiteout all that lower layers have in its directory; neither touches
//     entries of its own layer, wherever in the layer it stands.
//   - An entry replaces what has its name, and all below it; only a directory over
//     a directory keeps what is below.
//   - Of entries with one name in one layer the last counts, with a warning.
//   - A hard link leads to what has the target's name when the link is read, or
//     else at the end of the layer. Owner and mode of the link's entry become the file's, as in
//     containerd, Docker and Podman.
//   - A parent that is a symbolic link of the same layer is followed inside the root; the entry is listed where
//     it ends up. A directory takes the place of one of a lower layer, with a warning: that is what
//     containerd, Docker and Podman do, which unpack each layer into a directory of its own.
//     Both holds for whiteouts too.
//   - A missing parent becomes a directory, mode 0755, owner 0:0.
//   - What aufs kept for itself, ".wh..wh.*" at the root, is no part of the tree; a hard link to a file in
//     ".wh..wh.plnk" is a file with that content.
//
// Errors name layer and path. They are: a name that Clean refuses, a target that
// CheckTarget refuses or an unknown type; a parent that is not a directory, or that
// symbolic links lead to by more than Linux follows or more than 4,095 bytes in all; a
// hard link whose target is missing or a directory; the reserved names ".wh..wh.*" below the root; and
// missing parents, or long paths, beyond what real images have, see baseRoom.
func Flatten(layers [][]File) (*Tree, error) {
	f := &flattener{root: &node{inode: &inode{File: File{Type: '5'}}}, room: baseRoom}
	for i, files := range layers {
		if err := f.layer(i, files); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	names := f.root.list(make([]named, 0, f.root.count()), "")
	slices.SortFunc(names, func(a, b named) int { return strings.Compare(a.path, b.path) })
	if f.unsaid > 0 {
		f.warnings = append(f.warnings, fmt.Sprintf("%d more warnings are left out", f.unsaid))
	}
	t := &Tree{Files: make([]Entry, len(names)), Warnings: f.warnings}
	for i, n := range names {
		t.Files[i] = n.entry()
	}
	return t, nil
}

// inode is what names share by hard links.
type inode struct {
	File
	layer int
}

// node is a name.
type node struct {
	*inode
	layer    int
	length   int    // of its path with a slash in front, bytes
	link     string // target, if the name is a hard link
	children map[string]*node
}

func (n *node) dir() bool { return n.Type == '5' }

// touched tells whether the layer made n or anything below it.
func (n *node) touched(layer int) bool {
	if n.layer == layer {
		return true
	}
	for _, c := range n.children {
		if c.touched(layer) {
			return true
		}
	}
	return false
}

// A few short entries can make a tree of many gigabytes: a path of 4 KB has 2,000
// parents, each with a path of its own. A tree may therefore take baseRoom
// bytes and entryRoom more for each entry, where a name takes its path and
// nameRoom, some of what it needs in memory. That is room for two missing parents of
// every entry, and for 25,000 more.
const (
	baseRoom  = 16 << 20
	entryRoom = 2 << 10
	nameRoom  = 512
)

// maxWarnings is how many warnings are given one by one.
const maxWarnings = 100

type flattener struct {
	root     *node
	current  int              // index of the layer being laid
	shared   map[string]*File // files of the layer in ".wh..wh.plnk", by name
	room     int              // bytes that the tree may still take
	warnings []string
	unsaid   int // warnings beyond maxWarnings
}

func (f *flattener) layer(i int, files []File) error {
	f.current, f.shared = i, map[string]*File{}
	f.room += len(files) * entryRoom
	names := make([]string, len(files))
	for j := range files {
		name, err := Clean(files[j].Name)
		if err != nil {
			return fmt.Errorf("%s: %w", Show(files[j].Name), err)
		}
		names[j] = name
		if err := f.hide(name); err != nil {
			return fmt.Errorf("%s: %w", Show(name), err)
		}
	}
	var later []int // hard links whose target has not come yet
	for j := range files {
		var err error
		switch {
		case ofAUFS(names[j]):
			if files[j].Regular() && strings.HasPrefix(names[j], aufsLink) {
				f.shared[names[j]] = &files[j]
			}
		case strings.HasPrefix(base(names[j]), whiteout):
			err = f.hideBehindLink(names[j])
		default:
			err = f.add(&files[j], names[j])
		}
		if errors.Is(err, errNoTarget) {
			later = append(later, j)
		} else if err != nil {
			return fmt.Errorf("%s: %w", Show(names[j]), err)
		}
	}
	return f.laterLinks(files, names, later)
}

// laterLinks adds the hard links of a layer whose target was not there when
// they were read. A link may wait for another one.
func (f *flattener) laterLinks(files []File, names []string, queue []int) error {
	if len(queue) == 0 {
		return nil
	}
	last := map[string]int{} // the entry of each name that counts
	for j, name := range names {
		last[name] = j
	}
	waiting := map[string][]int{} // by target
	for len(queue) > 0 {
		j := queue[0]
		queue = queue[1:]
		if last[names[j]] == j {
			err := f.add(&files[j], names[j])
			if errors.Is(err, errNoTarget) {
				target, _ := Clean(files[j].Link)
				waiting[target] = append(waiting[target], j)
				continue
			} else if err != nil {
				return fmt.Errorf("%s: %w", Show(names[j]), err)
			}
		}
		f.warn(names[j], "hard link before its target, many unpackers refuse it")
		queue = append(queue, waiting[names[j]]...)
		delete(waiting, names[j])
	}
	first := len(files)
	for _, links := range waiting {
		first = min(first, slices.Min(links))
	}
	if first < len(files) {
		return fmt.Errorf("%s: hard link to %s: %w", Show(names[first]), Show(files[first].Link), errNoTarget)
	}
	return nil
}

// hide takes away what a whiteout hides. It runs for all entries of a layer
// before the first one is added, so that it sees lower layers alone.
func (f *flattener) hide(name string) error {
	if ofAUFS(name) {
		return nil
	}
	b := base(name)
	if strings.Contains("/"+dirname(name), "/"+whiteout) {
		return errors.New("entry below a whiteout")
	}
	target, ok := strings.CutPrefix(b, whiteout)
	if !ok {
		return nil
	}
	if b != opaque && (target == "" || target == "." || target == ".." || strings.HasPrefix(target, whiteout)) {
		return errors.New("reserved whiteout name")
	}
	p, err := f.parent(name, makeNone)
	if err != nil || p == nil {
		return nil // an entry of this layer may yet replace the parent: add tells
	}
	if b == opaque {
		p.children = nil
	} else {
		delete(p.children, target)
	}
	return nil
}

// hideBehindLink takes away what a whiteout hides whose parent is a symbolic link of the layer. It
// runs in the order of the tar.
func (f *flattener) hideBehindLink(name string) error {
	p, err := f.parent(name, makeLinks)
	if err != nil || p == nil {
		return err
	}
	target := strings.TrimPrefix(base(name), whiteout)
	for child, n := range p.children {
		if (child == target || base(name) == opaque) && !n.touched(f.current) {
			delete(p.children, child)
		}
	}
	return nil
}

var errNoTarget = errors.New("no such file in this layer or below")

// warn says what is odd about a name, once.
func (f *flattener) warn(name, what string) {
	w := fmt.Sprintf("layer %d: %s: %s", f.current+1, Show(name), what)
	switch {
	case slices.Contains(f.warnings, w):
	case len(f.warnings) < maxWarnings:
		f.warnings = append(f.warnings, w)
	default:
		f.unsaid++
	}
}

// put gives the directory p a child, in place of the one that has its name.
func (f *flattener) put(p *node, name string, child *node) error {
	child.length = p.length + 1 + len(name)
	if f.room -= child.length + nameRoom; f.room < 0 {
		return fmt.Errorf("too many parent directories without an entry, or too long paths: more than %d MiB and %d KiB for each entry\nhint: give every directory of the layer an entry", baseRoom>>20, entryRoom>>10)
	}
	if p.children == nil {
		p.children = map[string]*node{}
	}
	p.children[name] = child
	return nil
}

// add makes one entry part of the tree.
func (f *flattener) add(e *File, name string) error {
	switch e.Type {
	case '0', '1', '2', '3', '4', '5', '6':
	default:
		return fmt.Errorf("type %q of the entry is unknown", e.Type)
	}
	if name == "." {
		if e.Type != '5' {
			return errors.New("the root is not a directory")
		}
		return nil
	}
	if e.Type == '2' {
		if err := CheckTarget(e.Link); err != nil {
			return err
		}
	}
	p, err := f.parent(name, makeAll)
	if err != nil {
		return err
	}
	n := &node{layer: f.current, inode: &inode{File: *e, layer: f.current}}
	old := p.children[base(name)]
	if e.Type == '1' {
		n.link, err = Clean(e.Link)
		if err != nil {
			return fmt.Errorf("hard link to %s: %w", Show(e.Link), err)
		}
		if strings.HasPrefix(n.link, aufsLink) {
			file := f.shared[n.link]
			if file == nil {
				return fmt.Errorf("hard link to %s: %w", Show(n.link), errNoTarget)
			}
			n.link, n.File = "", *file
			return f.replace(p, name, old, n)
		}
		// The link replaces what has its name before it looks for its target.
		delete(p.children, base(name))
		target, err := f.lookup(n.link)
		if err != nil {
			if old != nil {
				p.children[base(name)] = old
			}
			return fmt.Errorf("hard link to %s: %w", Show(n.link), err)
		}
		if target.dir() {
			return fmt.Errorf("hard link to %s: is a directory", Show(n.link))
		}
		n.inode = target.inode
		if n.Mode != e.Mode || n.UID != e.UID || n.GID != e.GID {
			f.warn(name, "owner or mode of the hard link is not that of its target, unpackers disagree which counts")
		}
		n.Mode, n.UID, n.GID = e.Mode, e.UID, e.GID
	}
	return f.replace(p, name, old, n)
}

// replace puts n in the place of old, which may be nil.
func (f *flattener) replace(p *node, name string, old, n *node) error {
	if old != nil {
		if old.dir() && n.dir() {
			n.children = old.children
		} else if old.touched(f.current) {
			f.warn(name, "entry repeated, the last one counts")
		}
	}
	return f.put(p, base(name), n)
}

// maxLinks is how many symbolic links a path may lead through (Linux
// include/linux/namei.h, MAXSYMLINKS).
const maxLinks = 40

// making is which parents parent makes.
type making int

const (
	makeNone  making = iota
	makeLinks        // in place of symbolic links of lower layers
	makeAll
)

// parent finds the directory that holds name, through symbolic links of the layer as
// unpackers do, never out of the root. One that is not there, or where a lower layer has a
// symbolic link, is made as missing says; if not, the answer is nil. The links may add up to a path of maxPath bytes, so
// that each entry takes a time that is bounded.
func (f *flattener) parent(name string, missing making) (*node, error) {
	dir := dirname(name)
	path := []*node{f.root}
	links, length := 0, len(name)
	for rest := dir; rest != ""; {
		var c string
		c, rest, _ = strings.Cut(rest, "/")
		switch c {
		case "", ".":
			continue
		case "..":
			path = path[:max(len(path)-1, 1)]
			continue
		}
		n := path[len(path)-1]
		child := n.children[c]
		makes := missing == makeAll
		if child != nil && child.Type == '2' && child.layer < f.current {
			if makes = missing != makeNone; makes {
				f.warn(name, "parent is a symbolic link of a lower layer: containerd, Docker and Podman put a directory in its place, umoci and others follow it")
			}
			child = nil
		}
		if child == nil {
			if !makes {
				return nil, nil
			}
			child = &node{layer: f.current, inode: &inode{File: File{Type: '5', Mode: 0o755}, layer: f.current}}
			if err := f.put(n, c, child); err != nil {
				return nil, err
			}
		}
		switch {
		case child.dir():
			path = append(path, child)
		case child.Type == '2':
			if links++; links > maxLinks {
				return nil, fmt.Errorf("parent %s leads through more than %d symbolic links", Show(dir), maxLinks)
			}
			if length += len(child.Link); length > maxPath {
				return nil, fmt.Errorf("parent %s leads through symbolic links of more than %d bytes in all", Show(dir), maxPath)
			}
			if strings.HasPrefix(child.Link, "/") {
				path = path[:1]
			}
			rest = child.Link + "/" + rest
		default:
			return nil, fmt.Errorf("parent %s: %s is %s of layer %d, not a directory", Show(dir), Show(c), kind(child.Type), child.layer+1)
		}
	}
	return path[len(path)-1], nil
}

// lookup finds a clean path; errNoTarget if there is none.
func (f *flattener) lookup(name string) (*node, error) {
	if name == "." {
		return f.root, nil
	}
	p, err := f.parent(name, makeNone)
	if err != nil {
		return nil, err
	}
	if p != nil {
		if n := p.children[base(name)]; n != nil {
			return n, nil
		}
	}
	return nil, errNoTarget
}

// count counts the names below n.
func (n *node) count() int {
	sum := len(n.children)
	for _, c := range n.children {
		sum += c.count()
	}
	return sum
}

// named is a node with its path in the tree.
type named struct {
	path string
	*node
}

// list appends what is below n to names.
func (n *node) list(names []named, prefix string) []named {
	for name, c := range n.children {
		path := prefix + name
		names = append(names, named{path, c})
		if len(c.children) > 0 {
			names = c.list(names, path+"/")
		}
	}
	return names
}

func (n *named) entry() Entry {
	e := Entry{File: n.File, Layer: n.layer, Content: n.inode.layer}
	e.Name = n.path
	if n.link != "" && e.Type == '0' {
		e.Type, e.Link = '1', n.link
	}
	return e
}

func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

func dirname(name string) string { return name[:max(strings.LastIndexByte(name, '/'), 0)] }

func kind(t byte) string {
	switch t {
	case '3', '4':
		return "a device"
	case '6':
		return "a FIFO"
	default:
		return "a file"
	}
}
