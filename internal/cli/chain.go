// SPDX-License-Identifier: Apache-2.0

package cli

// What verify holds against each other: the attestations of an image, wherever
// they are, and the image itself.

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/sbom"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/tree"
)

// chain is what attestations are looked for by, and what they must say.
type chain struct {
	src   transport.Source
	store attest.Store // beside the image, or a directory; nil: there is none
	place string       // what store is
	trust attest.Trust

	source    []v1.Hash // what must have been blessed: any of these; empty: anything
	notBefore time.Time
}

// readChain reads what the flags of verify say of attestations; nil: none are to be looked at.
func readChain(ctx context.Context, c *cli.Context, src transport.Source, trust attest.Trust) (*chain, error) {
	byIdentity := c.IsSet("certificate-identity") || c.IsSet("certificate-identity-regexp")
	if c.Bool("files-only") || c.Bool("hash-only") && !byIdentity {
		for _, name := range []string{"source", "not-before", "attestations"} {
			if c.IsSet(name) {
				return nil, usagef("--%s is about attestations, which are not looked at", name)
			}
		}
		return nil, nil
	}
	l := &chain{src: src, trust: trust}
	l.store, l.place = attestationStore(c, src)
	if s := c.String("not-before"); s != "" {
		var err error
		if l.notBefore, err = time.Parse(time.RFC3339, s); err != nil {
			l.notBefore, err = time.Parse(time.DateOnly, s)
		}
		if err != nil {
			return nil, usagef("--not-before %s: expected 2026-11-25, or a time as in 2026-11-25T00:00:00Z", s)
		}
	}
	if s := c.String("source"); s != "" {
		if h, err := v1.NewHash(s); err == nil {
			l.source = []v1.Hash{h}
			return l, nil
		}
		from, err := transport.Open(ctx, s, transport.Options{Insecure: c.Bool("insecure")})
		if err != nil {
			return nil, fmt.Errorf("--source: %w", err)
		}
		defer from.Close()
		l.source = []v1.Hash{from.Root().Digest}
	}
	return l, nil
}

// attestationStore is where attestations are, if not in the image itself, and what that is called.
func attestationStore(c *cli.Context, src transport.Source) (attest.Store, string) {
	if dir := c.String("attestations"); dir != "" {
		return attest.Dir(dir), "directory"
	}
	if store, ok := src.(attest.Store); ok {
		return store, "referrers"
	}
	return nil, ""
}

// findAttestations verifies the attestations of an image where the flags say they are, or else beside
// it, or else in it.
func findAttestations(ctx context.Context, c *cli.Context, src transport.Source, image v1.Descriptor, trust attest.Trust) (*attest.Verified, error) {
	store, _ := attestationStore(c, src)
	beside := attest.ErrNone
	if store != nil {
		v, err := attest.Verify(ctx, store, image.Digest, trust)
		if err == nil || c.IsSet("attestations") {
			return v, err
		}
		beside = err
	}
	within, err := embedded.Open(ctx, src, image)
	if errors.Is(err, attest.ErrNone) {
		return nil, beside
	} else if err != nil {
		return nil, err
	}
	return attest.Verify(ctx, within, within.Image.Digest, trust)
}

// check adds to result what the attestations of each image and the image itself
// disagree in, and returns those that it found.
func (c *chain) check(ctx context.Context, result *bless.VerifyResult) ([]attestations, error) {
	all := []attestations{}
	for _, img := range result.Images {
		found, problems, err := c.image(ctx, img)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", img.Platform, err)
		}
		for _, p := range problems {
			p.Platform = img.Platform
			result.Problems = append(result.Problems, p)
		}
		all = append(all, found...)
	}
	return all, nil
}

// image holds one image against its attestations: those beside it and those
// embedded in it, if there are both.
func (c *chain) image(ctx context.Context, img bless.ImageCheck) (all []attestations, problems []bless.Problem, err error) {
	within, err := embedded.Open(ctx, c.src, img.Descriptor)
	switch {
	case errors.Is(err, attest.ErrNone):
		within = nil
	case ctx.Err() != nil:
		return nil, nil, err
	case err != nil:
		return nil, []bless.Problem{{Reason: err.Error()}}, nil
	}
	verify := func(store attest.Store, place string, subject v1.Hash) error {
		v, err := attest.Verify(ctx, store, subject, c.trust)
		if err != nil {
			return err
		}
		all = append(all, describe(v, img.Platform, place, subject))
		problems = append(problems, c.demands(v)...)
		problems = append(problems, imageProblems(ctx, v, subject, img, within)...)
		return nil
	}
	none := fmt.Errorf("%s: %w", img.Descriptor.Digest, attest.ErrNone)
	if c.store != nil {
		none = verify(c.store, c.place, img.Descriptor.Digest)
	}
	if within != nil {
		if errors.Is(none, attest.ErrNone) || errors.Is(none, attest.ErrUntrusted) {
			none = nil // others may put what they like beside an image
		}
		if err := verify(within, "embedded", within.Image.Digest); err != nil {
			problems = append(problems, bless.Problem{Layer: len(img.Layers), Reason: "embedded attestation: " + err.Error()})
		}
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if none != nil {
		problems = append(problems, bless.Problem{Reason: "attestation: " + none.Error()})
	}
	return all, slices.Compact(problems), nil
}

// keysOf is the key that the blessing of an image names, for those who trust an identity
// and no key: the identity vouches for it. Without a blessing there is none, and
// check says why.
func (c *chain) keysOf(ctx context.Context, manifest v1.Descriptor) []crypto.PublicKey {
	var v *attest.Verified
	err := attest.ErrNone
	if c.store != nil {
		v, err = attest.VerifyFiles(ctx, c.store, manifest.Digest, c.trust)
	}
	if err != nil {
		within, e := embedded.Open(ctx, c.src, manifest)
		if e != nil {
			return nil
		}
		if v, err = attest.VerifyFiles(ctx, within, within.Image.Digest, c.trust); err != nil {
			return nil
		}
	}
	cert, err := x509.ParseCertificate(v.Blessing.Key.Certificate)
	if err != nil {
		return nil // a key that has no certificate
	}
	return []crypto.PublicKey{cert.PublicKey}
}

// demands holds a blessing against what the user asked of it: not every true one will do.
func (c *chain) demands(v *attest.Verified) (problems []bless.Problem) {
	p := &v.Blessing
	if len(c.source) > 0 {
		got := []v1.Hash{{Algorithm: "sha256", Hex: p.Source.Digest["sha256"]}}
		if p.SourceIndex != nil {
			got = append(got, v1.Hash{Algorithm: "sha256", Hex: p.SourceIndex.Digest["sha256"]})
		}
		if !slices.ContainsFunc(got, func(h v1.Hash) bool { return slices.Contains(c.source, h) }) {
			problems = append(problems, bless.Problem{Reason: "this is the blessing of another source image, an older one perhaps",
				Expected: c.source[0].String(), Got: got[0].String()})
		}
	}
	if !c.notBefore.IsZero() {
		made, err := time.Parse(time.RFC3339, p.Created)
		switch {
		case err != nil:
			problems = append(problems, bless.Problem{Reason: "the blessing does not say when it was made", Expected: "not before " + c.notBefore.UTC().Format(time.RFC3339), Got: "none"})
		case made.Before(c.notBefore):
			problems = append(problems, bless.Problem{Reason: "the blessing is too old", Expected: "not before " + c.notBefore.UTC().Format(time.RFC3339), Got: p.Created})
		}
	}
	return problems
}

// imageProblems holds an image against one set of attestations, made of subject. Within are
// those embedded in the image, or nil; what was said before they were does not speak of their layer.
func imageProblems(ctx context.Context, v *attest.Verified, subject v1.Hash, img bless.ImageCheck, within *embedded.Attestations) []bless.Problem {
	var problems []bless.Problem
	add := func(layer int, reason, expected, got string) {
		problems = append(problems, bless.Problem{Layer: layer, Reason: reason, Expected: expected, Got: got})
	}
	layers := img.Layers
	if subject == img.Descriptor.Digest && v.Blessing.Embedded == nil {
		within = nil // bless --detached speaks of all layers, whatever is in the last one
	}
	if within != nil {
		top := len(layers) - 1
		if e := v.Blessing.Embedded; e != nil && e.DiffID != within.DiffID {
			add(top+1, "not the embedded layer that the blessing names", e.DiffID.String(), within.DiffID.String())
		}
		layers = layers[:top]
	} else if v.Blessing.Embedded != nil {
		add(0, "the layer with the embedded attestations is missing", v.Blessing.Embedded.DiffID.String(), "none")
		return problems
	}
	if n := len(v.Blessing.Layers); n != len(layers) {
		add(0, "the blessing names another number of layers", strconv.Itoa(n), strconv.Itoa(len(layers)))
		return problems
	}
	for i, l := range layers {
		said := v.Blessing.Layers[i]
		if said.Blessed.DiffID != l.DiffID {
			add(i+1, "not the layer that the blessing names", said.Blessed.DiffID.String(), l.DiffID.String())
		}
		content := said.Source.DiffID
		if said.Content != nil {
			content = *said.Content
		}
		if content != l.SourceDiffID {
			add(i+1, "without our records it is not the source layer that the blessing names: its content was changed", content.String(), l.SourceDiffID.String())
		}
	}
	files, err := effectiveTree(layers)
	if err != nil {
		add(0, err.Error(), "", "")
		return problems
	}
	if within != nil && files.Lookup(embedded.Root) != nil {
		add(len(img.Layers), "lies over a "+embedded.Root+" that the image has itself", "", "")
	}
	if err := attest.CheckFiles(v.Files, files); err != nil {
		add(0, "the file list is not the image: "+err.Error(), "", "")
	}
	for _, s := range v.Blessing.SBOMs {
		doc, err := v.SBOM(ctx, s.MediaType)
		if err != nil {
			add(0, err.Error(), "", "")
		} else if err := sbom.Check(doc, files); err != nil {
			add(0, "the SBOM ("+s.MediaType+") is not the image: "+err.Error(), "", "")
		}
	}
	return problems
}

func effectiveTree(layers []bless.LayerCheck) (*tree.Tree, error) {
	var files [][]tree.File
	for _, l := range layers {
		files = append(files, l.Files)
	}
	return tree.Flatten(files)
}
