// SPDX-License-Identifier: Apache-2.0

package cli

// The attestations of an image as verify and inspect show them.

import (
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/bless"
)

// verified is the JSON form of verify.
type verified struct {
	*bless.VerifyResult
	Attestations []attestations `json:"attestations"`
}

// attestations are those of one image in one place.
type attestations struct {
	Platform string `json:"platform"`
	// Place is "referrers" (beside the image), "directory" or "embedded".
	Place string `json:"place"`
	// Subject is the manifest that they are about. Embedded ones are about the manifest without their layer.
	Subject v1.Hash `json:"subject"`
	// Statements are those that count, Rejected says why others do not.
	Statements []statement `json:"statements"`
	Rejected   []string    `json:"rejected,omitempty"`
	// Blessing is what the blessing says, but for the layers, which are checked one by one.
	Blessing blessing `json:"blessing"`
}

// statement is one signed statement.
type statement struct {
	PredicateType string `json:"predicateType"`
	// Digest is that of the referrer's manifest.
	Digest v1.Hash       `json:"digest"`
	Signer attest.Signed `json:"signer"`
}

// blessing is a part of attest.Predicate.
type blessing struct {
	Source      attest.Resource   `json:"source"`
	SourceIndex *attest.Resource  `json:"sourceIndex,omitempty"`
	Key         attest.Key        `json:"key"`
	Counts      attest.Counts     `json:"counts"`
	FileList    attest.Resource   `json:"fileList"`
	SBOMs       []attest.Resource `json:"sboms"`
	Version     string            `json:"version"`
	Created     string            `json:"created,omitempty"`
}

func describe(v *attest.Verified, platform, place string, subject v1.Hash) attestations {
	p := &v.Blessing
	a := attestations{
		Platform: platform, Place: place, Subject: subject, Statements: []statement{},
		Blessing: blessing{p.Source, p.SourceIndex, p.Key, p.Counts, p.FileList, p.SBOMs, p.Version, p.Created},
	}
	for i := range v.Attestations {
		s := &v.Attestations[i]
		a.Statements = append(a.Statements, statement{s.Statement.PredicateType, s.Referrer.Digest, s.Signed()})
	}
	slices.SortStableFunc(a.Statements, func(x, y statement) int { return slices.Compare([]byte(x.PredicateType), []byte(y.PredicateType)) })
	for _, err := range v.Rejected {
		a.Rejected = append(a.Rejected, err.Error())
	}
	return a
}

// summary is one line for a person, with the platform if there are several.
func (a *attestations) summary(several bool) string {
	what := "the attestations"
	if a.Place == "embedded" {
		what = "the attestations embedded in the image"
	}
	if several {
		what += " of " + a.Platform
	}
	same := "source layers and file list"
	switch len(a.Blessing.SBOMs) {
	case 0:
	case 1:
		same = "source layers, file list and SBOM"
	default:
		same = "source layers, file list and SBOMs"
	}
	return what + " say the same: " + same
}
