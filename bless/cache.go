// SPDX-License-Identifier: Apache-2.0

package bless

// The cache: blessed layers by what they were made from and with, and what was
// found in layers. A record
// tells what became of a layer. In the local cache the blob lies beside it;
// whoever can write that directory can choose what is pushed, as with any build
// cache. In a registry, records are signed (ledger.go).

import (
	"bufio"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/sbom-bless/sbom-bless/internal/atomicfile"
	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/tree"
)

// recordVersion changes when the records, or what bless makes of a layer, change:
// TestResultIsTheSameEverywhere tells.
const recordVersion = 4

// Cache is a directory of blessed layers and of what scans found, shared by runs at the same time. That it
// cannot be written ends no run: see Err.
type Cache struct {
	dir string

	mu  sync.Mutex
	err error
}

// OpenCache makes the directory ready.
func OpenCache(dir string) (*Cache, error) {
	c := &Cache{dir: dir}
	for _, d := range c.dirs() {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
	}
	c.sweep()
	return c, nil
}

// Err is the first error that kept the cache from remembering something; nil if there was none.
func (c *Cache) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// failed takes note that something could not be remembered.
func (c *Cache) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && err != nil {
		c.err = fmt.Errorf("cache: %w", err)
	}
}

// sweep takes away what runs left that were killed.
func (c *Cache) sweep() {
	for _, d := range c.dirs() {
		left, _ := filepath.Glob(filepath.Join(d, atomicfile.Pattern)) // the pattern is right
		for _, name := range left {
			if st, err := os.Stat(name); err == nil && time.Since(st.ModTime()) > 24*time.Hour {
				os.Remove(name)
			}
		}
	}
}

func (c *Cache) blobDir() string   { return filepath.Join(c.dir, "blobs", "sha256") }
func (c *Cache) recordDir() string { return filepath.Join(c.dir, "layers") }
func (c *Cache) scanDir() string   { return filepath.Join(c.dir, "packages") }
func (c *Cache) dirs() []string    { return []string{c.blobDir(), c.recordDir(), c.scanDir()} }

// record is what the cache knows of one layer.
type record struct {
	Key       v1.Hash `json:"key"` // what it was made from and with
	Digest    v1.Hash `json:"digest"`
	DiffID    v1.Hash `json:"diffId"`
	Content   v1.Hash `json:"contentDiffId"`
	Size      int64   `json:"size"`
	MediaType string  `json:"mediaType"`
	Changed   bool    `json:"changed"`
	LayerStats
	Listed int         `json:"listed"` // how many files follow, one on a line
	Files  []tree.File `json:"-"`
}

// encode writes the record: one line of JSON, and one for each file.
func (rec *record) encode(w io.Writer) error {
	rec.Listed = len(rec.Files)
	enc := json.NewEncoder(w)
	if err := enc.Encode(rec); err != nil {
		return err
	}
	for i := range rec.Files {
		if err := enc.Encode(&rec.Files[i]); err != nil {
			return err
		}
	}
	return nil
}

// decodeRecord reads what encode wrote, whole.
func decodeRecord(r io.Reader) (*record, error) {
	rec := new(record)
	dec := json.NewDecoder(r)
	if err := dec.Decode(rec); err != nil {
		return nil, err
	}
	rec.Files = make([]tree.File, 0, min(rec.Listed, 1<<20))
	for range rec.Listed {
		var f tree.File
		if err := dec.Decode(&f); err != nil {
			return nil, err
		}
		rec.Files = append(rec.Files, f)
	}
	return rec, nil
}

// cacheOptions names all that the blessed bytes depend on, beside the layer, and what they were held
// against: a layer that was blessed under another limit of attributes must be read again. The other
// limits are for reading alone.
func (r *run) cacheOptions() string {
	key := "digests"
	if r.signer != nil {
		key = publicSum(r.signer.Public()) + r.signer.KeyID().String()
	}
	options := fmt.Sprintf("%d %s %s %d %t %s %t %v %t", recordVersion, key, r.hash, r.imaVersion, r.evm, r.bpfFiles, r.replace, r.recompress, r.sha1)
	if r.limits.XattrBytes != defaultXattrBytes {
		options += fmt.Sprintf(" %d", r.limits.XattrBytes)
	}
	return options
}

// publicSum is the SHA-256 of the key as PKIX has it.
func publicSum(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(err) // a Signer has no key that cannot be written
	}
	return fmt.Sprintf("%x", sha256.Sum256(der))
}

// recordKey names what a layer is made from and with.
func (r *run) recordKey(j *layerJob) v1.Hash {
	return digest.Of([]byte(r.cacheKey + " " + string(j.source.MediaType) + " " + j.source.Digest.String() + " " + j.diffID.String()))
}

func (r *run) recordFile(j *layerJob) string {
	return filepath.Join(r.opts.Cache.recordDir(), r.recordKey(j).Hex+".json")
}

// fromCache finishes the job from the cache, local or in the destination, if one
// knows the layer and the blob is at hand.
func (r *run) fromCache(ctx context.Context, j *layerJob) (bool, error) {
	if rec := r.localRecord(j); rec != nil {
		if done, err := r.useRecord(ctx, j, rec); done || err != nil {
			return done, err
		}
	}
	rec, err := r.ledgerRecord(ctx, j)
	if rec == nil || err != nil {
		return false, err
	}
	return r.useRecord(ctx, j, rec)
}

// localRecord is nil if the cache does not know the layer. A record that cannot
// be read, as after a crash, counts as none.
func (r *run) localRecord(j *layerJob) *record {
	if r.opts.Cache == nil {
		return nil
	}
	f, err := os.Open(r.recordFile(j))
	if err != nil {
		return nil
	}
	defer f.Close()
	rec, err := decodeRecord(bufio.NewReaderSize(f, 64<<10))
	if err != nil {
		return nil
	}
	return rec
}

// useRecord finishes the job by a record, if the blob is at hand.
func (r *run) useRecord(ctx context.Context, j *layerJob, rec *record) (bool, error) {
	desc := j.source
	if rec.Changed {
		desc.Digest, desc.Size, desc.MediaType = rec.Digest, rec.Size, types.MediaType(rec.MediaType)
		desc.Annotations, _ = withoutTOC(j.source.Annotations)
	}
	if ok, err := r.placeCached(ctx, desc, rec.Changed); !ok || err != nil {
		return false, err
	}
	stats := rec.LayerStats
	stats.Signed = 0 // in this run
	j.out = LayerResult{
		Source: j.source, SourceDiffID: j.diffID, Blessed: desc, BlessedDiffID: rec.DiffID,
		ContentDiffID: rec.Content, Outcome: OutcomeCached, LayerStats: stats, Files: rec.Files,
	}
	return true, nil
}

// placeCached sees to it that the destination has the blob.
func (r *run) placeCached(ctx context.Context, desc v1.Descriptor, changed bool) (bool, error) {
	if ok, err := r.dst.Has(ctx, desc); ok || err != nil {
		return ok, err
	}
	if !changed {
		return true, r.copyBlob(ctx, desc)
	}
	if r.opts.Cache == nil {
		return false, nil
	}
	name := filepath.Join(r.opts.Cache.blobDir(), desc.Digest.Hex)
	if st, err := os.Stat(name); err != nil || st.Size() != desc.Size {
		return false, nil
	}
	err := r.dst.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return os.Open(name) })
	if err != nil && ctx.Err() == nil {
		return false, nil // damaged: the layer is made again, and says so if the place is at fault
	}
	return err == nil, err
}

// remember keeps what became of the layer; the cache has its blob already.
func (r *run) remember(ctx context.Context, j *layerJob) error {
	rec := record{
		Key: r.recordKey(j), Digest: j.out.Blessed.Digest, DiffID: j.out.BlessedDiffID, Content: j.out.ContentDiffID, Size: j.out.Blessed.Size,
		MediaType: string(j.out.Blessed.MediaType), Changed: j.out.Outcome == OutcomeBlessed, LayerStats: j.out.LayerStats, Files: j.out.Files,
	}
	if err := r.writeLedger(ctx, j, &rec); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.progress.Notice("the destination keeps no record of blessed layers: " + err.Error())
	}
	if r.opts.Cache != nil {
		r.opts.Cache.failed(atomicfile.Write(r.recordFile(j), 0o600, rec.encode))
	}
	return nil
}

// Scan gives what a scan for packages found that had this key; nil if nobody kept it, or if
// it cannot be read, as after a crash.
func (c *Cache) Scan(key v1.Hash) []byte {
	packed, err := os.ReadFile(c.scanFile(key))
	if err != nil {
		return nil
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil
	}
	defer z.Close()
	found, err := z.DecodeAll(packed, nil)
	if err != nil {
		return nil
	}
	return found
}

// KeepScan keeps what a scan found.
func (c *Cache) KeepScan(key v1.Hash, found []byte) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err == nil {
		err = atomicfile.Write(c.scanFile(key), 0o600, func(w io.Writer) error {
			_, err := w.Write(z.EncodeAll(found, nil))
			return err
		})
	}
	c.failed(err)
}

func (c *Cache) scanFile(key v1.Hash) string {
	return filepath.Join(c.scanDir(), key.Hex+".zst")
}

// keep makes the file name a blob of the cache as well: one file of two names,
// where the file system allows that. Nobody writes into a blob; a cache whose
// blob was damaged all the same finds out when it is used.
func (c *Cache) keep(name string, digest v1.Hash) {
	blob := filepath.Join(c.blobDir(), digest.Hex)
	temp := filepath.Join(c.blobDir(), atomicfile.TempName())
	err := os.Link(name, temp)
	if err == nil {
		err = os.Rename(temp, blob)
		os.Remove(temp) // still there if blob was this very file
	} else {
		err = copyFile(name, blob)
	}
	c.failed(err)
}

func copyFile(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return atomicfile.Write(to, 0o600, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}
