// SPDX-License-Identifier: Apache-2.0

// Package locate finds the attestations of an image in the places that may have them: a
// directory that somebody names, the image itself, and the referrers beside it.
//
// [Places] gives the places in the one order that every command uses. [First] stops at the first
// place with an attestation that counts; [All] asks each of them. docs/attestation.md ("Which
// attestation counts") says why the order is what it is.
package locate

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Names of places, as JSON output has them.
const (
	Directory = "directory"
	Embedded  = "embedded"
	Referrers = "referrers"
)

// ErrUnreachable is wrapped by errors of a place that gives no answer now and may give one later.
var ErrUnreachable = errors.New("no answer")

// Query is what is asked of each place.
type Query struct {
	Image v1.Descriptor
	Trust attest.Trust
	// FilesOnly leaves statements unread that are not about files, as attest.VerifyFiles does.
	FilesOnly bool
	// Layers holds the manifest's layers against the blessing, for callers that read none of them.
	Layers bool
}

// Found is what a place has.
type Found struct {
	Place string
	// Subject is the manifest that the statements are about. Embedded ones are about the manifest without
	// their layer.
	Subject v1.Hash
	// Within is the embedded layer; nil elsewhere, and if the image has none.
	Within *embedded.Attestations
	// Verified is nil if nothing there counts.
	*attest.Verified
}

// Place may have attestations of an image. The error of Find wraps attest.ErrNone, attest.ErrUntrusted or
// ErrUnreachable, or says what is damaged; Found says as much as is known all the same.
type Place interface {
	Find(ctx context.Context, q Query) (Found, error)
}

func (q *Query) verify(ctx context.Context, f Found, store transport.ReadStore) (Found, error) {
	verify := attest.Verify
	if q.FilesOnly {
		verify = attest.VerifyFiles
	}
	v, err := verify(ctx, store, f.Subject, q.Trust)
	f.Verified = v
	return f, err
}

// Beside is a store whose attestations have the image as subject.
type Beside struct {
	Name  string // Directory or Referrers
	Store transport.ReadStore
}

// Find reads the referrers of the image.
func (p Beside) Find(ctx context.Context, q Query) (Found, error) {
	return q.verify(ctx, Found{Place: p.Name, Subject: q.Image.Digest}, p.Store)
}

// Within is the image itself, or a store that has it.
type Within struct{ Content transport.Fetcher }

// Find opens the last layer of the image.
func (p Within) Find(ctx context.Context, q Query) (Found, error) {
	f := Found{Place: Embedded, Subject: q.Image.Digest}
	within, err := embedded.Open(ctx, p.Content, q.Image)
	if err != nil {
		return f, err
	}
	f.Within, f.Subject = within, within.Image.Digest
	if f, err = q.verify(ctx, f, within); err == nil && q.Layers {
		err = within.Check(&f.Blessing)
	}
	if err != nil {
		f.Verified = nil
	}
	return f, err
}

// Places are the places for an image, in the order in which they count: the directory that somebody names, if
// one is named, else what is beside the image, if content can tell; and before the latter, the image itself.
func Places(dir string, content transport.Fetcher) []Place {
	if dir != "" {
		return []Place{Beside{Directory, transport.OpenDir(dir)}, Within{content}}
	}
	places := []Place{Within{content}}
	if store, ok := content.(transport.ReadStore); ok {
		places = append(places, Beside{Referrers, store})
	}
	return places
}

// Answer is what one place answered.
type Answer struct {
	Found
	Err error
}

// All asks each place. The error is that of ctx.
func All(ctx context.Context, places []Place, q Query) ([]Answer, error) {
	var all []Answer
	for _, p := range places {
		f, err := p.Find(ctx, q)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		all = append(all, Answer{f, err})
	}
	return all, nil
}

// First gives what the first place has that counts. Without one, the error is that of the place that knew
// most, see [Rank].
func First(ctx context.Context, places []Place, q Query) (Found, error) {
	worst := fmt.Errorf("%s: %w", q.Image.Digest, attest.ErrNone)
	for _, p := range places {
		f, err := p.Find(ctx, q)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(ctx.Err(), context.Canceled):
			return Found{}, ctx.Err()
		case Rank(err) > Rank(worst):
			worst = err
		}
	}
	return Found{}, worst
}

// Ranks of errors, by how much they tell.
const (
	RankNone        = iota // the place has no attestation
	RankUnreachable        // it may have one
	RankDamaged            // it has one that cannot be read, or that is about something else
	RankUntrusted          // it has some, by signers that are not trusted
)

// Rank is the rank of an error of Find.
func Rank(err error) int {
	switch {
	case errors.Is(err, ErrUnreachable):
		return RankUnreachable
	case errors.Is(err, attest.ErrNone):
		return RankNone
	case errors.Is(err, attest.ErrUntrusted):
		return RankUntrusted
	}
	return RankDamaged
}
