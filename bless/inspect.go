// SPDX-License-Identifier: Apache-2.0

package bless

// Inspect: what the attributes of an image say, without judging them.

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// InspectOptions are the choices of Inspect.
type InspectOptions struct {
	Platforms []v1.Platform
	Files     bool // list them
	// Tree asks for the effective tree of each image.
	Tree     bool
	Jobs     int
	Limits   Limits
	Progress Progress
}

// Inspection is what Inspect found. Its JSON form is the output of
// `sbom-bless inspect --output json`.
type Inspection struct {
	Reference string            `json:"reference"`
	Root      v1.Descriptor     `json:"descriptor"`
	Images    []ImageInspection `json:"images"`
}

// ImageInspection is one platform.
type ImageInspection struct {
	Platform   string            `json:"platform"`
	Descriptor v1.Descriptor     `json:"descriptor"`
	Layers     []LayerInspection `json:"layers"`
	Total      Coverage          `json:"total"`
	// Memory are the files that a node runs under rule jit alone, if InspectOptions.Tree asked
	// for the tree.
	Memory []MemoryFile `json:"memory"`
	// Tree is what a container sees, if InspectOptions.Tree asked for it.
	Tree *tree.Tree `json:"-"`
}

// File describes a regular file of the tree, by the entry that holds its content.
func (ii *ImageInspection) File(e *tree.Entry) FileInspection { return inspectFile(e.Xattrs, &e.File) }

// HasAttributes reports whether any file has an attribute of ours.
func (ii *ImageInspection) HasAttributes() bool {
	t := &ii.Total
	return t.Signed+t.Digests+t.Broken+t.Bless+t.EVM > 0
}

// LayerInspection is one layer.
type LayerInspection struct {
	Descriptor v1.Descriptor `json:"descriptor"`
	DiffID     v1.Hash       `json:"diffId"`
	Coverage
	Files []FileInspection `json:"files,omitempty"`

	entries []tree.File // with all their attributes
}

// Coverage counts regular files by what their attributes are.
type Coverage struct {
	Regular int64 `json:"regular"`
	Code    int64 `json:"code"`
	Bytes   int64 `json:"bytes"`
	// Signed have an IMA signature, Digests a digest only, Unsigned neither. Broken have
	// a security.ima that cannot be read.
	Signed   int64 `json:"signed"`
	Digests  int64 `json:"digests"`
	Unsigned int64 `json:"unsigned"`
	Broken   int64 `json:"broken"`
	// Bless and EVM have the attribute of that name; CodeUnblessed counts code
	// files without security.bpf.bless.
	Bless         int64 `json:"bless"`
	CodeUnblessed int64 `json:"codeUnblessed"`
	EVM           int64 `json:"evm"`
	// Formats counts security.ima by key and format: "a1b2c3d4 sha256 v2".
	Formats map[string]int64 `json:"formats,omitempty"`
}

// FileInspection is one regular file.
type FileInspection struct {
	Path string `json:"path"`
	Code bool   `json:"code,omitempty"`
	IMA  string `json:"ima"` // "a1b2c3d4 sha256 v2", "digest sha256", "none", or what is wrong with it
	// Bless and EVM tell whether the attribute is there.
	Bless bool `json:"bless,omitempty"`
	EVM   bool `json:"evm,omitempty"`

	kind imaKind
}

// Signed reports whether the file has an IMA signature, whoever made it.
func (fi *FileInspection) Signed() bool { return fi.kind == imaSigned }

// imaKind is what a security.ima is.
type imaKind uint8

const (
	imaNone imaKind = iota
	imaBroken
	imaDigest
	imaSigned
)

// Inspect reads the headers of every layer. It verifies no signature.
func Inspect(ctx context.Context, src transport.Source, o InspectOptions) (*Inspection, error) {
	r, images, err := readImages(ctx, src, o.Platforms, o.Jobs, o.Limits, o.Progress)
	if err != nil {
		return nil, err
	}
	layers := map[*layerJob]*LayerInspection{}
	var mu sync.Mutex
	err = r.eachLayer(ctx, images, func(ctx context.Context, _ *node, j *layerJob, add func(int64)) error {
		blob, err := r.src.Blob(ctx, j.source)
		if err != nil {
			return err
		}
		defer blob.Close()
		li := &LayerInspection{Descriptor: j.source}
		read, err := readLayer(ctx, layerIn{desc: j.source, diffID: j.diffID, blob: blob}, r.limits, false, false, add, func(e *xattr.Entry, f *tree.File) error {
			if o.Tree {
				whole := *f
				whole.Xattrs = e.Xattrs
				li.entries = append(li.entries, whole)
			}
			if f.Regular() && !tree.IsWhiteout(f.Name) {
				fi := inspectFile(e.Xattrs, f)
				li.Add(fi, f.Size)
				if o.Files {
					li.Files = append(li.Files, fi)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		li.DiffID = read.diffID
		mu.Lock()
		defer mu.Unlock()
		layers[j] = li
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.Reference(), err)
	}
	result := &Inspection{Reference: src.Reference(), Root: src.Root()}
	for _, n := range images {
		ii := ImageInspection{Platform: n.image.platform, Descriptor: n.desc}
		for _, j := range n.image.layers {
			ii.Layers = append(ii.Layers, *layers[j])
			ii.Total.add(layers[j].Coverage)
		}
		if o.Tree {
			var entries [][]tree.File
			for _, l := range ii.Layers {
				entries = append(entries, l.entries)
			}
			if ii.Tree, err = tree.Flatten(entries); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", src.Reference(), ii.Platform, err)
			}
			ii.Memory = memoryFiles(ii.Tree)
		}
		result.Images = append(result.Images, ii)
	}
	return result, nil
}

// inspectFile describes a regular file.
func inspectFile(attributes map[string][]byte, f *tree.File) FileInspection {
	fi := FileInspection{Path: f.Name, Code: f.Code}
	_, fi.Bless = attributes[xattr.Bless]
	_, fi.EVM = attributes[xattr.EVM]
	raw, ok := attributes[xattr.IMA]
	value, err := xattr.Parse(raw)
	switch {
	case !ok:
		fi.IMA, fi.kind = "none", imaNone
	case err != nil:
		fi.IMA, fi.kind = err.Error(), imaBroken
	case value.Type == xattr.TypeDigest:
		fi.IMA, fi.kind = "digest "+value.Hash.String(), imaDigest
	default:
		fi.IMA, fi.kind = fmt.Sprintf("%s %s v%d", value.KeyID, value.Hash, value.Version), imaSigned
	}
	return fi
}

// Add counts a regular file of so many bytes.
func (c *Coverage) Add(fi FileInspection, size int64) {
	c.Regular++
	c.Bytes += size
	switch fi.kind {
	case imaNone:
		c.Unsigned++
	case imaBroken:
		c.Broken++
	case imaDigest:
		c.Digests++
	case imaSigned:
		c.Signed++
	}
	if fi.kind == imaDigest || fi.kind == imaSigned {
		if c.Formats == nil {
			c.Formats = map[string]int64{}
		}
		c.Formats[fi.IMA]++
	}
	if fi.Code {
		c.Code++
		if !fi.Bless {
			c.CodeUnblessed++
		}
	}
	if fi.Bless {
		c.Bless++
	}
	if fi.EVM {
		c.EVM++
	}
}

func (c *Coverage) add(d Coverage) {
	c.Regular += d.Regular
	c.Code += d.Code
	c.Bytes += d.Bytes
	c.Signed += d.Signed
	c.Digests += d.Digests
	c.Unsigned += d.Unsigned
	c.Broken += d.Broken
	c.Bless += d.Bless
	c.CodeUnblessed += d.CodeUnblessed
	c.EVM += d.EVM
	for name, n := range d.Formats {
		if c.Formats == nil {
			c.Formats = map[string]int64{}
		}
		c.Formats[name] += n
	}
}

// FormatNames lists the formats, the most frequent first.
func (c *Coverage) FormatNames() []string {
	names := slices.Collect(maps.Keys(c.Formats))
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(c.Formats[b], c.Formats[a]), cmp.Compare(a, b)) })
	return names
}
