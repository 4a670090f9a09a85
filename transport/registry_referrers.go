// SPDX-License-Identifier: Apache-2.0

package transport

// Referrers in registries: the API of distribution specification 1.1, and the
// index under a fallback tag where there is none.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxReferrerPages bounds what one list may be spread over.
const maxReferrerPages = 100

// Referrers asks the API, and where that has nothing the fallback tag: a registry
// that got the API lately may not have taken over the old lists.
func (r *registry) Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	list, err := r.referrers(ctx, subject, artifactType)
	return list, r.explain(err, "referrers of %s: ", subject)
}

func (r *registry) referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	if _, err := parseDigest(subject.String()); err != nil {
		return nil, err
	}
	var list referrerList
	found, _, err := r.referrersAPI(ctx, subject, artifactType)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		x, err := r.fallbackIndex(ctx, subject)
		if err != nil {
			return nil, err
		}
		for _, e := range x.entries {
			found = append(found, e.desc)
		}
	}
	for _, desc := range found {
		desc, err := r.complete(ctx, desc)
		if err != nil {
			return nil, err
		}
		list.add(desc, artifactType) // filtering is up to the registry
	}
	return list.sorted(), nil
}

// complete reads the manifest where the list says too little: cosign 3.1 writes
// no annotations under the fallback tag, and go-containerregistry's registry
// takes the type of the empty config for the artifactType.
func (r *registry) complete(ctx context.Context, desc v1.Descriptor) (v1.Descriptor, error) {
	if desc.Annotations != nil && desc.ArtifactType != "" && desc.ArtifactType != string(types.OCIEmptyJSON) {
		return desc, nil
	}
	raw, err := r.Manifest(ctx, desc)
	if errors.Is(err, ErrNotFound) {
		return desc, nil // deleted, but still listed
	} else if err != nil {
		return desc, err
	}
	head, err := parseHead(raw, string(desc.MediaType))
	if err != nil {
		return desc, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return head.referrer(desc), nil
}

// referrersAPI tells also whether there is such an API.
func (r *registry) referrersAPI(ctx context.Context, subject v1.Hash, artifactType string) (list []v1.Descriptor, has bool, err error) {
	next := "referrers/" + subject.String()
	if artifactType != "" {
		next += "?artifactType=" + url.QueryEscape(artifactType)
	}
	for range maxReferrerPages {
		var page manifestHead
		var resp *http.Response
		err := r.o.patience.retry(ctx, 0, func(ctx context.Context) error {
			resp, err = r.send(ctx, request{
				method: http.MethodGet, path: next, header: http.Header{"Accept": {string(types.OCIImageIndex)}},
				codes: []int{http.StatusOK, http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable},
			})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if !isReferrersAnswer(resp) {
				return nil
			}
			has = true
			raw, err := readLimited(resp.Body, r.o.MaxManifest)
			if err != nil {
				return err
			}
			page = manifestHead{}
			return json.Unmarshal(raw, &page)
		})
		if err != nil {
			return nil, false, err
		}
		list = append(list, page.Manifests...)
		if next, err = nextPage(resp); next == "" || err != nil {
			return list, has, err
		}
	}
	return nil, false, fmt.Errorf("more than %d pages", maxReferrerPages)
}

// isReferrersAnswer tells the API's answer from that of a web page which answers
// everything.
func isReferrersAnswer(resp *http.Response) bool {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && resp.StatusCode == http.StatusOK && t == string(types.OCIImageIndex)
}

// nextPage reads the Link header: <URL>; rel="next".
func nextPage(resp *http.Response) (string, error) {
	link, params, ok := strings.Cut(resp.Header.Get("Link"), ">")
	if !ok || !strings.Contains(params, `next`) {
		return "", nil
	}
	u, err := resp.Request.URL.Parse(strings.TrimPrefix(strings.TrimSpace(link), "<"))
	if err != nil {
		return "", err
	}
	if u.Host != resp.Request.URL.Host || u.Scheme != resp.Request.URL.Scheme {
		return "", fmt.Errorf("the next page is on another host, %s", u.Host)
	}
	return u.String(), nil
}

// fallbackIndex fetches the index under the fallback tag; it is empty if there
// is none.
func (r *registry) fallbackIndex(ctx context.Context, subject v1.Hash) (*index, error) {
	raw, _, err := r.getManifest(ctx, fallbackTag(subject))
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return newIndex(), nil
	}
	var x *index
	if err == nil {
		x, err = parseIndex(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("tag %s: %w", fallbackTag(subject), err)
	}
	return x, nil
}

// ErrNoReferrers means that a registry does not take manifests that refer to an image, or not the list of them.
var ErrNoReferrers = errors.New("the registry does not take attestations beside an image")

// refused tells a registry's refusal of a referrer, or of the list of them, from other failures.
func refused(err error) error {
	var answer *transport.Error
	if errors.As(err, &answer) {
		switch answer.StatusCode {
		case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusConflict, http.StatusPreconditionFailed,
			http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusNotImplemented:
			return fmt.Errorf("%w: %w", ErrNoReferrers, err)
		}
	}
	return err
}

// list adds referrers to the list under the fallback tag, unless the registry has the
// API. There is no way to do that at one stroke: another process may write the
// tag between our reading and writing. So we look again afterwards; and again later, as some registries
// go on to show what a tag was.
func (d *registryDestination) list(ctx context.Context, subject v1.Hash, referrers []v1.Descriptor) error {
	d.referrers.Lock()
	defer d.referrers.Unlock()
	if _, has, err := d.referrersAPI(ctx, subject, ""); has || err != nil {
		return err
	}
	pause := d.o.patience.pause
	var before, written v1.Hash // lists: the one that was there when we wrote last, and ours
	for try := 0; ; try++ {
		x, err := d.fallbackIndex(ctx, subject)
		if err != nil {
			return err
		}
		seen, err := x.digest()
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(referrers), func(desc v1.Descriptor) bool {
			return slices.ContainsFunc(x.entries, func(e entry) bool { return e.desc.Digest == desc.Digest })
		})
		stale := try > 0 && seen == before
		switch {
		case len(missing) == 0:
			return nil
		case try == d.o.patience.tries && stale:
			return fmt.Errorf("tag %s: written as %s, and it still shows what was there before, %s: does a proxy or cache stand before the registry?", fallbackTag(subject), written, seen)
		case try == d.o.patience.tries:
			return fmt.Errorf("tag %s: written %d times, and each time another list was there that lacks ours, at last %s: does somebody else write it?", fallbackTag(subject), try, seen)
		}
		if written, err = d.putFallback(ctx, subject, x, missing); err != nil {
			return err
		}
		if before = seen; try == 0 {
			continue // most registries show it at once
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
		pause = min(2*pause, longest)
	}
}

// putFallback writes the list with more referrers, and gives its digest.
func (d *registryDestination) putFallback(ctx context.Context, subject v1.Hash, x *index, more []v1.Descriptor) (v1.Hash, error) {
	for _, desc := range more {
		e, err := newEntry(desc)
		if err != nil {
			return v1.Hash{}, err
		}
		x.entries = append(x.entries, e)
	}
	// The order is that of the digests, so that the same referrers make the same
	// index, whoever came first.
	slices.SortFunc(x.entries, func(a, b entry) int { return cmp.Compare(a.desc.Digest.String(), b.desc.Digest.String()) })
	raw, err := x.marshal()
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := sum(raw, v1.Hash{})
	if err != nil {
		return v1.Hash{}, err
	}
	list := v1.Descriptor{MediaType: types.OCIImageIndex, Digest: digest, Size: int64(len(raw))}
	if _, err := d.putRaw(ctx, fallbackTag(subject), list, raw); err != nil {
		return v1.Hash{}, fmt.Errorf("tag %s: %w", fallbackTag(subject), refused(err))
	}
	return digest, nil
}

// digest is that of the list as it would be written.
func (x *index) digest() (v1.Hash, error) {
	raw, err := x.marshal()
	if err != nil {
		return v1.Hash{}, err
	}
	return sum(raw, v1.Hash{})
}
