// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
)

// Bounds of the tally: the image that was seen longest ago goes first, and an
// image's files are counted by package, never one by one.
const (
	maxImages   = 256
	maxPackages = 20_000
)

// Tally counts which packages of which images ever ran. It is kept in a file.
type Tally struct {
	file string

	mu     sync.Mutex
	dirty  bool
	images map[string]*ImageTally
}

// ImageTally is the tally of one image.
type ImageTally struct {
	Image string    `json:"image"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Packages are all that the image's list names; files of none count under "".
	Packages map[string]*PackageTally `json:"packages"`
}

// Named are the packages by name, without the files of none.
func (i *ImageTally) Named() []string {
	var list []string
	for name := range i.Packages {
		if name != "" {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// Used are those of Named that ran.
func (i *ImageTally) Used() []string {
	return slices.DeleteFunc(i.Named(), func(name string) bool { return len(i.Packages[name].Ran) == 0 })
}

// PackageTally is that of one package in one image.
type PackageTally struct {
	// Files of it that the image has.
	Files int `json:"files"`
	// Ran holds the files of it that were executed or mapped, each by its
	// SHA-256's first eight digits.
	Ran   []string  `json:"ran,omitempty"`
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// OpenTally reads the tally in the directory; without one, or with an error, it is empty.
func OpenTally(dir string) (*Tally, error) {
	t := &Tally{file: filepath.Join(dir, "used.json"), images: map[string]*ImageTally{}}
	err := readJSON(t.file, &t.images)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		clear(t.images)
	}
	return t, err
}

// Image notes what an image consists of.
func (t *Tally) Image(set enforce.Set) {
	if len(set.Files) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.images[set.Name] != nil {
		return
	}
	packages := map[string]*PackageTally{}
	for _, f := range set.Files {
		if f.Image != "" {
			continue // of another image, whose list was joined
		}
		p := packages[f.Package]
		if p == nil {
			if len(packages) == maxPackages {
				continue
			}
			p = new(PackageTally)
			packages[f.Package] = p
		}
		p.Files++
	}
	for len(t.images) >= maxImages {
		oldest := ""
		for name, i := range t.images {
			if oldest == "" || i.Last.Before(t.images[oldest].Last) {
				oldest = name
			}
		}
		delete(t.images, oldest)
	}
	now := time.Now().UTC()
	t.images[set.Name] = &ImageTally{Image: set.Name, First: now, Last: now, Packages: packages}
	t.dirty = true
}

// Used notes that a file was judged good.
func (t *Tally) Used(e enforce.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.images[e.Image]
	if i == nil || len(e.SHA256) < 8 || e.List != "" {
		return
	}
	p := i.Packages[e.Package]
	if p == nil {
		return
	}
	if p.First.IsZero() {
		p.First = e.Time
	}
	p.Last, i.Last = e.Time, e.Time
	if sum := e.SHA256[:8]; !slices.Contains(p.Ran, sum) {
		p.Ran = append(p.Ran, sum)
	}
	t.dirty = true
}

// Save writes what changed since the last time.
func (t *Tally) Save() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dirty {
		return nil
	}
	t.dirty = false
	return writeJSON(t.file, t.images)
}

// Images lists the tallies by name.
func (t *Tally) Images() []*ImageTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*ImageTally
	for _, i := range t.images {
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b *ImageTally) int { return strings.Compare(a.Image, b.Image) })
	return list
}
