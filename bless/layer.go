// SPDX-License-Identifier: Apache-2.0

package bless

// One layer, in one pass. A header stands before the content that its
// attributes vouch for, so blocks wait until the file that they begin is
// hashed and signed:
//
//	decode ─blocks→ scan: hash files ─blocks→ assemble: edits in, hash, encode
//	                       └─files→ sign ─edits→ ┘
//
// What waits is bounded, by the memory that it takes: as soon as too much waits
// for one file, a second decoder hashes the rest of that file ahead. Then its
// signature is there, and its blocks pass as fast as they are written.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/internal/twinhash"
	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

const (
	// maxWaiting is how much memory blocks may take that wait for the digest of one
	// file: the file is hashed ahead from there on. A block of a gzip layer takes some
	// three times its data, so that files of up to some 8 MiB are read once.
	maxWaiting = 24 << 20
	// maxQueued is how much may wait before a file begins, and of one that was hashed
	// ahead.
	maxQueued = 6 << 20
)

// layerIn is a layer to bless.
type layerIn struct {
	name   string // for messages
	desc   v1.Descriptor
	diffID v1.Hash
	blob   io.ReaderAt
}

// layerOut is what became of it. Without a change diffID and digest are those
// of the source, and what was written is of no use.
type layerOut struct {
	digest, diffID v1.Hash
	size           int64
	packing        packing
	files          []tree.File
	stats          LayerStats
	changed        bool
	carried        bool // the source had records of ours already
}

// layer blesses in, writing the result to w. Errors name the entry.
func (r *run) layer(ctx context.Context, in layerIn, w io.Writer, progress func(int64)) (*layerOut, error) {
	said, err := packingOf(in.desc.MediaType)
	if err != nil {
		return nil, err
	}
	dec, from, err := newDecoder(in.blob, in.desc.Size, r.limits.ZstdWindow)
	if err != nil {
		return nil, err
	}
	defer dec.close()
	recompress := r.recompress
	if from != said {
		r.progress.Notice(fmt.Sprintf("%s: its media type says %s, its bytes are %s: packed anew, because only containerd unpacks it as it was", in.name, said, from))
		if recompress.packing == "" {
			recompress = packedAs(said)
		}
	}

	blobSum := &countingHash{Hash: sha256.New()}
	enc, to, err := newEncoder(io.MultiWriter(w, blobSum), from, recompress)
	if err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	decoded := newDecodeQueue(dec)
	waiting := newWaitQueue()
	s := &layerScan{run: r, ctx: gctx, decoded: decoded, waiting: waiting, meter: meter{limits: r.limits, packed: in.desc.Size}}
	s.scanner = r.limits.scanner(s)
	stop := context.AfterFunc(gctx, func() { decoded.stop(); waiting.stop() })
	defer stop()

	g.Go(func() error { // the blob as it is stored
		return checkBlob(gctx, in.blob, in.desc, progress)
	})
	g.Go(decoded.fill)
	g.Go(s.scan)
	sums := newDiffSums()
	g.Go(func() error {
		if err := assemble(gctx, waiting, enc, sums); err != nil {
			return err
		}
		return enc.close()
	})
	err = g.Wait()
	s.signing.Wait() // the key may be closed after us
	if err != nil {
		if errors.Is(err, errStopped) { // by whoever cancelled ctx
			err = ctx.Err()
		}
		// Bytes that are not those of the digest are damaged, whatever reading them came upon first.
		var limit *LimitError
		if ctx.Err() == nil && !errors.As(err, &limit) {
			if damaged := checkBlob(ctx, in.blob, in.desc, func(int64) {}); damaged != nil {
				err = damaged
			}
		}
		return nil, err
	}
	if got := sha256Of(sums.before); got != in.diffID {
		return nil, wrongDiffID(got, in.diffID)
	}
	s.stats.Signed = s.signed.Load()
	out := &layerOut{files: s.files, stats: s.stats, packing: to, carried: s.carried, changed: s.edits.Load() > 0 || recompress.packing != ""}
	if !out.changed {
		out.digest, out.diffID, out.size = in.desc.Digest, in.diffID, in.desc.Size
		return out, nil
	}
	out.digest, out.diffID, out.size = sha256Of(blobSum), sha256Of(sums.after), blobSum.n
	return out, nil
}

// checkBlob compares the stored bytes with their descriptor.
func checkBlob(ctx context.Context, blob io.ReaderAt, desc v1.Descriptor, progress func(int64)) error {
	if desc.Digest.Algorithm != "sha256" {
		return fmt.Errorf("digest %s: the algorithm must be sha256", desc.Digest)
	}
	sum := sha256.New()
	buf := plainBlocks.Get().(*[plainBlock]byte)
	defer plainBlocks.Put(buf)
	for off := int64(0); off < desc.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := blob.ReadAt(buf[:min(plainBlock, desc.Size-off)], off)
		if n == 0 {
			return fmt.Errorf("blob %s ends at byte %d of %d: %w", desc.Digest, off, desc.Size, err)
		}
		sum.Write(buf[:n])
		progress(int64(n))
		off += int64(n)
	}
	if got := sha256Of(sum); got != desc.Digest {
		return fmt.Errorf("blob %s has the digest %s\nhint: the source is damaged, fetch it again", desc.Digest, got)
	}
	return nil
}

// ---- decode: blocks read ahead ----

// decodeQueue reads a few blocks ahead, and can be held so that the decoder is
// forked.
type decodeQueue struct {
	dec    decoder
	decode sync.Mutex // held while a block is decoded and queued
	mu     sync.Mutex
	moved  sync.Cond
	blocks []*block
	err    error // comes after blocks
}

const readAhead = 4

var errStopped = errors.New("stopped")

func newDecodeQueue(dec decoder) *decodeQueue {
	q := &decodeQueue{dec: dec}
	q.moved.L = &q.mu
	return q
}

// fill decodes to the end.
func (q *decodeQueue) fill() error {
	for {
		q.mu.Lock()
		for len(q.blocks) >= readAhead && q.err == nil {
			q.moved.Wait()
		}
		err := q.err
		q.mu.Unlock()
		if err != nil {
			return nil
		}
		q.decode.Lock()
		b, err := q.dec.next()
		q.mu.Lock()
		if err == nil {
			q.blocks = append(q.blocks, b)
		} else if q.err == nil {
			q.err = err
		}
		q.moved.Broadcast()
		q.mu.Unlock()
		q.decode.Unlock()
	}
}

// next gives the next block; io.EOF at the end.
func (q *decodeQueue) next() (*block, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.blocks) == 0 {
		if q.err != nil {
			return nil, q.err
		}
		q.moved.Wait()
	}
	b := q.blocks[0]
	q.blocks = q.blocks[1:]
	q.moved.Broadcast()
	return b, nil
}

// peek lends f the blocks that were decoded and not yet taken, and a decoder
// for what comes after them.
func (q *decodeQueue) peek(f func([]*block, decoder) error) error {
	q.decode.Lock()
	defer q.decode.Unlock()
	q.mu.Lock()
	blocks := q.blocks
	q.mu.Unlock()
	dec, err := q.dec.fork()
	if err != nil {
		return err
	}
	defer dec.close()
	return f(blocks, dec)
}

func (q *decodeQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = errStopped
	}
	q.moved.Broadcast()
}

// ---- wait: blocks whose files are being signed ----

// A pending is a regular file whose edit is being made.
type pending struct {
	entry *xattr.Entry
	done  chan struct{} // closed when edit, changed and err are set
	edit  xattr.Edit
	set   bool // there is an edit
	err   error
}

// A waitingBlock carries the files whose headers begin in it.
type waitingBlock struct {
	*block
	files []*pending
}

// waitQueue passes blocks from scan to assemble. It has no bound of its own: scan
// asks for room whenever no file is open, and else hashes ahead.
type waitQueue struct {
	mu     sync.Mutex
	moved  sync.Cond
	blocks []waitingBlock
	memory int64
	closed bool
}

func newWaitQueue() *waitQueue {
	q := &waitQueue{}
	q.moved.L = &q.mu
	return q
}

func (q *waitQueue) push(b waitingBlock) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.blocks = append(q.blocks, b)
	q.memory += b.memory()
	q.moved.Broadcast()
}

func (q *waitQueue) pop() (waitingBlock, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.blocks) == 0 {
		if q.closed {
			return waitingBlock{}, false
		}
		q.moved.Wait()
	}
	b := q.blocks[0]
	q.blocks[0] = waitingBlock{}
	q.blocks = q.blocks[1:]
	return b, true
}

// done tells that a popped block was written, and what it took.
func (q *waitQueue) done(memory int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.memory -= memory
	q.moved.Broadcast()
}

// room waits until no more than maxQueued waits.
func (q *waitQueue) room() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.memory > maxQueued && !q.closed {
		q.moved.Wait()
	}
}

// full tells that more than maxWaiting waits.
func (q *waitQueue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.memory > maxWaiting
}

func (q *waitQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.moved.Broadcast()
}

// ---- assemble ----

// assemble gives the blocks with their edits to enc and to sums.
func assemble(ctx context.Context, waiting *waitQueue, enc encoder, sums *diffSums) error {
	var cut cutter
	var edits []xattr.Edit
	for {
		b, ok := waiting.pop()
		if !ok {
			return ctx.Err()
		}
		edits = edits[:0]
		for _, p := range b.files {
			select {
			case <-p.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if p.err != nil {
				return fmt.Errorf("%s: %w", tree.Show(p.entry.Name), p.err)
			}
			if p.set {
				edits = append(edits, p.edit)
			}
		}
		within := cut.cut(b.block, edits)
		sums.add(b.block, within)
		if err := enc.write(b.block, within); err != nil {
			return err
		}
		memory := b.memory()
		b.release()
		waiting.done(memory)
	}
}

// diffSums are the hashes of a layer's tar, before and after its edits. Between
// two edits both are of the same bytes.
type diffSums struct {
	before, after hash.Hash
	twin          twinhash.Twin
}

func newDiffSums() *diffSums { return &diffSums{before: sha256.New(), after: sha256.New()} }

// add takes the next block; each edit lies within it.
func (s *diffSums) add(b *block, edits []xattr.Edit) {
	data := b.data
	at := b.off
	for _, e := range edits {
		s.twin.Write(s.before, s.after, data[:e.Off-at])
		data = data[e.Off-at:]
		s.before.Write(data[:e.Len])
		data = data[e.Len:]
		s.after.Write(e.New)
		at = e.Off + e.Len
	}
	s.twin.Write(s.before, s.after, data)
}

func wrongDiffID(got, want v1.Hash) error {
	return fmt.Errorf("its DiffID is %s, the image config says %s\nhint: the source image is damaged or was put together wrongly", got, want)
}

// countingHash counts what it hashes.
type countingHash struct {
	hash.Hash
	n int64
}

func (h *countingHash) Write(p []byte) (int, error) {
	h.n += int64(len(p))
	return h.Hash.Write(p)
}

func sha256Of(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}
