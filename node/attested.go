// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/singleflight"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/policy"
	"github.com/sbom-bless/sbom-bless/transport"
)

// maxKept is how many images' attestations are kept in the store.
const maxKept = 256

// Attested gives lists from attestations.
type Attested struct {
	Trust   attest.Trust
	Sources []policy.Source
	// Store is a directory that keeps what came from a registry or an image. It is
	// trusted no more than those: each use verifies it anew.
	Store string
	// Unkept, unless nil, is told why a list could not be kept there. It counts all the same.
	Unkept func(error)
	// Metrics count; nil: nobody does.
	Metrics *Metrics

	flights singleflight.Group
}

// List is a [Lists] function.
func (a *Attested) List(ctx context.Context, c *Container) (List, error) {
	subject, err := v1.NewHash(c.Digest)
	if err != nil {
		return List{}, &Unblessed{ReasonNoImage, err}
	}
	own, key := *c, c.image()
	if c.content == nil { // it finds less than one who has the image
		key = "without content: " + key
	}
	flight := a.flights.DoChan(key, func() (any, error) {
		// Others wait for it too, when the caller has gone.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return a.list(ctx, &own, subject)
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return List{}, r.Err
		}
		return r.Val.(List), nil
	case <-ctx.Done():
		return List{}, ctx.Err()
	}
}

// list asks what is kept, then each source, in the order of the policy.
func (a *Attested) list(ctx context.Context, c *Container, subject v1.Hash) (List, error) {
	kept := transport.OpenDir(filepath.Join(a.Store, "attestations", subject.Hex))
	q := locate.Query{Image: v1.Descriptor{Digest: subject}, Trust: a.Trust, FilesOnly: true, Layers: true}
	found, err := a.fromKept(ctx, kept, q)
	if err == nil {
		now := time.Now()
		a.unkept(os.Chtimes(kept.Path(), now, now)) // by which clean finds those not in use
	} else {
		var places []locate.Place
		for _, s := range a.Sources {
			places = append(places, source{a, s, c, kept})
		}
		found, err = locate.First(ctx, places, q)
	}
	switch {
	case err == nil:
		return listOf(c.image(), found.Verified)
	case locate.Rank(err) == locate.RankNone && c.Image == "":
		err = fmt.Errorf("%w, and a digest alone says no registry\nhint: write NAME@%s in \"join\"", err, subject)
	}
	return List{}, &Unblessed{reasons[locate.Rank(err)], err}
}

// reasons are the codes of locate's ranks.
var reasons = [...]string{
	locate.RankNone: ReasonNoAttestation, locate.RankUnreachable: ReasonUnreachable,
	locate.RankDamaged: ReasonDamaged, locate.RankUntrusted: ReasonUntrusted,
}

// fromKept asks the directory that keeps what came from a registry or from the image itself.
func (a *Attested) fromKept(ctx context.Context, kept *transport.Dir, q locate.Query) (locate.Found, error) {
	places := locate.Places(kept.Path(), kept)
	manifest, err := kept.Describe(q.Image.Digest)
	if err == nil {
		q.Image = manifest
	} else {
		places = places[:1] // nothing of the image is kept
	}
	return locate.First(ctx, places, q)
}

// source is a place that the policy names.
type source struct {
	*Attested
	policy.Source
	c    *Container
	kept *transport.Dir
}

// Find asks the source, and says in an error which one it is.
func (s source) Find(ctx context.Context, q locate.Query) (locate.Found, error) {
	begun := time.Now()
	found, err := s.from(ctx, q)
	if err == nil {
		s.Metrics.fetched(string(s.Kind), begun, nil)
		return found, nil
	}
	var network net.Error
	if locate.Rank(err) == locate.RankDamaged && (errors.Is(err, errNotConnected) ||
		s.Kind == policy.Registry && (errors.As(err, &network) || errors.Is(err, errRegistry) || errors.Is(err, context.DeadlineExceeded))) {
		err = fmt.Errorf("%w: %w", locate.ErrUnreachable, err)
	}
	s.Metrics.fetched(string(s.Kind), begun, err)
	place := string(s.Kind)
	if s.Path != "" {
		place += " " + s.Path
	}
	return found, fmt.Errorf("%s: %w", place, err)
}

// errRegistry is wrapped by errors of a registry that answers, but not with what
// was asked for.
var errRegistry = errors.New("the registry does not give it")

// from asks the source. What a registry or an image gives takes the place of what is kept
// when it is verified, not before.
func (s source) from(ctx context.Context, q locate.Query) (found locate.Found, err error) {
	a, c, kept := s.Attested, s.c, s.kept
	var k keeping
	switch s.Kind {
	case policy.Directory:
		return locate.Beside{Name: locate.Directory, Store: transport.OpenDir(s.Path)}.Find(ctx, q)
	case policy.Embedded:
		if c.content == nil && c.Runtime == containerdName {
			return found, errNotConnected // not yet, after a restart: the next scan brings it
		}
		if c.content == nil {
			who := c.Runtime + " does not keep images as they were"
			if c.Runtime == "" {
				who = "a joined image is not at hand"
			}
			return found, fmt.Errorf("%s: %w", who, attest.ErrNone)
		}
		k.Fetcher = c.content
		k.err = a.fresh(&k)
		q.Image = c.manifest
		found, err = locate.Within{Content: &k}.Find(ctx, q)
	case policy.Registry:
		k.err = a.fresh(&k)
		found, err = askRegistry(ctx, c, q, &k)
	}
	if err != nil {
		a.unkept(k.drop())
		return found, err
	}
	if k.err == nil {
		k.err = errors.Join(k.to.Commit(ctx), k.to.Close())
	}
	if k.err == nil {
		k.err = errors.Join(os.RemoveAll(kept.Path()), os.Rename(k.dir, kept.Path()))
	}
	if k.err != nil {
		a.unkept(errors.Join(k.err, k.drop()))
		return found, nil
	}
	a.unkept(a.clean())
	return found, nil
}

// fresh makes a directory to keep things in. One that a crash leaves goes with those that
// were used longest ago.
func (a *Attested) fresh(k *keeping) error {
	all := filepath.Join(a.Store, "attestations")
	err := os.MkdirAll(all, 0o700)
	if err == nil {
		k.dir, err = os.MkdirTemp(all, ".new-*")
	}
	if err == nil {
		k.to, err = transport.WriteDir(k.dir)
	}
	return err
}

func (a *Attested) unkept(err error) {
	if err != nil && a.Unkept != nil {
		a.Unkept(fmt.Errorf("attestations are not kept: %w", err))
	}
}

// askRegistry asks the registry of the image.
func askRegistry(ctx context.Context, c *Container, q locate.Query, k *keeping) (locate.Found, error) {
	if c.Image == "" {
		return locate.Found{}, fmt.Errorf("%s is joined without the name of a registry: %w", q.Image.Digest, attest.ErrNone)
	}
	src, err := transport.Open(ctx, "docker://"+c.image(), transport.Options{})
	if err != nil {
		return locate.Found{}, fmt.Errorf("%w: %w", errRegistry, err)
	}
	defer src.Close()
	store, ok := src.(transport.ReadStore)
	if !ok {
		return locate.Found{}, fmt.Errorf("%s is in no registry", c.Image)
	}
	marked := registry{store}
	k.Fetcher = marked
	return locate.Beside{Name: locate.Referrers, Store: keepingStore{k, marked}}.Find(ctx, q)
}

func listOf(image string, v *attest.Verified) (list List, err error) {
	list.Set = Set(image, v)
	if v.Blessing.Created != "" {
		if list.Blessed, err = time.Parse(time.RFC3339, v.Blessing.Created); err != nil {
			return List{}, &Unblessed{ReasonDamaged, fmt.Errorf("blessing: %w", err)}
		}
	}
	return list, nil
}

// Set makes the verifier's list of a verified one.
func Set(image string, v *attest.Verified) enforce.Set {
	l := v.Files
	packages := make([]string, len(l.Packages()))
	for i, p := range l.Packages() {
		packages[i] = p.String()
	}
	set := enforce.Set{Name: image, Digest: "sha256:" + v.Blessing.FileList.Digest["sha256"], Files: make([]enforce.File, l.Len()), Sizes: true}
	for i := range set.Files {
		f := l.File(i)
		set.Files[i] = enforce.File{Path: "/" + f.Path, SHA256: f.SHA256, Size: uint64(max(f.Size, 0))}
		set.Sizes = set.Sizes && f.Size >= 0
		if f.Package >= 0 {
			set.Files[i].Package = packages[f.Package]
		}
	}
	return set
}

// clean drops those that were used longest ago.
func (a *Attested) clean() error {
	dir := filepath.Join(a.Store, "attestations")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= maxKept {
		return err
	}
	used := map[string]time.Time{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			used[e.Name()] = info.ModTime()
		}
	}
	slices.SortFunc(entries, func(x, y os.DirEntry) int { return used[x.Name()].Compare(used[y.Name()]) })
	var errs []error
	for _, e := range entries[:len(entries)-maxKept] {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// registry marks the errors of a store as its own.
type registry struct{ transport.ReadStore }

func (r registry) Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	list, err := r.ReadStore.Referrers(ctx, subject, artifactType)
	return list, mark(err)
}

func (r registry) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	b, err := r.ReadStore.Manifest(ctx, desc)
	return b, mark(err)
}

func (r registry) Blob(ctx context.Context, desc v1.Descriptor) (transport.Blob, error) {
	b, err := r.ReadStore.Blob(ctx, desc)
	return b, mark(err)
}

func mark(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errRegistry, err)
}

// keeping copies what is read of a content to a directory, until that fails.
type keeping struct {
	transport.Fetcher
	dir string
	to  *transport.DirWriter
	err error
}

// drop removes the directory.
func (k *keeping) drop() error {
	if k.to != nil {
		_ = k.to.Close() // what it wrote goes in any case
	}
	if k.dir == "" {
		return nil
	}
	return os.RemoveAll(k.dir)
}

// keepingStore is keeping, with the referrers of the store it copies from.
type keepingStore struct {
	*keeping
	store transport.ReadStore
}

func (k keepingStore) Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	return k.store.Referrers(ctx, subject, artifactType)
}

func (k *keeping) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	b, err := k.Fetcher.Manifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	if k.err == nil {
		k.err = k.to.PutManifest(ctx, desc, b)
	}
	return b, nil
}

func (k *keeping) Blob(ctx context.Context, desc v1.Descriptor) (transport.Blob, error) {
	b, err := k.Fetcher.Blob(ctx, desc)
	if err != nil || k.err != nil {
		return b, err
	}
	k.err = k.to.PutBlob(ctx, desc, func() (io.ReadCloser, error) {
		all, err := io.ReadAll(io.NewSectionReader(b, 0, min(b.Size(), desc.Size)))
		return io.NopCloser(bytes.NewReader(all)), err
	})
	return b, nil
}
