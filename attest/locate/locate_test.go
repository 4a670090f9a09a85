// SPDX-License-Identifier: Apache-2.0

package locate

import (
	"context"
	"errors"
	"fmt"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/transport"
)

// answer is a place with a fixed answer.
type answer struct {
	name string
	err  error
}

func (a answer) Find(context.Context, Query) (Found, error) { return Found{Place: a.name}, a.err }

func TestFirstTakesTheFirstThatCounts(t *testing.T) {
	none := answer{"none", fmt.Errorf("x: %w", attest.ErrNone)}
	silent := answer{"silent", fmt.Errorf("x: %w", ErrUnreachable)}
	damaged := answer{"damaged", errors.New("x: a digest is wrong")}
	foreign := answer{"foreign", fmt.Errorf("x: %w", attest.ErrUntrusted)}
	good, better := answer{"good", nil}, answer{"better", nil}
	for name, c := range map[string]struct {
		places []Place
		place  string
		rank   int
	}{
		"no place":                   {nil, "", RankNone},
		"the first of two":           {[]Place{good, better}, "good", 0},
		"one behind all errors":      {[]Place{none, silent, damaged, foreign, good}, "good", 0},
		"none and silence":           {[]Place{none, silent, none}, "", RankUnreachable},
		"damage tells more":          {[]Place{silent, damaged, silent}, "", RankDamaged},
		"another signer tells most":  {[]Place{foreign, damaged, silent, none}, "", RankUntrusted},
		"silence of unknown content": {[]Place{answer{"", fmt.Errorf("%w: %w", ErrUnreachable, attest.ErrNone)}}, "", RankUnreachable},
	} {
		f, err := First(t.Context(), c.places, Query{})
		if c.place != "" && (err != nil || f.Place != c.place) || c.place == "" && (err == nil || Rank(err) != c.rank) {
			t.Errorf("%s: %s, %v", name, f.Place, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := First(ctx, []Place{damaged, good}, Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := All(ctx, []Place{good}, Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestPlaces holds the order that docs/attestation.md promises.
func TestPlaces(t *testing.T) {
	image := transport.NewMemory(nil)
	q := Query{Image: v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "00"}}}
	for dir, want := range map[string][]string{"": {Embedded, Referrers}, t.TempDir(): {Directory, Embedded}} {
		var got []string
		for _, p := range Places(dir, image) {
			f, err := p.Find(t.Context(), q)
			if err == nil {
				t.Errorf("%s: there is none", f.Place)
			}
			got = append(got, f.Place)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("with directory %q: %v, want %v", dir, got, want)
		}
	}
	bare := struct{ transport.Fetcher }{image} // cannot tell what is beside an image
	if n := len(Places("", bare)); n != 1 {
		t.Errorf("%d places", n)
	}
}
