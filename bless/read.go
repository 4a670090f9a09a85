// SPDX-License-Identifier: Apache-2.0

package bless

// Reading a layer as it is, for Verify, Inspect and detached runs.

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// layerRead is what reading a layer tells, beside its entries.
type layerRead struct {
	diffID   v1.Hash // of the layer as it is
	stripped v1.Hash // DiffID of the layer with our records taken out again
	stats    LayerStats
}

// readLayer reads a layer from its first byte to its last and hands each entry
// to visit, in order. Of regular files the digests are filled in if hashes is
// set: SHA-256, and in File.Digest what the entry's security.ima claims if that
// is another algorithm; with sha1 that too.
func readLayer(ctx context.Context, in layerIn, limits Limits, hashes, sha1 bool, add func(int64), visit func(*xattr.Entry, *tree.File) error) (*layerRead, error) {
	dec, _, err := newDecoder(in.blob, in.desc.Size, limits.ZstdWindow)
	if err != nil {
		return nil, err
	}
	defer dec.close()
	g, gctx := errgroup.WithContext(ctx)
	decoded := newDecodeQueue(dec)
	defer context.AfterFunc(gctx, decoded.stop)()
	g.Go(func() error { return checkBlob(gctx, in.blob, in.desc, add) })
	g.Go(decoded.fill)
	l := &layerReader{meter: meter{limits: limits, packed: in.desc.Size}, hashes: hashes, sha1: sha1, visit: visit, sums: newDiffSums()}
	g.Go(func() error { return l.read(decoded) })
	if err := g.Wait(); err != nil {
		if errors.Is(err, errStopped) {
			err = ctx.Err()
		}
		return nil, err
	}
	return &layerRead{diffID: sha256Of(l.sums.before), stripped: sha256Of(l.sums.after), stats: l.stats}, nil
}

// layerReader is the xattr.Handler of readLayer.
type layerReader struct {
	meter  meter
	hashes bool
	sha1   bool
	visit  func(*xattr.Entry, *tree.File) error

	sums   *diffSums // with and without our records
	stats  LayerStats
	held   []*block
	memory int64        // of held
	edits  []xattr.Edit // that strip, beginning in held
	cut    cutter

	entry   *xattr.Entry
	file    tree.File
	content content
}

func (l *layerReader) read(decoded *decodeQueue) error {
	scanner := l.meter.limits.scanner(l)
	for {
		b, err := decoded.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		l.held = append(l.held, b)
		l.memory += b.memory()
		if err := l.meter.unpacked(b.end()); err != nil {
			return err
		}
		if _, err := scanner.Write(b.data); err != nil {
			return err
		}
		l.strip(scanner.Next())
		if err := l.meter.held(l.memory); err != nil {
			return err
		}
	}
	if err := scanner.Close(); err != nil {
		return err
	}
	l.strip(1 << 62)
	return nil
}

// strip hashes the held blocks that end at or before safe, with and without our
// records.
func (l *layerReader) strip(safe int64) {
	for len(l.held) > 0 && l.held[0].end() <= safe {
		b := l.held[0]
		l.held = l.held[1:]
		l.memory -= b.memory()
		n := 0
		for n < len(l.edits) && l.edits[n].Off < b.end() {
			n++
		}
		l.sums.add(b, l.cut.cut(b, l.edits[:n]))
		l.edits = l.edits[n:]
		b.release()
	}
}

func (l *layerReader) Entry(e *xattr.Entry) error {
	f, err := fileOf(e)
	if err == nil {
		err = l.meter.entry(&l.stats, e, &f)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", tree.Show(e.Name), err)
	}
	edit, set, err := e.StripEdit(xattr.IMA, xattr.Bless, xattr.EVM)
	if err != nil {
		return fmt.Errorf("%s: %w", tree.Show(e.Name), err)
	}
	if set {
		l.edits = append(l.edits, edit)
	}
	l.entry, l.file = e, f
	if f.Regular() && l.hashes {
		h := xattr.SHA256
		if v, err := xattr.Parse(e.Xattrs[xattr.IMA]); err == nil {
			h = v.Hash
		}
		l.content.reset(h, l.sha1)
	}
	return nil
}

func (l *layerReader) Content(p []byte) error {
	if l.hashes {
		l.content.write(p)
	} else {
		l.content.sniff(p)
	}
	return nil
}

func (l *layerReader) End() error {
	f := &l.file
	if f.Regular() {
		if l.hashes {
			l.content.fill(f)
		}
		f.Code, f.Memory = l.content.isCode(f), memoryOf(l.content.head, f.Size)
		l.stats.count(f)
		l.content.head = l.content.head[:0]
	}
	return l.visit(l.entry, f)
}

// cutter fits edits to blocks: what an edit replaces may reach into the next
// block.
type cutter struct {
	rest  int64 // bytes at the start of the next block that are still replaced
	edits []xattr.Edit
}

// cut returns the edits within b, the given ones among them. The result is good
// until the next call.
func (c *cutter) cut(b *block, edits []xattr.Edit) []xattr.Edit {
	c.edits = c.edits[:0]
	if c.rest > 0 {
		n := min(c.rest, int64(len(b.data)))
		c.edits = append(c.edits, xattr.Edit{Off: b.off, Len: n})
		c.rest -= n
	}
	for _, e := range edits {
		if over := e.Off + e.Len - b.end(); over > 0 {
			c.rest, e.Len = over, e.Len-over
		}
		c.edits = append(c.edits, e)
	}
	return c.edits
}

// readLayers is the work of a detached run: the result of each job is that of a layer in which
// nothing was to be changed.
func (r *run) readLayers(ctx context.Context, images []*node) error {
	err := r.eachLayer(ctx, images, func(ctx context.Context, _ *node, j *layerJob, add func(int64)) error {
		blob, err := r.src.Blob(ctx, j.source)
		if err != nil {
			return err
		}
		defer blob.Close()
		var files []tree.File
		read, err := readLayer(ctx, layerIn{desc: j.source, diffID: j.diffID, blob: blob}, r.limits, true, r.sha1, add, func(_ *xattr.Entry, f *tree.File) error {
			files = append(files, *f)
			return nil
		})
		if err != nil {
			return err
		}
		if read.diffID != j.diffID {
			return wrongDiffID(read.diffID, j.diffID)
		}
		j.out = LayerResult{
			Source: j.source, SourceDiffID: j.diffID, Blessed: j.source, BlessedDiffID: j.diffID,
			ContentDiffID: read.stripped, Outcome: OutcomeUnchanged, LayerStats: read.stats, Files: files,
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, n := range images {
		if err := r.checkTree(n.image); err != nil {
			return err
		}
	}
	return nil
}
