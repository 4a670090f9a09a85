// SPDX-License-Identifier: Apache-2.0

package chain

// What two images have that is not the same: packages, and files of the effective tree.

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/tree"
)

// DiffOptions are the choices of Diff.
type DiffOptions struct {
	// Platforms are the ones to compare, all if empty.
	Platforms []v1.Platform
	Jobs      int
	Limits    bless.Limits
	// Cache remembers what the scans for packages found; nil: none.
	Cache    *bless.Cache
	Progress bless.Progress
}

// Difference is what Diff found. Its JSON form is the output of `sbom-bless diff --output json`.
type Difference struct {
	From Compared `json:"from"`
	To   Compared `json:"to"`
	// Images are the platforms that both have, in the order of To.
	Images []ImageDifference `json:"images"`
	// Removed and Added are platforms that only From or only To has.
	Removed []string `json:"removed"`
	Added   []string `json:"added"`
}

// Compared is one of the two images or indexes.
type Compared struct {
	Reference string        `json:"reference"`
	Root      v1.Descriptor `json:"descriptor"`
}

// ImageDifference is one platform.
type ImageDifference struct {
	Platform string        `json:"platform"`
	From     v1.Descriptor `json:"from"`
	To       v1.Descriptor `json:"to"`
	// Packages are sorted by type and name, Files by path.
	Packages []PackageChange `json:"packages"`
	Files    []FileChange    `json:"files"`
}

// Change is what became of a package or file from one image to the other.
type Change string

// The changes.
const (
	Added   Change = "added"
	Removed Change = "removed"
	Changed Change = "changed"
)

// PackageChange is a package that is not in both images in the same version.
type PackageChange struct {
	Change Change `json:"change"`
	Type   string `json:"type"`
	Name   string `json:"name"`
	// From and To are its versions.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// FileChange is a name that does not lead to the same in both images.
type FileChange struct {
	Change Change `json:"change"`
	Path   string `json:"path"`
	// What tells of a changed file in what: "type", "content", "link", "mode", "owner", "attributes".
	What []string   `json:"what,omitempty"`
	From *FileState `json:"from,omitempty"`
	To   *FileState `json:"to,omitempty"`
}

// FileState is what a name leads to.
type FileState struct {
	Type    string           `json:"type"` // "file", "directory", "symlink", "character device", "block device", "fifo"
	Size    int64            `json:"size"`
	SHA256  string           `json:"sha256,omitempty"`
	Link    string           `json:"link,omitempty"` // of a symbolic link
	Mode    string           `json:"mode"`           // octal
	UID     int              `json:"uid"`
	GID     int              `json:"gid"`
	Package *PackageIdentity `json:"package,omitempty"` // that owns the file
}

// PackageIdentity is a package, whatever its version.
type PackageIdentity struct {
	Type string `json:"type"`
	Name string `json:"name"`
}

// Same reports whether nothing differs.
func (d *Difference) Same() bool {
	return len(d.Added)+len(d.Removed) == 0 && !slices.ContainsFunc(d.Images, func(i ImageDifference) bool { return len(i.Packages)+len(i.Files) > 0 })
}

// Diff compares packages and files of two images, blessed or not: it reads every layer and scans for packages, and
// asks no attestation. Attributes that bless sets, the layer in which it embeds attestations and modification times are
// no difference, and neither is how files are spread over layers. Directories are compared where both images have
// them.
//
// Images are compared by platform; one image is compared with one other whatever their platforms.
func Diff(ctx context.Context, from, to transport.Source, o DiffOptions) (*Difference, error) {
	all := &Difference{
		From: Compared{from.Reference(), from.Root()}, To: Compared{to.Reference(), to.Root()},
		Images: []ImageDifference{}, Added: []string{}, Removed: []string{},
	}
	a, err := contentsOf(ctx, from, o)
	if err != nil {
		return nil, err
	}
	b := a
	if from.Root().Digest != to.Root().Digest {
		if b, err = contentsOf(ctx, to, o); err != nil {
			return nil, err
		}
	}
	for _, pair := range pairs(a, b) {
		switch {
		case pair[0] == nil:
			all.Added = append(all.Added, pair[1].platform)
		case pair[1] == nil:
			all.Removed = append(all.Removed, pair[0].platform)
		default:
			all.Images = append(all.Images, compare(pair[0], pair[1]))
		}
	}
	return all, nil
}

// contents is what Diff compares of one image.
type contents struct {
	platform string
	manifest v1.Descriptor
	tree     *tree.Tree
	packages []filelist.Package
	owner    map[string]int // index in packages by path
}

// contentsOf reads the images of src.
func contentsOf(ctx context.Context, src transport.Source, o DiffOptions) ([]*contents, error) {
	job, err := bless.Open(ctx, src, nil, bless.Options{Detached: true, Platforms: o.Platforms, Jobs: o.Jobs, Limits: o.Limits, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	scanning, cancel := context.WithCancel(ctx)
	scans := startScans(scanning, src, job.Images(), max(o.Jobs, 2), o.Cache, o.Progress)
	defer func() { cancel(); scans.end() }()
	draft, err := job.Run(ctx, nil)
	if err != nil {
		return nil, err
	}
	var all []*contents
	for i := range draft.Images {
		img := &draft.Images[i]
		inventory, err := scans.of(ctx, img.Source.Digest)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", src.Reference(), img.Platform, err)
		}
		c := &contents{platform: img.Platform, manifest: img.Source, tree: img.Tree}
		if _, err := embedded.Open(ctx, src, img.Source); err == nil {
			evidence := len(img.Layers) - 1
			c.tree.Files = slices.DeleteFunc(c.tree.Files, func(e tree.Entry) bool {
				return e.Layer == evidence && strings.HasPrefix(e.Name, embedded.Root+"/")
			})
		} else if !errors.Is(err, attest.ErrNone) {
			return nil, fmt.Errorf("%s: %s: %w", src.Reference(), img.Platform, err)
		}
		c.packages, c.owner = inventory.Owners(img.Tree)
		all = append(all, c)
	}
	return all, nil
}

// pairs puts images of one platform together, in the order of b; what has no partner stands alone.
func pairs(a, b []*contents) (all [][2]*contents) {
	if len(a) == 1 && len(b) == 1 {
		return [][2]*contents{{a[0], b[0]}}
	}
	left := slices.Clone(a)
	for _, to := range b {
		i := slices.IndexFunc(left, func(from *contents) bool { return from.platform == to.platform })
		if i < 0 {
			all = append(all, [2]*contents{nil, to})
			continue
		}
		all = append(all, [2]*contents{left[i], to})
		left = slices.Delete(left, i, i+1)
	}
	for _, from := range left {
		all = append(all, [2]*contents{from, nil})
	}
	return all
}

func compare(a, b *contents) ImageDifference {
	return ImageDifference{
		Platform: b.platform, From: a.manifest, To: b.manifest,
		Packages: comparePackages(a.packages, b.packages), Files: compareFiles(a, b),
	}
}

// comparePackages leaves out what both have in the same version. Of the versions of one package that are left, which
// may be several, as of modules of Node.js, the first is followed by the first.
func comparePackages(a, b []filelist.Package) []PackageChange {
	type versions struct{ from, to []string }
	names := map[PackageIdentity]*versions{}
	of := func(p filelist.Package) *versions {
		id := PackageIdentity{p.Type, p.Name}
		if names[id] == nil {
			names[id] = &versions{}
		}
		return names[id]
	}
	for _, p := range a {
		of(p).from = append(of(p).from, p.Version)
	}
	for _, p := range b {
		v := of(p)
		if i := slices.Index(v.from, p.Version); i >= 0 {
			v.from = slices.Delete(v.from, i, i+1)
		} else {
			v.to = append(v.to, p.Version)
		}
	}
	changes := []PackageChange{}
	order := slices.SortedFunc(maps.Keys(names), func(x, y PackageIdentity) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Name, y.Name))
	})
	for _, id := range order {
		v := names[id]
		slices.Sort(v.from)
		slices.Sort(v.to)
		for i := range max(len(v.from), len(v.to)) {
			c := PackageChange{Change: Changed, Type: id.Type, Name: id.Name}
			if i < len(v.from) {
				c.From = v.from[i]
			} else {
				c.Change = Added
			}
			if i < len(v.to) {
				c.To = v.to[i]
			} else {
				c.Change = Removed
			}
			changes = append(changes, c)
		}
	}
	return changes
}

// compareFiles goes through both trees at once: they are sorted by path.
func compareFiles(a, b *contents) []FileChange {
	changes := []FileChange{}
	from, to := a.tree.Files, b.tree.Files
	for len(from)+len(to) > 0 {
		order := 0
		switch {
		case len(from) == 0:
			order = 1
		case len(to) == 0:
			order = -1
		default:
			order = cmp.Compare(from[0].Name, to[0].Name)
		}
		switch {
		case order < 0:
			if from[0].Type != '5' {
				changes = append(changes, FileChange{Change: Removed, Path: from[0].Name, From: a.state(&from[0])})
			}
		case order > 0:
			if to[0].Type != '5' {
				changes = append(changes, FileChange{Change: Added, Path: to[0].Name, To: b.state(&to[0])})
			}
		default:
			if what := differs(&from[0], &to[0]); len(what) > 0 {
				changes = append(changes, FileChange{Change: Changed, Path: to[0].Name, What: what, From: a.state(&from[0]), To: b.state(&to[0])})
			}
		}
		if order <= 0 {
			from = from[1:]
		}
		if order >= 0 {
			to = to[1:]
		}
	}
	return changes
}

// differs tells in what two entries of one name differ.
func differs(a, b *tree.Entry) (what []string) {
	add := func(differ bool, name string) {
		if differ {
			what = append(what, name)
		}
	}
	if typeName(a) != typeName(b) {
		what = append(what, "type")
	} else {
		add(a.Regular() && !bytes.Equal(a.SHA256, b.SHA256), "content")
		add(a.Type == '2' && a.Link != b.Link, "link")
		add(a.Type != '2' && a.Mode != b.Mode, "mode") // that of a symbolic link means nothing
	}
	add(a.UID != b.UID || a.GID != b.GID, "owner")
	add(!maps.EqualFunc(a.Xattrs, b.Xattrs, bytes.Equal), "attributes")
	return what
}

func (c *contents) state(e *tree.Entry) *FileState {
	s := &FileState{Type: typeName(e), Mode: fmt.Sprintf("%04o", e.Mode), UID: e.UID, GID: e.GID}
	switch {
	case e.Regular():
		s.Size, s.SHA256 = e.Size, fmt.Sprintf("%x", e.SHA256)
	case e.Type == '2':
		s.Link = e.Link
	}
	if i, ok := c.owner[e.Name]; ok {
		s.Package = &PackageIdentity{c.packages[i].Type, c.packages[i].Name}
	}
	return s
}

// typeName is the type of what a name leads to: a hard link is the file itself.
func typeName(e *tree.Entry) string {
	switch e.Type {
	case '0', '1':
		return "file"
	case '2':
		return "symlink"
	case '3':
		return "character device"
	case '4':
		return "block device"
	case '5':
		return "directory"
	}
	return "fifo"
}
