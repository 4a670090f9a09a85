// SPDX-License-Identifier: Apache-2.0

package cli

// inspect: what attributes and attestations of an image say, without judging them.

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/transport"
)

const inspectUsage = `Counts the regular files of each layer, and of each package of the SBOM, by what their
attributes are; shows the attestations and who signed them, files that no package owns or
that are not on the list, and what unpackers make of the image. Digests of files are not computed
and signatures of files not verified: that is the business of verify. Signatures of
attestations are verified if --key or an identity says whose count.

   sbom-bless inspect registry.example/app:1.2
   sbom-bless inspect oci:blessed --files --output json`

func newInspect() *cli.Command {
	return &cli.Command{
		Name:        "inspect",
		Usage:       "tell what is signed, by which key, and what is not, per layer and package",
		ArgsUsage:   "IMAGE",
		Description: inspectUsage,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "files", Usage: "list the files"},
			&cli.BoolFlag{Name: "packages", Usage: "list all packages, not only the largest and those that lack something"},
			&cli.StringSliceFlag{Name: "key", Usage: "trusted key of the attestations; without it their signatures are not checked"},
			&cli.StringFlag{Name: "attestations", Usage: "read attestations from this directory instead of from beside the image"},
		}, append(identityFlags(), commonFlags()...)...),
		Action: func(c *cli.Context) error { return runInspect(c.Context, c) },
	}
}

// inspection is the JSON form of inspect.
type inspection struct {
	Reference string            `json:"reference"`
	Root      v1.Descriptor     `json:"descriptor"`
	Images    []imageInspection `json:"images"`
}

// imageInspection is one platform.
type imageInspection struct {
	bless.ImageInspection
	// Attestations are those found, in each place; none is no error here.
	Attestations []attestations `json:"attestations"`
	// Listing compares image and file list; nil without attestations.
	Listing *listing `json:"listing,omitempty"`
	// Portability is what unpackers do with the image.
	Portability []portability `json:"portability"`
}

// listing is the image by packages.
type listing struct {
	// Packages are those of the SBOM, in its order, with the files that they own.
	Packages []packageCoverage `json:"packages"`
	// Orphans are the files that no package owns.
	Orphans bless.Coverage `json:"orphans"`
	// OrphanFiles names them, with --files.
	OrphanFiles []string `json:"orphanFiles,omitempty"`
	// Unlisted files are in the image and not on the file list, Missing ones the other way round.
	Unlisted []string `json:"unlisted"`
	Missing  []string `json:"missing"`
}

// packageCoverage is a package.
type packageCoverage struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	bless.Coverage
}

func runInspect(ctx context.Context, c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("inspect takes one IMAGE\nhint: sbom-bless inspect oci:blessed")
	}
	common, err := readCommon(c)
	if err != nil {
		return err
	}
	trust, given, err := readTrust(ctx, c)
	if err != nil {
		return err
	}
	if !given {
		trust = attest.Trust{Unchecked: true}
	}
	src, err := transport.Open(ctx, c.Args().First(), common.transport())
	if err != nil {
		return err
	}
	defer src.Close()
	progress := newProgress(c, common.quiet)
	result, err := bless.Inspect(ctx, src, bless.InspectOptions{
		Platforms: common.platforms, Files: c.Bool("files"), Tree: true, Jobs: common.jobs, Limits: common.limits, Progress: progress,
	})
	progress.close()
	if err != nil {
		return err
	}
	l := &chain{src: src, trust: trust}
	l.store, l.place = attestationStore(c, src)
	all := inspection{Reference: result.Reference, Root: result.Root}
	for _, img := range result.Images {
		one := imageInspection{ImageInspection: img, Portability: portable(&img)}
		if err := l.inspect(ctx, &one, c.Bool("files")); err != nil {
			return fmt.Errorf("%s: %w", img.Platform, err)
		}
		all.Images = append(all.Images, one)
	}
	if common.json {
		return writeJSON(c.App.Writer, all)
	}
	return inspectText(c.App.Writer, &all, c.Bool("files"), c.Bool("packages"))
}

// inspect adds what the attestations of an image say.
func (c *chain) inspect(ctx context.Context, img *imageInspection, files bool) error {
	img.Attestations = []attestations{}
	take := func(store attest.Store, place string, subject v1.Hash, skip string) error {
		v, err := attest.Verify(ctx, store, subject, c.trust)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, attest.ErrNone):
			return nil
		case err != nil: // there are some, and they say nothing that counts
			img.Attestations = append(img.Attestations, attestations{Platform: img.Platform, Place: place, Subject: subject, Statements: []statement{}, Rejected: []string{err.Error()}})
			return nil
		}
		img.Attestations = append(img.Attestations, describe(v, img.Platform, place, subject))
		if img.Listing == nil {
			img.Listing = list(v.Files, &img.ImageInspection, skip, files)
		}
		return nil
	}
	skip := ""
	within, err := embedded.Open(ctx, c.src, img.Descriptor)
	switch {
	case err == nil:
		skip = embedded.Root + "/"
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.Is(err, attest.ErrNone):
		img.Attestations = append(img.Attestations, attestations{Platform: img.Platform, Place: "embedded", Subject: img.Descriptor.Digest, Statements: []statement{}, Rejected: []string{err.Error()}})
	}
	if c.store != nil {
		if err := take(c.store, c.place, img.Descriptor.Digest, skip); err != nil {
			return err
		}
	}
	if within != nil {
		return take(within, "embedded", within.Image.Digest, skip)
	}
	return nil
}

// list sorts the files of the image by package. Both lists are sorted by path. What is
// below skip carries attestations and is not on the list.
func list(l *filelist.List, img *bless.ImageInspection, skip string, files bool) *listing {
	out := &listing{Packages: []packageCoverage{}, Unlisted: []string{}, Missing: []string{}}
	for _, p := range l.Packages() {
		out.Packages = append(out.Packages, packageCoverage{Type: p.Type, Name: p.Name, Version: p.Version})
	}
	n := 0
	missing := func(until string, all bool) {
		for ; n < l.Len() && (all || l.File(n).Path < until); n++ {
			out.Missing = append(out.Missing, l.File(n).Path)
		}
	}
	for i := range img.Tree.Files {
		e := &img.Tree.Files[i]
		if !e.Regular() || skip != "" && len(e.Name) > len(skip) && e.Name[:len(skip)] == skip {
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
