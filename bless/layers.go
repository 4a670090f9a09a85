// SPDX-License-Identifier: Apache-2.0

package bless

// All layers of a run: each once, the largest first, the result of each put
// into the destination as soon as it is there.

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// layers fills in the results of all jobs of the plan.
func (r *run) layers(ctx context.Context, root *node) error {
	defer r.progress.Stage("reading layers")()
	var jobs []*layerJob
	seen := map[*layerJob]bool{}
	for _, n := range root.images() {
		for _, j := range n.image.layers {
			if !seen[j] {
				seen[j] = true
				jobs = append(jobs, j)
			}
		}
	}
	slices.SortStableFunc(jobs, func(a, b *layerJob) int { return cmp.Compare(b.source.Size, a.source.Size) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.opts.Jobs)
	for _, j := range jobs {
		g.Go(func() error {
			if err := r.layerJob(ctx, j); err != nil {
				return fmt.Errorf("%s: %w", j.name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, n := range root.images() {
		if err := r.checkTree(n.image); err != nil {
			return err
		}
	}
	return nil
}

// checkTree lays the layers over each other, which finds hard links to nothing
// and files that stand twice. It is left out where nobody wants the files and no
// layer has a link: on large images it takes time and memory.
func (r *run) checkTree(img *image) error {
	var layers [][]tree.File
	needed := r.opts.Files
	// Hard links can lead to nothing, and a file that asks for much may be replaced above.
	for _, j := range img.layers {
		layers = append(layers, j.out.Files)
		needed = needed || slices.ContainsFunc(j.out.Files, func(f tree.File) bool { return f.Type == '1' || f.Memory != "" })
	}
	if !needed {
		return nil
	}
	t, err := tree.Flatten(layers)
	if err != nil {
		return err
	}
	for _, w := range t.Warnings {
		r.progress.Notice(w)
	}
	img.tree = t
	return nil
}

func (r *run) layerJob(ctx context.Context, j *layerJob) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if done, err := r.fromCache(ctx, j); done || err != nil {
		return err
	}
	add, done := r.progress.Layer(j.source)
	if err := r.blessLayer(ctx, j, add); err != nil {
		done("failed")
		return err
	}
	done(j.out.Outcome)
	return nil
}

// blessLayer reads the layer, writes the blessed one to a file, and puts that.
func (r *run) blessLayer(ctx context.Context, j *layerJob, add func(int64)) error {
	blob, err := r.src.Blob(ctx, j.source)
	if err != nil {
		return err
	}
	defer blob.Close()
	if blob.Size() != j.source.Size {
		return fmt.Errorf("blob %s has %d bytes, the manifest says %d", j.source.Digest, blob.Size(), j.source.Size)
	}
	spool, err := r.spool()
	if err != nil {
		return err
	}
	defer func() {
		spool.Close()
		os.Remove(spool.Name()) // gone already when the destination took it
	}()
	out, err := r.layer(ctx, layerIn{name: j.name, desc: j.source, diffID: j.diffID, blob: blob}, spool, add)
	if err != nil {
		return err
	}
	j.out = LayerResult{
		Source: j.source, SourceDiffID: j.diffID, Blessed: j.source, BlessedDiffID: out.diffID,
		ContentDiffID: j.diffID, Outcome: OutcomeUnchanged, LayerStats: out.stats, Files: out.files,
	}
	if out.carried {
		if err := r.contentDiffID(ctx, j, blob); err != nil {
			return err
		}
	}
	if !out.changed {
		if err := r.copyBlob(ctx, j.source); err != nil {
			return err
		}
		return r.remember(ctx, j)
	}
	j.out.Outcome = OutcomeBlessed
	j.out.Blessed.Digest, j.out.Blessed.Size = out.digest, out.size
	j.out.Blessed.Annotations, _ = withoutTOC(j.source.Annotations)
	if j.out.Blessed.MediaType, err = out.packing.mediaType(j.source.MediaType); err != nil {
		return err
	}
	if r.opts.Cache != nil {
		r.opts.Cache.keep(spool.Name(), out.digest)
	}
	if err := r.putFile(ctx, j.out.Blessed, spool); err != nil {
		return err
	}
	return r.remember(ctx, j)
}

// contentDiffID reads a source layer once more, without our records.
func (r *run) contentDiffID(ctx context.Context, j *layerJob, blob io.ReaderAt) error {
	read, err := readLayer(ctx, layerIn{desc: j.source, diffID: j.diffID, blob: blob}, r.limits, false, false,
		func(int64) {}, func(*xattr.Entry, *tree.File) error { return nil })
	if err == nil {
		j.out.ContentDiffID = read.stripped
	}
	return err
}

// A spool is the file that a blessed layer is written to.
type spool interface {
	io.WriteCloser
	Name() string
}

// spool makes one: in the destination, if that takes files over, else where the
// cache keeps its blobs, so that one of the two need not copy it.
func (r *run) spool() (spool, error) {
	if a, ok := r.dst.(transport.Adopter); ok {
		return a.NewFile()
	}
	const pattern = "sbom-bless-*.tmp"
	if r.opts.Cache != nil {
		f, err := os.CreateTemp(r.opts.Cache.blobDir(), pattern)
		if err == nil {
			return f, nil
		}
		r.opts.Cache.failed(err)
	}
	return os.CreateTemp(r.opts.TempDir, pattern)
}

// putFile puts the blob that the spool holds, unless it is there already.
func (r *run) putFile(ctx context.Context, desc v1.Descriptor, s spool) error {
	if ok, err := r.dst.Has(ctx, desc); ok || err != nil {
		return err
	}
	if f, ok := s.(*transport.File); ok {
		return r.dst.(transport.Adopter).Adopt(desc, f)
	}
	return r.dst.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return os.Open(s.Name()) })
}
