// SPDX-License-Identifier: Apache-2.0

// Package sbom makes the SBOM of an image, as SPDX 2.3 and as CycloneDX 1.6 JSON.
//
// Syft finds the packages, the effective tree gives the files and their
// digests; together: every regular file, under the package that owns it. [Scan]
// is the slow part and needs only the image; what it [Found] can be kept. [Inventory.Document]
// is the quick one. [Check] holds a document against a tree. The bytes depend on the
// arguments alone: no clock, no random identifiers.
package sbom

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/anchore/stereoscope/pkg/file"
	"github.com/anchore/stereoscope/pkg/image"
	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/artifact"
	"github.com/anchore/syft/syft/pkg"
	syftsbom "github.com/anchore/syft/syft/sbom"
	"github.com/anchore/syft/syft/source"
	"github.com/anchore/syft/syft/source/stereoscopesource"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // syft reads RPM databases with it

	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/tree"
)

// Options say what image the SBOM is about.
type Options struct {
	// Name is the name of the image, without digest: "registry.example/app"; empty for places that have
	// no names, and the digest stands in for it.
	Name string
	// Digest is the digest of its manifest.
	Digest v1.Hash
	// DiffIDs are those of its layers, as many as were scanned.
	DiffIDs []v1.Hash
	// Created is the time the documents bear.
	Created time.Time
	// Version is the version of sbom-bless.
	Version string
}

// SBOM is the result, twice as a whole and twice without the files, and the ownership
// that it tells in the form that the file list takes.
type SBOM struct {
	SPDX, CycloneDX           []byte
	SPDXShort, CycloneDXShort []byte
	// Packages are the packages, in the order of the documents.
	Packages []filelist.Package
	// Owner has the index in Packages for each path that a package owns.
	Owner map[string]int
}

// Inventory holds the packages of an image.
type Inventory struct {
	packages      []pkg.Package // sorted
	relationships []artifact.Relationship
	distribution  syftsbom.Artifacts
	metadata      source.ImageMetadata
	diffIDs       []v1.Hash
	tool          string // version of syft
}

// Scan finds the packages in the lowest layers of an image, so many of them. It reads them once and leaves
// them in dir, uncompressed.
func Scan(ctx context.Context, img v1.Image, layers int, dir string) (_ Found, err error) {
	if _, err := lowest(img, layers); err != nil {
		return nil, err
	}
	read, err := readLayers(ctx, quickImage{img, make([]bool, layers)}, dir)
	if err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	defer func() { err = errors.Join(err, read.Cleanup()) }()
	src := stereoscopesource.New(read, stereoscopesource.ImageConfig{})
	defer func() { err = errors.Join(err, src.Close()) }()
	found, err := syft.CreateSBOM(ctx, src, syft.DefaultCreateSBOMConfig().WithoutFiles())
	if err != nil {
		return nil, fmt.Errorf("packages: %w", err)
	}
	return encode(found)
}

// readLayers reads the layers, and those again in which a name stands twice: that shows while they are read.
func readLayers(ctx context.Context, img quickImage, dir string) (*image.Image, error) {
	for {
		known := slices.Clone(img.repeats)
		if err := os.MkdirAll(dir, 0o700); err != nil { // Cleanup takes it away
			return nil, err
		}
		read := image.New(img, file.NewTempDirGenerator("sbom-bless"), dir)
		err := read.Read(ctx)
		if err == nil {
			return read, nil
		}
		err = errors.Join(err, read.Cleanup())
		if slices.Equal(known, img.repeats) {
			return nil, err
		}
	}
}

// Document writes the SBOM of an image that has the packages of the inventory and the
// files of the tree, which need SHA-256 and SHA-1.
func (inv *Inventory) Document(files *tree.Tree, o Options) (*SBOM, error) {
	if len(o.DiffIDs) != len(inv.diffIDs) {
		return nil, fmt.Errorf("%d layers, %d were scanned", len(o.DiffIDs), len(inv.diffIDs))
	}
	for i := range files.Files {
		e := &files.Files[i]
		if e.Regular() && (len(e.SHA256) != 32 || len(e.SHA1) != 20) {
			return nil, fmt.Errorf("%s: no digest", e.Name)
		}
	}
	s := &SBOM{}
	s.Packages, s.Owner = inv.Owners(files)
	d := &document{Options: o, inventory: inv, files: files, owner: s.Owner}
	var g errgroup.Group
	for _, w := range []struct {
		to    *[]byte
		name  string
		write func(files bool) ([]byte, error)
		files bool
	}{
		{&s.SPDX, "SPDX", d.spdx, true},
		{&s.CycloneDX, "CycloneDX", d.cycloneDX, true},
		{&s.SPDXShort, "SPDX", d.spdx, false},
		{&s.CycloneDXShort, "CycloneDX", d.cycloneDX, false},
	} {
		g.Go(func() (err error) {
			if *w.to, err = w.write(w.files); err != nil {
				err = fmt.Errorf("%s: %w", w.name, err)
			}
			return err
		})
	}
	return s, g.Wait()
}

// Owners are the packages, in the order of the documents, and for each regular file of the tree that one of
// them owns its index.
func (inv *Inventory) Owners(files *tree.Tree) ([]filelist.Package, map[string]int) {
	packages := make([]filelist.Package, len(inv.packages))
	for i := range inv.packages {
		p := &inv.packages[i]
		packages[i] = filelist.Package{Type: purlType(p), Name: p.Name, Version: p.Version}
	}
	return packages, owners(inv.packages, files)
}

// document is what both formats are written from.
type document struct {
	Options
	inventory *Inventory
	files     *tree.Tree
	owner     map[string]int
}

// regular are the regular files, in the order of the tree.
func (d *document) regular() (all []*tree.Entry) {
	for i := range d.files.Files {
		if e := &d.files.Files[i]; e.Regular() {
			all = append(all, e)
		}
	}
	return all
}

// model gives the inventory in the form that syft's encoders take, as packages of the image
// that the options describe.
func (d *document) model() syftsbom.SBOM {
	digest := d.Digest.String()
	name := cmp.Or(d.Name, digest)
	m := d.inventory.metadata
	m.UserInput, m.ManifestDigest, m.ID = name, digest, digest
	return syftsbom.SBOM{
		Artifacts: syftsbom.Artifacts{
			Packages:          pkg.NewCollection(d.inventory.packages...),
			LinuxDistribution: d.inventory.distribution.LinuxDistribution,
		},
		Relationships: d.inventory.relationships,
		Source:        source.Description{ID: d.Digest.Hex, Name: name, Version: digest, Metadata: m},
		Descriptor:    syftsbom.Descriptor{Name: "sbom-bless", Version: d.Version},
	}
}

// pathID is an identifier made of a path: documents cannot hold all paths in theirs.
func pathID(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:16])
}

// quote gives the form that a path has in the documents: the path itself, or, if JSON cannot
// hold it or a terminal should not see it, a Go string literal. Paths that start with a quotation mark
// become literals too, so that unquote is the inverse.
func quote(path string) string {
	if !utf8.ValidString(path) || strings.HasPrefix(path, `"`) || strings.ContainsFunc(path, unicode.IsControl) {
		return strconv.Quote(path)
	}
	return path
}

func unquote(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	path, err := strconv.Unquote(s)
	if err != nil {
		return "", fmt.Errorf("file name %s: %w", s, err)
	}
	return path, nil
}

// purlType is the type in the package's URL: "deb" of "pkg:deb/debian/bash@5.2".
func purlType(p *pkg.Package) string {
	if rest, ok := strings.CutPrefix(p.PURL, "pkg:"); ok {
		if t, _, ok := strings.Cut(rest, "/"); ok {
			return t
		}
	}
	return string(p.Type)
}
