// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/sbom"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/tree"
)

// VerifyOptions are the choices of Verify.
type VerifyOptions struct {
	// Of these, Verify sets Keys and Files.
	bless.VerifyOptions
	// Trust says whose attestations count. Files must be signed by one of Trust.Keys, or by a delegated key that one
	// of them certified.
	Trust attest.Trust
	// Vouched trusts the key that a trusted attestation names for the files, for those who trust an
	// identity and no key.
	Vouched bool
	// Places are where attestations are looked for, see locate.Places; none: they are not looked at.
	Places []locate.Place
	// Source is what must have been blessed: any of these digests; none: anything.
	Source []v1.Hash
	// NotBefore is the time before which a blessing does not count; zero: none.
	NotBefore time.Time
}

// Verified is what Verify found. Its JSON form is the output of `sbom-bless verify --output json`.
type Verified struct {
	*bless.VerifyResult
	Attestations []Attestations `json:"attestations"`
}

// Verify checks every byte of the image, see bless.Verify, and holds it against what its attestations say,
// wherever they are. What is wrong is in the result; the error is for what kept Verify from looking.
func Verify(ctx context.Context, src transport.Source, o VerifyOptions) (*Verified, error) {
	o.Files, o.Keys = len(o.Places) > 0, o.Trust.Keys
	v, err := bless.OpenVerify(ctx, src, o.VerifyOptions)
	if err != nil {
		return nil, err
	}
	var keys []crypto.PublicKey
	for _, img := range v.Images() {
		if o.Vouched {
			keys = append(keys, o.vouched(ctx, img.Manifest)...)
		}
		if img.Certificate != nil {
			if key, err := key.CertifiedBy(o.Trust.Keys, img.Certificate); err == nil {
				keys = append(keys, key) // else what its key signed is reported, file by file
			}
		}
	}
	result := &Verified{Attestations: []Attestations{}}
	if result.VerifyResult, err = v.Run(ctx, keys...); err != nil || len(o.Places) == 0 {
		return result, err
	}
	defer stage(o.Progress, "checking attestations")()
	var said []bless.Problem // of attestations, which come first: a wrong signer explains the files
	for _, img := range result.Images {
		found, problems, err := o.image(ctx, img)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", img.Platform, err)
		}
		for _, p := range problems {
			p.Platform = img.Platform
			said = append(said, p)
		}
		result.Attestations = append(result.Attestations, found...)
	}
	result.Problems = slices.Concat(said, result.Problems)
	return result, nil
}

// vouched is the key that the blessing of an image names. Without a blessing there is none, and
// image says why.
func (o *VerifyOptions) vouched(ctx context.Context, manifest v1.Descriptor) []crypto.PublicKey {
	found, err := locate.First(ctx, o.Places, locate.Query{Image: manifest, Trust: o.Trust, FilesOnly: true})
	if err != nil {
		return nil
	}
	cert, err := x509.ParseCertificate(found.Blessing.Key.Certificate)
	if err != nil {
		return nil // a key that has no certificate
	}
	return []crypto.PublicKey{cert.PublicKey}
}

// image holds one image against its attestations, in each place that has some.
func (o *VerifyOptions) image(ctx context.Context, img bless.ImageCheck) (all []Attestations, problems []bless.Problem, err error) {
	answers, err := locate.All(ctx, o.Places, locate.Query{Image: img.Descriptor, Trust: o.Trust})
	if err != nil {
		return nil, nil, err
	}
	var within *embedded.Attestations
	for _, a := range answers {
		switch {
		case a.Within != nil:
			within = a.Within
		case a.Place == locate.Embedded && !errors.Is(a.Err, attest.ErrNone):
			return nil, []bless.Problem{{Reason: a.Err.Error()}}, nil
		}
	}
	none := fmt.Errorf("%s: %w", img.Descriptor.Digest, attest.ErrNone) // what is wrong beside the image
	for _, a := range besideFirst(answers) {
		if a.Place != locate.Embedded {
			none = a.Err
		}
		switch {
		case a.Err == nil:
			all = append(all, describe(&a.Found, img.Platform))
			problems = append(problems, o.demands(a.Verified)...)
			problems = append(problems, imageProblems(ctx, a.Verified, a.Subject, img, within)...)
		case a.Within != nil:
			problems = append(problems, bless.Problem{Layer: len(img.Layers), Reason: "embedded attestation: " + a.Err.Error()})
		}
	}
	if within != nil && (errors.Is(none, attest.ErrNone) || errors.Is(none, attest.ErrUntrusted)) {
		none = nil // others may put what they like beside an image
	}
	if none != nil {
		problems = append(problems, bless.Problem{Reason: "attestation: " + none.Error()})
	}
	return all, slices.Compact(problems), nil
}

// besideFirst is the order in which answers are shown.
func besideFirst(answers []locate.Answer) []locate.Answer {
	rank := func(a locate.Answer) int {
		if a.Place == locate.Embedded {
			return 1
		}
		return 0
	}
	sorted := slices.Clone(answers)
	slices.SortStableFunc(sorted, func(a, b locate.Answer) int { return rank(a) - rank(b) })
	return sorted
}

// demands holds a blessing against what the user asked of it: not every true one will do.
func (o *VerifyOptions) demands(v *attest.Verified) (problems []bless.Problem) {
	p := &v.Blessing
	if len(o.Source) > 0 {
		got := []v1.Hash{{Algorithm: "sha256", Hex: p.Source.Digest["sha256"]}}
		if p.SourceIndex != nil {
			got = append(got, v1.Hash{Algorithm: "sha256", Hex: p.SourceIndex.Digest["sha256"]})
		}
		if !slices.ContainsFunc(got, func(h v1.Hash) bool { return slices.Contains(o.Source, h) }) {
			problems = append(problems, bless.Problem{Reason: "this is the blessing of another source image, an older one perhaps",
				Expected: o.Source[0].String(), Got: got[0].String()})
		}
	}
	if !o.NotBefore.IsZero() {
		made, err := time.Parse(time.RFC3339, p.Created)
		switch {
		case err != nil:
			problems = append(problems, bless.Problem{Reason: "the blessing does not say when it was made", Expected: "not before " + o.NotBefore.UTC().Format(time.RFC3339), Got: "none"})
		case made.Before(o.NotBefore):
			problems = append(problems, bless.Problem{Reason: "the blessing is too old", Expected: "not before " + o.NotBefore.UTC().Format(time.RFC3339), Got: p.Created})
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
		// docker save gives manifest and layers the types of its family together. Only a mix is wrong.
		manifest := img.Descriptor.MediaType
		if was, is := said.Source.MediaType, l.Descriptor.MediaType; was != "" && isDocker(was) == isDocker(manifest) && isDocker(is) != isDocker(manifest) {
			add(i+1, "its media type is of another family than in the source image, and runtimes refuse a manifest that mixes them", string(was), string(is))
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

// isDocker tells Docker's media types from those of OCI.
func isDocker(mt types.MediaType) bool {
	return strings.HasPrefix(string(mt), "application/vnd.docker.")
}

func effectiveTree(layers []bless.LayerCheck) (*tree.Tree, error) {
	var files [][]tree.File
	for _, l := range layers {
		files = append(files, l.Files)
	}
	return tree.Flatten(files)
}
