// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"context"
	"fmt"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/sbom"
	"github.com/sbom-bless/sbom-bless/transport"
)

// scans are the package scans of a run, which go on beside the blessing.
type scans map[v1.Hash]*scan // by the digest of the source manifest

// scan is the package scan of one platform.
type scan struct {
	dir       string        // holds the unpacked layers
	done      chan struct{} // closed when inventory and err are there
	inventory *sbom.Inventory
	err       error
}

// startScans scans the images for packages, so many at a time. What cache knows is not scanned again. They end
// with ctx.
func startScans(ctx context.Context, src transport.Source, images []bless.Planned, atOnce int, cache *bless.Cache, progress bless.Progress) scans {
	all := scans{}
	slots := make(chan struct{}, atOnce)
	for _, img := range images {
		if all[img.Manifest.Digest] != nil {
			continue
		}
		s := &scan{done: make(chan struct{})}
		all[img.Manifest.Digest] = s
		if s.dir, s.err = os.MkdirTemp("", "sbom-bless-scan-"); s.err != nil {
			s.err = fmt.Errorf("%w\nhint: TMPDIR chooses another place", s.err)
			close(s.done)
			continue
		}
		go func() {
			defer close(s.done)
			defer os.RemoveAll(s.dir)
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				s.err = ctx.Err()
				return
			}
			defer stage(progress, "cataloguing packages of "+img.Platform)()
			s.inventory, s.err = inventory(ctx, src, img, s.dir, cache)
		}()
	}
	return all
}

// inventory has the packages of an image from the cache, or by a scan that leaves the layers in dir.
func inventory(ctx context.Context, src transport.Source, img bless.Planned, dir string, cache *bless.Cache) (*sbom.Inventory, error) {
	image, err := transport.Image(ctx, src, img.Manifest)
	if err != nil {
		return nil, err
	}
	key, err := sbom.Key(image, img.Layers)
	if err != nil {
		return nil, err
	}
	if cache != nil {
		if inv, err := sbom.Found(cache.Scan(key)).Inventory(image, img.Layers); err == nil {
			return inv, nil
		}
	}
	found, err := sbom.Scan(ctx, image, img.Layers, dir)
	if err != nil {
		return nil, err
	}
	if cache != nil {
		cache.KeepScan(key, found)
	}
	return found.Inventory(image, img.Layers)
}

// of waits for the packages of one image.
func (all scans) of(ctx context.Context, manifest v1.Hash) (*sbom.Inventory, error) {
	s := all[manifest]
	select {
	case <-s.done:
		return s.inventory, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// end lets scans end before the source is closed. One that goes on although its context has ended is
// left behind: what it scans may be what the run was refused for, and the program ends.
func (all scans) end() {
	patience := time.NewTimer(2 * time.Second)
	for _, s := range all {
		select {
		case <-s.done:
		case <-patience.C:
			patience.Reset(0) // for the next one
			os.RemoveAll(s.dir)
		}
	}
}
