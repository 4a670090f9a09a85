// SPDX-License-Identifier: Apache-2.0

package bless

// Verify: what bless promises, proved again from the image alone.

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/internal/p256"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// VerifyOptions are the choices of Verify.
type VerifyOptions struct {
	// Keys are trusted: each file must be signed by one of them. Without keys the
	// digests alone are checked.
	Keys []crypto.PublicKey
	// BPFFiles says which files must have security.bpf.bless; BPFCode if empty.
	BPFFiles BPFFiles
	// EVM demands security.evm on every regular file.
	EVM       bool
	Platforms []v1.Platform
	Jobs      int
	Limits    Limits
	Progress  Progress
	// Detached images carry no attributes: only the attestation says what their files must be.
	Detached bool
	// Files keeps the entries of each layer in the result.
	Files bool
}

// ReasonNotBlessed is the reason of a problem with a file that has no attribute at all.
const ReasonNotBlessed = "missing: the file is not blessed"

// Problem is one thing that is wrong.
type Problem struct {
	Platform string `json:"platform"`
	// Layer counts from 1; 0: the image as a whole.
	Layer     int    `json:"layer,omitempty"`
	Path      string `json:"path,omitempty"`
	Attribute string `json:"attribute,omitempty"`
	Reason    string `json:"reason"`
	Expected  string `json:"expected,omitempty"`
	Got       string `json:"got,omitempty"`
}

// String is the problem on one line: layer, path, what is wrong.
func (p Problem) String() string {
	var s strings.Builder
	if p.Layer > 0 {
		fmt.Fprintf(&s, "layer %d: ", p.Layer)
	}
	if p.Path != "" {
		fmt.Fprintf(&s, "%s: ", tree.Show(p.Path))
	}
	if p.Attribute != "" {
		fmt.Fprintf(&s, "%s: ", p.Attribute)
	}
	s.WriteString(p.Reason)
	if p.Expected != "" || p.Got != "" {
		fmt.Fprintf(&s, ": expected %s, got %s", p.Expected, p.Got)
	}
	return s.String()
}

// VerifyResult is what Verify found. Its JSON form is the output of
// `sbom-bless verify --output json`.
type VerifyResult struct {
	Reference string        `json:"reference"`
	Root      v1.Descriptor `json:"descriptor"`
	Images    []ImageCheck  `json:"images"`
	Problems  []Problem     `json:"problems"`
}

// ImageCheck is what was checked of one platform.
type ImageCheck struct {
	Platform   string        `json:"platform"`
	Descriptor v1.Descriptor `json:"descriptor"`
	Layers     []LayerCheck  `json:"layers"`
}

// LayerCheck is what was checked of one layer. SourceDiffID is the DiffID of
// the layer with our records taken out: that of the layer before it was blessed.
type LayerCheck struct {
	Descriptor   v1.Descriptor `json:"descriptor"`
	DiffID       v1.Hash       `json:"diffId"`
	SourceDiffID v1.Hash       `json:"sourceDiffId"`
	Entries      int64         `json:"entries"`
	Regular      int64         `json:"regular"`
	Code         int64         `json:"code"`
	FileBytes    int64         `json:"fileBytes"`
	// Files are the entries, if VerifyOptions.Files asked for them; not part of the JSON.
	Files    []tree.File `json:"-"`
	problems []Problem
}

// OK tells that nothing was wrong.
func (r *VerifyResult) OK() bool { return len(r.Problems) == 0 }

// Verification is an image whose manifests and configs are read, and whose layers are not.
type Verification struct {
	r      *run
	images []*node
	o      VerifyOptions
}

// OpenVerify reads the manifests and configs of src. [Verification.Images] are what Run will read: a
// caller can learn there which further keys count.
func OpenVerify(ctx context.Context, src transport.Source, o VerifyOptions) (*Verification, error) {
	r, images, err := readImages(ctx, src, o.Platforms, o.Jobs, o.Limits, o.Progress)
	if err != nil {
		return nil, err
	}
	return &Verification{r, images, o}, nil
}

// Images are the images that Run will read.
func (v *Verification) Images() []Planned { return planned(v.images) }

// Verify is OpenVerify and Run, with no other keys than those of o.
func Verify(ctx context.Context, src transport.Source, o VerifyOptions) (*VerifyResult, error) {
	v, err := OpenVerify(ctx, src, o)
	if err != nil {
		return nil, err
	}
	return v.Run(ctx)
}

// Run reads every byte of the image and checks that each layer is what the
// image says, and each regular file's digest what its attributes say, signed by
// a trusted key: one of the options or one of also. What is wrong with the image is in the
// result; the error is for what kept Run from looking.
func (v *Verification) Run(ctx context.Context, also ...crypto.PublicKey) (*VerifyResult, error) {
	r, images, o, src := v.r, v.images, v.o, v.r.src
	result := &VerifyResult{Reference: src.Reference(), Root: src.Root(), Problems: []Problem{}}
	result.Problems = append(result.Problems, r.unread...)
	keys := withTables(slices.Concat(o.Keys, also))
	if o.BPFFiles == "" {
		o.BPFFiles = BPFCode
	}
	if len(keys) == 0 {
		o.BPFFiles = BPFNone
	}
	checks := map[*layerJob]*LayerCheck{}
	var mu sync.Mutex
	check := func(ctx context.Context, _ *node, j *layerJob, add func(int64)) error {
		v := &layerVerifier{o: o, keys: keys, workers: r.workers}
		check, err := v.layer(ctx, r, j, add)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		checks[j] = check
		return nil
	}
	if err := r.withWorkers(func() error { return r.eachLayer(ctx, images, check) }); err != nil {
		return nil, fmt.Errorf("%s: %w", src.Reference(), err)
	}
	for _, n := range images {
		ic := ImageCheck{Platform: n.image.platform, Descriptor: n.desc, Layers: []LayerCheck{}}
		for i, j := range n.image.layers {
			check := *checks[j]
			check.Descriptor = n.image.manifest.Layers[i] // a shared layer may be described in several ways
			if _, toc := withoutTOC(check.Descriptor.Annotations); len(toc) > 0 {
				result.Problems = append(result.Problems, Problem{Platform: n.image.platform, Layer: i + 1,
					Reason: "its annotations " + strings.Join(toc, ", ") + " name a table of contents, which some unpackers believe and not the tar"})
			}
			for _, p := range check.problems {
				p.Platform, p.Layer = n.image.platform, i+1
				result.Problems = append(result.Problems, p)
			}
			ic.Layers = append(ic.Layers, check)
		}
		result.Images = append(result.Images, ic)
	}
	return result, nil
}

// withTables precomputes verification tables for P-256 keys: an image has a signature or two for
// each of its files, all by the same key.
func withTables(keys []crypto.PublicKey) []crypto.PublicKey {
	for i, key := range keys {
		if pub, ok := key.(*ecdsa.PublicKey); ok {
			if k, err := p256.New(pub); err == nil { // else: of another curve
				keys[i] = k
			}
		}
	}
	return keys
}

// layerVerifier checks the files of a layer, signatures in parallel.
type layerVerifier struct {
	o       VerifyOptions
	keys    []crypto.PublicKey
	workers *workers

	wg    sync.WaitGroup
	mu    sync.Mutex
	found []found
}

type found struct {
	at int64 // which entry, so that the order is that of the tar
	Problem
}

func (v *layerVerifier) layer(ctx context.Context, r *run, j *layerJob, add func(int64)) (*LayerCheck, error) {
	blob, err := r.src.Blob(ctx, j.source)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	check := &LayerCheck{}
	var at int64
	read, err := readLayer(ctx, layerIn{desc: j.source, diffID: j.diffID, blob: blob}, r.limits, true, false, add, func(e *xattr.Entry, f *tree.File) error {
		at++
		if v.o.Files {
			check.Files = append(check.Files, *f)
		}
		v.entry(at, e, *f)
		return nil
	})
	v.wg.Wait()
	if err != nil {
		return nil, err
	}
	check.DiffID, check.SourceDiffID = read.diffID, read.stripped
	check.Entries, check.Regular, check.Code, check.FileBytes = read.stats.Entries, read.stats.Regular, read.stats.Code, read.stats.FileBytes
	if read.diffID != j.diffID {
		check.problems = append(check.problems, Problem{Reason: "the layer is not the one that the image config names", Expected: j.diffID.String(), Got: read.diffID.String()})
	}
	slices.SortStableFunc(v.found, func(a, b found) int { return int(a.at - b.at) })
	for _, f := range v.found {
		check.problems = append(check.problems, f.Problem)
	}
	return check, nil
}

// entry checks one entry, by a worker if it may carry signatures.
func (v *layerVerifier) entry(at int64, e *xattr.Entry, f tree.File) {
	if v.o.Detached {
		return
	}
	if !f.Regular() || tree.IsWhiteout(f.Name) {
		for _, name := range []string{xattr.IMA, xattr.Bless, xattr.EVM} {
			if _, ok := e.Xattrs[name]; ok {
				v.report(at, f, name, "on an entry that is no regular file")
			}
		}
		return
	}
	v.wg.Add(1)
	v.workers.work <- func() {
		defer v.wg.Done()
		v.ima(at, e, f)
		v.bless(at, e, f)
		v.evm(at, e, f)
	}
}

func (v *layerVerifier) report(at int64, f tree.File, attribute, reason string) {
	v.add(at, Problem{Path: f.Name, Attribute: attribute, Reason: reason})
}

func (v *layerVerifier) add(at int64, p Problem) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found = append(v.found, found{at, p})
}

func (v *layerVerifier) ima(at int64, e *xattr.Entry, f tree.File) {
	raw, ok := e.Xattrs[xattr.IMA]
	if !ok {
		v.report(at, f, xattr.IMA, ReasonNotBlessed)
		return
	}
	value, err := xattr.Parse(raw)
	if err != nil {
		v.report(at, f, xattr.IMA, err.Error())
		return
	}
	d := fileDigest(&f, value.Hash)
	if value.Type == xattr.TypeDigest {
		switch {
		case !bytes.Equal(value.Sum, d.Sum):
			v.add(at, Problem{Path: f.Name, Attribute: xattr.IMA, Reason: "the content was changed",
				Expected: value.Hash.String() + ":" + hex.EncodeToString(value.Sum), Got: value.Hash.String() + ":" + hex.EncodeToString(d.Sum)})
		case len(v.keys) > 0:
			v.report(at, f, xattr.IMA, "holds a digest, not a signature")
		}
		return
	}
	if len(v.keys) == 0 {
		v.report(at, f, xattr.IMA, "is signed by key "+value.KeyID.String()+", and no key was given to check it")
		return
	}
	for _, key := range v.keys {
		if value.Verify(key, d) == nil {
			return
		}
	}
	if !slices.Contains(keyIDs(v.keys), value.KeyID.String()) {
		v.add(at, Problem{Path: f.Name, Attribute: xattr.IMA, Reason: "signed by another key", Expected: strings.Join(keyIDs(v.keys), " or "), Got: value.KeyID.String()})
		return
	}
	v.add(at, Problem{Path: f.Name, Attribute: xattr.IMA, Reason: "the signature does not fit: the content or the signature was changed",
		Expected: "a signature of the content", Got: d.Hash.String() + ":" + hex.EncodeToString(d.Sum)})
}

func (v *layerVerifier) bless(at int64, e *xattr.Entry, f tree.File) {
	raw, ok := e.Xattrs[xattr.Bless]
	if !ok {
		if v.o.BPFFiles == BPFAll || v.o.BPFFiles == BPFCode && f.Code {
			v.report(at, f, xattr.Bless, "missing, on a file that counts as code")
		}
		return
	}
	if len(v.keys) == 0 {
		return // security.ima has said so already
	}
	v.anyKey(at, f, xattr.Bless, func(key crypto.PublicKey) error { return xattr.VerifyBless(key, raw, fileDigest(&f, xattr.SHA256)) })
}

func (v *layerVerifier) evm(at int64, e *xattr.Entry, f tree.File) {
	raw, ok := e.Xattrs[xattr.EVM]
	if !ok {
		if v.o.EVM {
			v.report(at, f, xattr.EVM, "missing")
		}
		return
	}
	if len(v.keys) == 0 {
		return
	}
	v.anyKey(at, f, xattr.EVM, func(key crypto.PublicKey) error {
		return xattr.VerifyEVM(key, raw, e.Xattrs, uint32(f.UID), uint32(f.GID), uint16(f.Mode)|modeRegular)
	})
}

// anyKey reports the attribute unless one of the keys verifies it.
func (v *layerVerifier) anyKey(at int64, f tree.File, attribute string, verify func(crypto.PublicKey) error) {
	var err error
	for _, key := range v.keys {
		if err = verify(key); err == nil {
			return
		}
	}
	v.report(at, f, attribute, "no trusted key verifies it: "+err.Error())
}

func keyIDs(keys []crypto.PublicKey) (ids []string) {
	for _, key := range keys {
		if id, err := xattr.KeyIDOf(key); err == nil {
			ids = append(ids, id.String())
		}
	}
	return ids
}

// ---- images of a source that is only read ----

// readImages plans a source that is only read.
func readImages(ctx context.Context, src transport.Source, platforms []v1.Platform, jobs int, limits Limits, progress Progress) (*run, []*node, error) {
	r, err := newRun(src, nil, Options{Platforms: platforms, Jobs: jobs, Limits: limits, Progress: progress})
	if err != nil {
		return nil, nil, err
	}
	root, err := r.plan(ctx, &Result{})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", src.Reference(), err)
	}
	return r, root.images(), nil
}

// eachLayer calls f for each layer once, several at a time.
func (r *run) eachLayer(ctx context.Context, images []*node, f func(context.Context, *node, *layerJob, func(int64)) error) error {
	defer r.progress.Stage("reading layers")()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.opts.Jobs)
	seen := map[*layerJob]bool{}
	for _, n := range images {
		for _, j := range n.image.layers {
			if seen[j] {
				continue
			}
			seen[j] = true
			g.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				add, done := r.progress.Layer(j.source)
				err := f(ctx, n, j, add)
				if err != nil {
					done("failed")
					return fmt.Errorf("%s: %w", j.name, err)
				}
				done("read")
				return nil
			})
		}
	}
	return g.Wait()
}
