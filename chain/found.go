// SPDX-License-Identifier: Apache-2.0

package chain

// The attestations of an image as verify and inspect show them.

import (
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/locate"
)

// Attestations are those of one image in one place.
type Attestations struct {
	Platform string `json:"platform"`
	// Place is "referrers" (beside the image), "directory" or "embedded".
	Place string `json:"place"`
	// Subject is the manifest that they are about. Embedded ones are about the manifest without their layer.
	Subject v1.Hash `json:"subject"`
	// Statements are those that count, Rejected says why others do not.
	Statements []Statement `json:"statements"`
	Rejected   []string    `json:"rejected,omitempty"`
	// Blessing is what the blessing says, but for the layers, which are checked one by one.
	Blessing Blessing `json:"blessing"`
}

// Statement is one signed statement.
type Statement struct {
	PredicateType string `json:"predicateType"`
	// Digest is that of the referrer's manifest.
	Digest v1.Hash       `json:"digest"`
	Signer attest.Signed `json:"signer"`
}

// Blessing is a part of attest.Predicate.
type Blessing struct {
	Source      attest.Resource   `json:"source"`
	SourceIndex *attest.Resource  `json:"sourceIndex,omitempty"`
	Key         attest.Key        `json:"key"`
	Counts      attest.Counts     `json:"counts"`
	FileList    attest.Resource   `json:"fileList"`
	SBOMs       []attest.Resource `json:"sboms"`
	Version     string            `json:"version"`
	Created     string            `json:"created,omitempty"`
}

// describe shows what was found of an image in one place.
func describe(f *locate.Found, platform string) Attestations {
	v, p := f.Verified, &f.Blessing
	a := Attestations{
		Platform: platform, Place: f.Place, Subject: f.Subject, Statements: []Statement{},
		Blessing: Blessing{p.Source, p.SourceIndex, p.Key, p.Counts, p.FileList, p.SBOMs, p.Version, p.Created},
	}
	for i := range v.Attestations {
		s := &v.Attestations[i]
		a.Statements = append(a.Statements, Statement{s.Statement.PredicateType, s.Referrer.Digest, s.Signed()})
	}
	slices.SortStableFunc(a.Statements, func(x, y Statement) int { return slices.Compare([]byte(x.PredicateType), []byte(y.PredicateType)) })
	for _, err := range v.Rejected {
		a.Rejected = append(a.Rejected, err.Error())
	}
	return a
}

// unread describes attestations of an image that say nothing that counts.
func unread(f *locate.Found, platform string, err error) Attestations {
	return Attestations{Platform: platform, Place: f.Place, Subject: f.Subject, Statements: []Statement{}, Rejected: []string{err.Error()}}
}

// Summary is one line for a person, with the platform if there are several.
func (a *Attestations) Summary(several bool) string {
	what := "the attestations"
	if a.Place == locate.Embedded {
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
