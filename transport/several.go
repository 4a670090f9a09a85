// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Several is a destination that is several ones, in their order: what is put is put into each. Commit begins when
// all have everything, and makes the image visible in one after the other, in registries last. If one of them fails
// then, those before it show the image.
type Several struct {
	all        []Destination
	references []string
}

// severalStores are places that give back what is in them: all have the same, so one is asked.
type severalStores struct {
	*Several
	ReadStore
}

// NewSeveral makes one destination of several. It is a [Store] if all are.
func NewSeveral(all ...Destination) Destination {
	s := &Several{all: all, references: make([]string, len(all))}
	for _, d := range all {
		if _, ok := d.(Store); !ok {
			return s
		}
	}
	return severalStores{s, all[0].(Store)}
}

// several gives the places of dst; nil if it is one place.
func several(dst Destination) *Several {
	switch d := dst.(type) {
	case *Several:
		return d
	case severalStores:
		return d.Several
	}
	return nil
}

// HoldingReferrers is the part of dst that can hold manifests about an image; nil if nothing can.
func HoldingReferrers(dst Destination) Destination {
	s := several(dst)
	if s == nil {
		if _, ok := dst.(Referrers); ok {
			return dst
		}
		return nil
	}
	var holding []Destination
	for _, d := range s.all {
		if _, ok := d.(Referrers); ok {
			holding = append(holding, d)
		}
	}
	if len(holding) == 0 {
		return nil
	}
	return NewSeveral(holding...)
}

// Also gives the canonical names of the image in all places of dst but the first, whose name Commit gave.
func Also(dst Destination) []string {
	if s := several(dst); s != nil {
		return s.references[1:]
	}
	return nil
}

// Has tells whether all have the content.
func (s *Several) Has(ctx context.Context, desc v1.Descriptor) (bool, error) {
	for _, d := range s.all {
		if has, err := d.Has(ctx, desc); !has || err != nil {
			return false, err
		}
	}
	return true, nil
}

// PutBlob puts the blob where it is not yet.
func (s *Several) PutBlob(ctx context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error {
	for _, d := range s.all {
		has, err := d.Has(ctx, desc)
		if err == nil && !has {
			err = d.PutBlob(ctx, desc, open)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// PutManifest puts the manifest into each.
func (s *Several) PutManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	for _, d := range s.all {
		if err := d.PutManifest(ctx, desc, raw); err != nil {
			return err
		}
	}
	return nil
}

func (s *Several) putReferrers(ctx context.Context, manifests []Manifest) error {
	for _, d := range s.all {
		if err := PutReferrers(ctx, d, manifests); err != nil {
			return err
		}
	}
	return nil
}

// Mount takes the blob from the source's place into each.
func (s *Several) Mount(ctx context.Context, desc v1.Descriptor, from Source) (bool, error) {
	for _, d := range s.all {
		m, ok := d.(Mounter)
		if !ok {
			return false, nil
		}
		if mounted, err := m.Mount(ctx, desc, from); !mounted || err != nil {
			return false, err
		}
	}
	return true, nil
}

// Commit returns the name in the first place. A file or a daemon is written now, so that more can go wrong there than
// in a registry, which only gets a tag.
func (s *Several) Commit(ctx context.Context, root v1.Descriptor) (string, error) {
	for _, last := range []bool{false, true} {
		for i, d := range s.all {
			if _, registry := d.(*registryDestination); registry != last {
				continue
			}
			var err error
			if s.references[i], err = d.Commit(ctx, root); err != nil {
				return "", err
			}
		}
	}
	return s.references[0], nil
}

// Close closes all.
func (s *Several) Close() error {
	var errs []error
	for _, d := range s.all {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}
