// SPDX-License-Identifier: Apache-2.0

package bless

// The stages of a run: Open, Run, Write, Commit.

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/internal/imageconfig"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// run is the options of a run, worked out, and what its stages share.
type run struct {
	signer     *xattr.Signer
	hash       xattr.Hash
	imaVersion int
	evm        bool
	bpfFiles   BPFFiles
	replace    bool
	recompress recompression
	sha1       bool
	limits     Limits
	workers    *workers
	signatures signatureCache

	opts     Options
	rewrites bool // the image is changed, not only read
	src      transport.Source
	dst      transport.Destination
	progress Progress
	cacheKey string
	unread   []Problem // children of indexes that were not read as images
}

func newRun(src transport.Source, signer *xattr.Signer, o Options) (*run, error) {
	r := &run{
		signer: signer, hash: o.Hash, imaVersion: o.IMAVersion, evm: o.EVM, bpfFiles: o.BPFFiles, replace: o.Replace,
		sha1: o.SHA1, limits: o.Limits.withDefaults(), opts: o, src: src, progress: o.Progress,
	}
	if r.hash == 0 {
		r.hash = xattr.SHA256
	}
	if r.imaVersion == 0 {
		r.imaVersion = 2
	}
	if r.bpfFiles == "" {
		r.bpfFiles = BPFCode
	}
	if signer == nil {
		r.bpfFiles = BPFNone
	}
	if r.progress == nil {
		r.progress = quiet{}
	}
	if r.opts.Jobs == 0 {
		r.opts.Jobs = runtime.GOMAXPROCS(0)
	}
	if r.evm && signer == nil {
		return nil, errors.New("EVM signatures need a key")
	}
	var err error
	if r.recompress, err = parseRecompress(o.Recompress); err != nil {
		return nil, err
	}
	r.cacheKey = r.cacheOptions()
	return r, nil
}

// Job is a run that is planned: manifests and configs are read and checked, layers are not.
type Job struct {
	*run
	root   *node
	result *Result
}

// Planned is an image that is about to be read.
type Planned struct {
	Platform string
	Manifest v1.Descriptor
	// Layers is how many layers count, from the lowest: all but one that an earlier blessing embedded
	// and that this run takes off.
	Layers int
	// Certificate is that of the delegated key that signed the files, in DER, as the image config
	// records it. Nobody has checked it; nil if there is none.
	Certificate []byte
}

// Open plans a run: it reads the manifests and configs of src, and checks them. With a nil signer,
// files get digests only.
func Open(ctx context.Context, src transport.Source, signer *xattr.Signer, o Options) (*Job, error) {
	result := &Result{Source: src.Reference(), SourceDescriptor: src.Root(), started: time.Now()}
	if o.Detached {
		signer, o.Files = nil, true
		o.Hash, o.EVM, o.Recompress, o.Certificate = 0, false, "", nil
	}
	r, err := newRun(src, signer, o)
	if err != nil {
		return nil, err
	}
	r.rewrites = !o.Detached
	r.progress = &noticing{Progress: r.progress, result: result}
	result.Hash, result.Certificate = r.hash.String(), o.Certificate
	if signer != nil {
		result.KeyID, result.IMAVersion = signer.KeyID().String(), r.imaVersion
	}
	root, err := r.plan(ctx, result)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.Reference(), err)
	}
	if o.Detached {
		result.Dropped = nil
	}
	return &Job{r, root, result}, nil
}

// Images are the images that Run will read.
func (j *Job) Images() []Planned { return planned(j.root.images()) }

func planned(images []*node) (all []Planned) {
	for _, n := range images {
		all = append(all, Planned{n.image.platform, n.desc, len(n.image.layers), imageconfig.Certificate(&n.image.file)})
	}
	return all
}

// Run blesses the layers and puts them into dst, where nothing is visible yet. A detached run
// reads them and puts nothing.
func (j *Job) Run(ctx context.Context, dst transport.Destination) (*Draft, error) {
	j.dst = dst
	images := j.root.images()
	work := func() error { return j.layers(ctx, j.root) }
	if !j.rewrites {
		work = func() error { return j.readLayers(ctx, images) }
	}
	if err := j.withWorkers(work); err != nil {
		return nil, fmt.Errorf("%s: %w", j.result.Source, err)
	}
	d := &Draft{run: j.run, root: j.root, result: j.result, nodes: images}
	for _, n := range images {
		result, err := j.draft(n)
		if err != nil {
			return nil, err
		}
		d.Images = append(d.Images, result)
	}
	return d, nil
}

// withWorkers calls f while there are workers.
func (r *run) withWorkers(f func() error) error {
	r.workers = newWorkers(r.opts.Jobs)
	defer r.workers.stop()
	return f()
}

// Commit makes the image visible: dst gives it the name of its reference, in one step. It completes r.
func (r *Result) Commit(ctx context.Context, dst transport.Destination) error {
	reference, err := dst.Commit(ctx, r.Descriptor)
	if err != nil {
		return err
	}
	r.Also = transport.Also(dst)
	if r.Blessed == "" { // a detached run keeps the name of the source
		r.Blessed = reference
	}
	r.Seconds = time.Since(r.started).Seconds()
	return nil
}

// Image is all stages in a row, for callers that add nothing to the image: it blesses what src
// holds and commits the result to dst. Before that, nothing is visible there.
func Image(ctx context.Context, src transport.Source, dst transport.Destination, signer *xattr.Signer, o Options) (*Result, error) {
	job, err := Open(ctx, src, signer, o)
	if err != nil {
		return nil, err
	}
	draft, err := job.Run(ctx, dst)
	if err != nil {
		return nil, err
	}
	result, err := draft.Write(ctx)
	if err != nil {
		return nil, err
	}
	return result, result.Commit(ctx, dst)
}
