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
	// Store is a directory that keeps what came from a registry. It is trusted no
	// more than a registry is: each use verifies it anew.
	Store string

	flights singleflight.Group
}

// List is a [Lists] function.
func (a *Attested) List(ctx context.Context, c *Container) (enforce.Set, error) {
	subject, err := v1.NewHash(c.Digest)
	if err != nil {
		return enforce.Set{}, &Unblessed{ReasonNoImage, err}
	}
	set, err, _ := a.flights.Do(c.image(), func() (any, error) {
		// Others wait for it too, when the caller has gone.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return a.list(ctx, c, subject)
	})
	if err != nil {
		return enforce.Set{}, err
	}
	return set.(enforce.Set), nil
}

// list asks the store, then each source. The first attestation that counts wins;
// without one, the reason is that of the source that knew most.
func (a *Attested) list(ctx context.Context, c *Container, subject v1.Hash) (enforce.Set, error) {
	kept := attest.Dir(filepath.Join(a.Store, "attestations", subject.Hex))
	if set, err := a.verify(ctx, kept, c.image(), subject); err == nil {
		now := time.Now()
		return set, os.Chtimes(string(kept), now, now) // by which clean finds those not in use
	}
	worst := &Unblessed{ReasonNoAttestation, fmt.Errorf("no place that the policy names has an attestation of %s", subject)}
	for _, s := range a.Sources {
		set, err := a.from(ctx, s, c, subject, kept)
		if err == nil {
			return set, nil
		}
		if u := explain(err, s); slices.Index(severity, u.Reason) > slices.Index(severity, worst.Reason) {
			worst = u
		}
	}
	return enforce.Set{}, worst
}

// severity orders reasons by how much they tell.
var severity = []string{ReasonNoAttestation, ReasonUnreachable, ReasonDamaged, ReasonUntrusted}

func explain(err error, s policy.Source) *Unblessed {
	var network net.Error
	reason := ReasonDamaged
	switch {
	case errors.Is(err, attest.ErrNone):
		reason = ReasonNoAttestation
	case errors.Is(err, attest.ErrUntrusted):
		reason = ReasonUntrusted
	case s.Kind == policy.Registry && (errors.As(err, &network) || errors.Is(err, errRegistry) || errors.Is(err, context.DeadlineExceeded)):
		reason = ReasonUnreachable
	}
	place := string(s.Kind)
	if s.Path != "" {
		place += " " + s.Path
	}
	return &Unblessed{reason, fmt.Errorf("%s: %w", place, err)}
}

// errRegistry is wrapped by errors of a registry that answers, but not with what
// was asked for.
var errRegistry = errors.New("the registry does not give it")

func (a *Attested) from(ctx context.Context, s policy.Source, c *Container, subject v1.Hash, kept attest.Dir) (enforce.Set, error) {
	if s.Kind == policy.Directory {
		return a.verify(ctx, attest.Dir(s.Path), c.image(), subject)
	}
	src, err := transport.Open(ctx, "docker://"+c.image(), transport.Options{})
	if err != nil {
		return enforce.Set{}, fmt.Errorf("%w: %w", errRegistry, err)
	}
	defer src.Close()
	store, ok := src.(attest.Store)
	if !ok {
		return enforce.Set{}, fmt.Errorf("%s is in no registry", c.Image)
	}
	keeper := &keeping{Store: registry{store}, dir: kept}
	set, err := a.verify(ctx, keeper, c.image(), subject)
	if err != nil {
		return set, errors.Join(err, os.RemoveAll(string(kept)))
	}
	return set, a.clean()
}

func (a *Attested) verify(ctx context.Context, store attest.Store, image string, subject v1.Hash) (enforce.Set, error) {
	v, err := attest.VerifyFiles(ctx, store, subject, a.Trust)
	if err != nil {
		return enforce.Set{}, err
	}
	return Set(image, v), nil
}

// Set makes the verifier's list of a verified one.
func Set(image string, v *attest.Verified) enforce.Set {
	l := v.Files
	packages := make([]string, len(l.Packages()))
	for i, p := range l.Packages() {
		packages[i] = p.String()
	}
	set := enforce.Set{Name: image, Files: make([]enforce.File, l.Len())}
	for i := range set.Files {
		f := l.File(i)
		set.Files[i] = enforce.File{Path: "/" + f.Path, SHA256: f.SHA256}
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
type registry struct{ attest.Store }

func (r registry) Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	list, err := r.Store.Referrers(ctx, subject, artifactType)
	return list, mark(err)
}

func (r registry) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	b, err := r.Store.Manifest(ctx, desc)
	return b, mark(err)
}

func (r registry) Blob(ctx context.Context, desc v1.Descriptor) (transport.Blob, error) {
	b, err := r.Store.Blob(ctx, desc)
	return b, mark(err)
}

func mark(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errRegistry, err)
}

// keeping copies what is read of a store to a directory.
type keeping struct {
	attest.Store
	dir attest.Dir
}

func (k *keeping) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	b, err := k.Store.Manifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	return b, k.dir.PutManifest(ctx, desc, b)
}

func (k *keeping) Blob(ctx context.Context, desc v1.Descriptor) (transport.Blob, error) {
	b, err := k.Store.Blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	err = k.dir.PutBlob(ctx, desc, func() (io.ReadCloser, error) {
		all, err := io.ReadAll(io.NewSectionReader(b, 0, min(b.Size(), desc.Size)))
		return io.NopCloser(bytes.NewReader(all)), err
	})
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}
