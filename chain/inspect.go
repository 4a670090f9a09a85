// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"context"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/transport"
)

// InspectOptions are the choices of Inspect.
type InspectOptions struct {
	bless.InspectOptions
	// Trust says whose attestations count.
	Trust attest.Trust
	// Places are where attestations are looked for, see locate.Places.
	Places []locate.Place
	// Unsigned asks for the files that have no signature.
	Unsigned bool
}

// Inspection is what Inspect found. Its JSON form is the output of `sbom-bless inspect --output json`.
type Inspection struct {
	Reference string            `json:"reference"`
	Root      v1.Descriptor     `json:"descriptor"`
	Images    []ImageInspection `json:"images"`
}

// ImageInspection is one platform.
type ImageInspection struct {
	bless.ImageInspection
	// Attestations are those found, in each place; none is no error here.
	Attestations []Attestations `json:"attestations"`
	// Listing compares image and file list; nil without attestations.
	Listing *Listing `json:"listing,omitempty"`
	// Unsigned are the files of the effective tree that have no signature, if InspectOptions.Unsigned asks for
	// them. Those that carry attestations are not among them.
	Unsigned []bless.FileInspection `json:"unsigned,omitempty"`
	// Portability is what unpackers do with the image.
	Portability []Portability `json:"portability"`
}

// Listing is the image by packages.
type Listing struct {
	// Packages are those of the SBOM, in its order, with the files that they own.
	Packages []PackageCoverage `json:"packages"`
	// Orphans are the files that no package owns.
	Orphans bless.Coverage `json:"orphans"`
	// OrphanFiles names them, if InspectOptions.Files asks for it.
	OrphanFiles []string `json:"orphanFiles,omitempty"`
	// Unlisted files are in the image and not on the file list, Missing ones the other way round.
	Unlisted []string `json:"unlisted"`
	Missing  []string `json:"missing"`
}

// PackageCoverage is a package.
type PackageCoverage struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	bless.Coverage
}

// Inspect describes attributes and attestations of an image without judging them.
func Inspect(ctx context.Context, src transport.Source, o InspectOptions) (*Inspection, error) {
	o.Tree = true
	result, err := bless.Inspect(ctx, src, o.InspectOptions)
	if err != nil {
		return nil, err
	}
	defer stage(o.Progress, "reading attestations")()
	all := &Inspection{Reference: result.Reference, Root: result.Root}
	for i := range result.Images {
		one := ImageInspection{ImageInspection: result.Images[i], Attestations: []Attestations{}, Portability: portable(&result.Images[i])}
		if err := one.attested(ctx, o); err != nil {
			return nil, fmt.Errorf("%s: %w", one.Platform, err)
		}
		all.Images = append(all.Images, one)
	}
	return all, nil
}

// attested adds what the attestations of the image say.
func (img *ImageInspection) attested(ctx context.Context, o InspectOptions) error {
	answers, err := locate.All(ctx, o.Places, locate.Query{Image: img.Descriptor, Trust: o.Trust})
	if err != nil {
		return err
	}
	skip := ""
	for _, a := range answers {
		if a.Within != nil {
			skip = embedded.Root + "/"
		}
	}
	if o.Unsigned {
		img.Unsigned = unsigned(&img.ImageInspection, skip)
	}
	for _, a := range besideFirst(answers) {
		switch {
		case errors.Is(a.Err, attest.ErrNone):
		case a.Err != nil: // there are some, and they say nothing that counts
			img.Attestations = append(img.Attestations, unread(&a.Found, img.Platform, a.Err))
		default:
			img.Attestations = append(img.Attestations, describe(&a.Found, img.Platform))
			if img.Listing == nil {
				img.Listing = list(a.Files, &img.ImageInspection, skip, o.Files)
			}
		}
	}
	return nil
}

// Blessed reports whether anything says that the image was blessed: an attribute of a file, or attestations.
func (img *ImageInspection) Blessed() bool { return img.HasAttributes() || len(img.Attestations) > 0 }

// Lost reports whether attributes are missing that should be there: some files have them, and others have none, or
// such as cannot be read.
func (img *ImageInspection) Lost() bool {
	return img.HasAttributes() && img.Total.Unsigned+img.Total.Broken > 0
}

// unsigned are the regular files that have no signature, but for what is below skip.
func unsigned(img *bless.ImageInspection, skip string) []bless.FileInspection {
	files := []bless.FileInspection{}
	for i := range img.Tree.Files {
		e := &img.Tree.Files[i]
		if !e.Regular() || skip != "" && strings.HasPrefix(e.Name, skip) {
			continue
		}
		if fi := img.File(e); !fi.Signed() {
			files = append(files, fi)
		}
	}
	return files
}

// list sorts the files of the image by package. Both lists are sorted by path. What is
// below skip carries attestations and is not on the list.
func list(l *filelist.List, img *bless.ImageInspection, skip string, files bool) *Listing {
	out := &Listing{Packages: []PackageCoverage{}, Unlisted: []string{}, Missing: []string{}}
	for _, p := range l.Packages() {
		out.Packages = append(out.Packages, PackageCoverage{Type: p.Type, Name: p.Name, Version: p.Version})
	}
	n := 0
	missing := func(until string, all bool) {
		for ; n < l.Len() && (all || l.File(n).Path < until); n++ {
			out.Missing = append(out.Missing, l.File(n).Path)
		}
	}
	for i := range img.Tree.Files {
		e := &img.Tree.Files[i]
		if !e.Regular() || skip != "" && strings.HasPrefix(e.Name, skip) {
			continue
		}
		missing(e.Name, false)
		fi, owner := img.File(e), -1
		if n < l.Len() && l.File(n).Path == e.Name {
			owner = l.File(n).Package
			n++
		} else {
			out.Unlisted = append(out.Unlisted, e.Name)
		}
		if owner >= 0 {
			out.Packages[owner].Add(fi, e.Size)
			continue
		}
		out.Orphans.Add(fi, e.Size)
		if files {
			out.OrphanFiles = append(out.OrphanFiles, e.Name)
		}
	}
	missing("", true)
	return out
}
