// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// Options are the choices of Bless.
type Options struct {
	// Bless are the choices of the blessing. Bless sets Files and SHA1 where it needs them.
	bless.Options
	// Signer signs the files; nil: they get digests only.
	Signer *xattr.Signer
	// FileKey is the key of Signer, as the attestations name it.
	FileKey attest.Key

	// Bundler signs the attestations; nil: there are none.
	Bundler attest.Bundler
	// Trust is trust in Bundler. Bless reads back by it what it wrote, and keeps embedded attestations of an
	// earlier blessing by it.
	Trust attest.Trust
	// SBOMs are media types of the SBOMs to make: attest.MediaTypeSPDX, attest.MediaTypeCycloneDX.
	SBOMs []string
	// SBOMDir gets the SBOMs as files, AttestationDir the attestations as an OCI layout; empty: no such directory.
	SBOMDir        string
	AttestationDir string
	// Embed puts the attestations into the image too, BuildKit unsigned ones into its index.
	Embed    bool
	BuildKit bool

	// Dest is the reference of the destination.
	Dest string
	// Parameters are the options of the run that the result depends on, for the provenance.
	Parameters map[string]any
	// Version is the version of sbom-bless.
	Version string
}

// ErrOccupied means that the image has files of its own where the embedded attestations would go.
var ErrOccupied = errors.New("the image has a /" + embedded.Root + " of its own, where the attestations would go")

// Result is what Bless did.
type Result struct {
	*bless.Result
	Attested []Attested
}

// Attested tells what was attested of one image.
type Attested struct {
	Platform string
	Files    int
	Packages int // -1: nobody looked for packages
	// Embedded, Directory and Beside tell where the attestations are.
	Embedded, Directory, Beside bool
}

// Bless blesses what src holds and puts the result, its SBOMs and its attestations where the options say. All
// of it becomes visible at the end, in one step. A detached run ([bless.Options.Detached]) attests the
// files of the image as it is.
func Bless(ctx context.Context, src transport.Source, dst transport.Destination, o Options) (*Result, error) {
	if o.Hash == 0 {
		o.Hash = xattr.SHA256
	}
	if o.IMAVersion == 0 {
		o.IMAVersion = 2
	}
	if o.BPFFiles == "" {
		o.BPFFiles = bless.BPFCode
	}
	if o.Bundler == nil && o.SBOMDir == "" && !o.BuildKit {
		o.SBOMs = nil // nowhere to put them
	}
	claiming := o.Bundler != nil || o.BuildKit || len(o.SBOMs) > 0
	o.Files, o.SHA1 = o.Files || claiming, o.SHA1 || claiming
	job, err := bless.Open(ctx, src, o.Signer, o.Options)
	if err != nil {
		return nil, err
	}
	m := &maker{Options: o, src: src, root: src.Root(), beside: transport.HoldingReferrers(dst)}
	if len(o.SBOMs) > 0 {
		scanning, cancel := context.WithCancel(ctx)
		m.scans = startScans(scanning, src, job.Images(), max(o.Jobs, 2), o.Cache, o.Progress)
		defer func() { cancel(); m.scans.end() }()
	}
	draft, err := job.Run(ctx, dst)
	if err != nil {
		return nil, err
	}
	var claims []*attest.Blessing
	if claiming {
		if claims, err = m.add(ctx, draft, dst); err != nil {
			return nil, err
		}
	}
	result := &Result{}
	end := stage(m.Progress, "writing manifests")
	result.Result, err = draft.Write(ctx)
	if end(); err != nil {
		return nil, err
	}
	for i, claim := range claims {
		if result.Descriptor.Digest != claim.Image.Digest {
			claim.Index = &result.Descriptor
		}
		done, err := m.publish(ctx, claim, len(claims) > 1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", claim.Platform, err)
		}
		if done.Embedded = result.Images[i].Embedded != nil; o.Bundler != nil {
			result.Attested = append(result.Attested, done)
		}
	}
	if o.Detached && transport.Repository(o.Dest) != "" {
		return result, nil // a registry shows referrers at once; its tag is not ours to move
	}
	defer stage(m.Progress, "making the image visible")()
	return result, result.Commit(ctx, dst)
}

// maker makes SBOMs and attestations of a run.
type maker struct {
	Options
	src    transport.Source
	root   v1.Descriptor
	beside transport.Destination // where attestations go beside the image; nil: nowhere
	scans  scans
}

// add gives the draft what speaks of its images: embedded layers, and manifests beside them. It returns what there
// is to say of each image, but for its index.
func (m *maker) add(ctx context.Context, draft *bless.Draft, dst transport.Destination) ([]*attest.Blessing, error) {
	var claims []*attest.Blessing
	for i := range draft.Images {
		img := &draft.Images[i]
		claim, err := m.embed(ctx, draft, i)
		if err == nil && m.BuildKit {
			err = m.buildKit(ctx, draft, i, claim, dst)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", img.Platform, err)
		}
		claims = append(claims, claim)
	}
	return claims, nil
}

// embed settles the embedded layer of an image, and returns the claim about the image with it.
func (m *maker) embed(ctx context.Context, draft *bless.Draft, i int) (*attest.Blessing, error) {
	img := &draft.Images[i]
	if !m.Embed {
		return m.claim(ctx, *img)
	}
	if img.Tree.Lookup(embedded.Root) != nil {
		return nil, ErrOccupied
	}
	below, manifest, config := *img, img.Manifest, img.Config
	if e, ok := m.stillHolds(ctx, img); ok {
		if err := draft.Keep(i, e.Image); err != nil {
			return nil, err
		}
		below.Blessed = e.Image
	}
	claim, err := m.claim(ctx, below)
	if err != nil {
		return nil, err
	}
	if img.Embedded == nil {
		artifacts, err := attest.Make(ctx, *claim, m.Bundler)
		if err != nil {
			return nil, err
		}
		layer, err := embedded.Layer(below.Blessed, manifest, config, artifacts, claim.Created)
		if err != nil {
			return nil, err
		}
		if err := draft.Embed(ctx, i, layer); err != nil {
			return nil, err
		}
	}
	claim.Image = img.Blessed
	claim.Embedded = &attest.LayerDigests{DiffID: img.Embedded.DiffID, Digest: img.Embedded.Layer.Digest}
	return claim, nil
}

// stillHolds reports whether the attestations that an earlier blessing embedded in the source are ours and
// still true: nothing below them changed.
func (m *maker) stillHolds(ctx context.Context, img *bless.ImageResult) (*embedded.Attestations, bool) {
	if img.SourceEmbedded == nil || !img.Unchanged() || m.Trust.Unchecked {
		return nil, false
	}
	e, err := embedded.Open(ctx, m.src, img.Source)
	if err != nil {
		return nil, false
	}
	v, err := attest.Verify(ctx, e, e.Image.Digest, m.Trust)
	return e, err == nil && e.Check(&v.Blessing) == nil
}

// buildKit puts the manifest that BuildKit would make beside an image.
func (m *maker) buildKit(ctx context.Context, draft *bless.Draft, i int, claim *attest.Blessing, dst transport.Destination) error {
	artifact, err := attest.BuildKit(*claim)
	if err != nil {
		return err
	}
	if err := attest.Push(ctx, dst, []attest.Artifact{artifact}); err != nil {
		return err
	}
	return draft.Beside(i, artifact.Descriptor)
}

// publish writes the SBOMs of an image, and signs what is claimed of it and puts that into each place.
func (m *maker) publish(ctx context.Context, claim *attest.Blessing, several bool) (Attested, error) {
	done := Attested{Platform: claim.Platform, Files: claim.Counts.Files, Packages: claim.Counts.Packages}
	if len(m.SBOMs) == 0 {
		done.Packages = -1
	}
	if m.SBOMDir != "" {
		for _, s := range claim.SBOMs {
			if err := writeSBOM(m.SBOMDir, claim.Platform, several, s); err != nil {
				return done, err
			}
		}
	}
	if m.Bundler == nil || m.AttestationDir == "" && m.beside == nil {
		return done, nil
	}
	end := stage(m.Progress, "signing attestations")
	artifacts, err := attest.Make(ctx, *claim, m.Bundler)
	if end(); err != nil {
		return done, err
	}
	defer stage(m.Progress, "storing attestations")()
	if m.AttestationDir != "" {
		if err := attest.WriteDir(ctx, m.AttestationDir, artifacts); err != nil {
			return done, fmt.Errorf("attestations: %w", err)
		}
		done.Directory = true
	}
	if m.beside != nil {
		if err := attest.Push(ctx, m.beside, artifacts); err != nil {
			return done, err
		}
		done.Beside = true
	}
	return done, nil
}

// ReadBack opens what Bless wrote to o.Dest, as anyone would, and checks that it is the image and that its
// attestations verify, wherever they went. The blobs were checked by digest as they were stored.
func ReadBack(ctx context.Context, result *Result, o Options, t transport.Options) error {
	place := transport.PlaceOf(o.Dest)
	if place == transport.Daemon {
		return nil // the daemon would have to pack the whole image again
	}
	name := o.Dest
	if repository := transport.Repository(name); o.Detached && repository != "" {
		name = repository + "@" + result.Descriptor.Digest.String()
	}
	src, err := transport.Open(ctx, name, t)
	if err != nil {
		return err
	}
	defer src.Close()
	archive := place == transport.DockerArchive // which has no manifests of its own
	if got := src.Root().Digest; got != result.Descriptor.Digest && !archive {
		return fmt.Errorf("the reference leads to %s", got)
	}
	for i, done := range result.Attested {
		if err := readImageBack(ctx, src, result.Images[i], done, archive, o); err != nil {
			return fmt.Errorf("%s: %w", done.Platform, err)
		}
	}
	return nil
}

func readImageBack(ctx context.Context, src transport.Source, img bless.ImageResult, done Attested, archive bool, o Options) error {
	var stores []transport.ReadStore
	if store, ok := src.(transport.ReadStore); ok && done.Beside && !archive {
		stores = append(stores, store)
	}
	if done.Directory {
		stores = append(stores, transport.OpenDir(o.AttestationDir))
	}
	for _, store := range stores {
		v, err := attest.Verify(ctx, store, img.Blessed.Digest, o.Trust)
		if err == nil {
			err = attest.CheckFiles(v.Files, img.Tree)
		}
		if err != nil {
			return err
		}
	}
	if !done.Embedded {
		return nil
	}
	manifest := img.Blessed
	if archive {
		manifest = src.Root()
	}
	e, err := embedded.Open(ctx, src, manifest)
	if err != nil {
		return err
	}
	v, err := attest.Verify(ctx, e, e.Image.Digest, o.Trust)
	if err == nil {
		err = e.Check(&v.Blessing)
	}
	if err == nil {
		err = attest.CheckFiles(v.Files, img.Tree)
	}
	return err
}

// fileAttributes describes what files carry after a run with these options.
func (o *Options) fileAttributes() []attest.Attribute {
	hash := o.Hash.String()
	switch {
	case o.Detached:
		return nil
	case o.Signer == nil:
		return []attest.Attribute{{Name: xattr.IMA, Format: "ima-digest", Hash: hash, Files: "all"}}
	}
	all := []attest.Attribute{{Name: xattr.IMA, Format: fmt.Sprintf("ima-signature-v%d", o.IMAVersion), Hash: hash, Files: "all"}}
	if o.BPFFiles != bless.BPFNone {
		all = append(all, attest.Attribute{Name: xattr.Bless, Format: "pkcs7", Hash: hash, Files: string(o.BPFFiles)})
	}
	if o.EVM {
		all = append(all, attest.Attribute{Name: xattr.EVM, Format: "evm-portable", Hash: "sha256", Files: "all"})
	}
	return all
}
