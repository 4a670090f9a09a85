// SPDX-License-Identifier: Apache-2.0

// Package bless gives every file of a container image the attributes that the
// kernel judges it by, and checks them again.
//
// [Image] reads an image or index from a source, adds security.ima,
// security.bpf.bless and security.evm to the tar headers of its layers as PAX
// records, and puts the result into a destination. Only headers change: taking
// the records out again gives the source layer back byte for byte.
//
// Image is four stages, which callers that add something to the image call
// themselves: [Open] plans, [Job.Run] blesses the layers, [Draft.Write] stores the
// manifests, and [Result.Commit] makes the image visible. Between Run and Write, a
// [Draft] takes a layer on top, or manifests beside the image, that speak of what
// Run made.
//
// [Verify] checks a blessed image and [Inspect] lists what attributes it has.
//
// Package xattr defines what the attributes hold, and package deflate gets an edit
// into a gzip stream without recompression.
package bless

import (
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// BPFFiles chooses the files that get security.bpf.bless.
type BPFFiles string

// The choices: files that count as code (an x bit, ELF, "#!", a known suffix),
// every regular file, or none.
const (
	BPFCode BPFFiles = "code"
	BPFAll  BPFFiles = "all"
	BPFNone BPFFiles = "none"
)

// Options are the choices of Image; the zero value is a good one.
type Options struct {
	// Hash is the algorithm of security.ima, SHA-256 if zero.
	Hash xattr.Hash
	// IMAVersion is the version of IMA signatures, 2 (the default) or 3.
	IMAVersion int
	// EVM adds portable security.evm signatures.
	EVM bool
	// BPFFiles is BPFCode if empty.
	BPFFiles BPFFiles
	// Replace exchanges attributes that are there already and do not verify
	// under the key.
	Replace bool
	// Recompress packs changed layers anew: "gzip", "zstd", "gzip:9", ...
	Recompress string
	// Platforms are the children of an index to bless, all if empty.
	Platforms []v1.Platform
	// Certificate is recorded in the image config, for keys that a root key
	// certified for this run (DER).
	Certificate []byte
	// Detached leaves the image as it is: its layers are read, and nothing is written. The
	// result is that of a run that found nothing to do. Options of attributes do not count.
	Detached bool
	// Files asks for the effective tree of each image, and for warnings of files
	// that are in a layer twice.
	Files bool
	// SHA1 asks for the SHA-1 digests of files, which SPDX 2.3 demands.
	SHA1 bool
	// Jobs is how many layers, and how many signatures, are made at a time;
	// GOMAXPROCS if zero. The result does not depend on it.
	Jobs int
	// Cache remembers blessed layers; nil: none.
	Cache *Cache
	// Ledger leaves signed records of blessed layers in the destination, if that is
	// a registry or a layout, and uses those of earlier runs. Not for keys that
	// live for one run.
	Ledger bool
	// TempDir holds layers on their way; os.TempDir if empty.
	TempDir string
	// Limits hold hostile input off.
	Limits Limits
	// Progress hears how far the work is; may be nil.
	Progress Progress
}

// Limits of what a layer may be; a zero field means the default.
type Limits struct {
	LayerBytes int64  // unpacked, default 64 GiB
	Ratio      int64  // unpacked to packed size, default 250, of what is over 1 GiB
	Entries    int64  // of a layer, default 1,000,000
	Header     int64  // bytes of a tar extension header, default 1 MiB
	ZstdWindow uint64 // bytes, default 128 MiB
	XattrBytes int64  // of one file's attributes, default 3,900: one ext4 block with room to spare
}

func (l Limits) withDefaults() Limits {
	if l.LayerBytes == 0 {
		l.LayerBytes = 64 << 30
	}
	if l.Ratio == 0 {
		l.Ratio = 250
	}
	if l.Entries == 0 {
		l.Entries = 1_000_000
	}
	if l.Header == 0 {
		l.Header = 1 << 20
	}
	if l.ZstdWindow == 0 {
		l.ZstdWindow = 128 << 20
	}
	if l.XattrBytes == 0 {
		l.XattrBytes = defaultXattrBytes
	}
	return l
}

const defaultXattrBytes = 3900

// scanner makes a scanner that keeps to the limits.
func (l Limits) scanner(h xattr.Handler) *xattr.Scanner {
	s := xattr.NewScanner(h)
	s.Limits.Header = l.Header
	return s
}

// LimitError says which of the [Limits] a layer exceeds: a caller that trusts the image may raise it.
type LimitError struct {
	Limit string // the name of the field
	text  string
}

func (e *LimitError) Error() string { return e.text }

func exceeds(limit, format string, a ...any) error {
	return &LimitError{limit, fmt.Sprintf(format, a...)}
}

// ErrForeign is wrapped by errors about attributes of ours that somebody else set, which
// Options.Replace would exchange.
var ErrForeign = errors.New("does not verify under this key")

// A meter holds one layer against the limits.
type meter struct {
	limits Limits
	packed int64 // size of the layer as it is stored
	holes  int64 // bytes of sparse files that the tar does not hold
	kept   int64 // bytes of metadata that stay in memory until the layer ends
}

// unpacked takes note that there are n bytes of tar, or will be.
func (m *meter) unpacked(n int64) error {
	n += m.holes
	if n > m.limits.LayerBytes {
		return exceeds("LayerBytes", "more than %d bytes when unpacked", m.limits.LayerBytes)
	}
	if n > ratioFloor && n/m.limits.Ratio > m.packed {
		return exceeds("Ratio", "more than %d times its packed size: looks like a decompression bomb", m.limits.Ratio)
	}
	return nil
}

// ratioFloor is the unpacked size from which the ratio counts.
const ratioFloor = 1 << 30

// entry takes note of an entry, before its content is read. Holes of sparse files count as
// unpacked bytes: they are hashed too.
func (m *meter) entry(s *LayerStats, e *xattr.Entry, f *tree.File) error {
	if s.Entries++; s.Entries > m.limits.Entries {
		return exceeds("Entries", "more than %d entries", m.limits.Entries)
	}
	if f.Size > m.limits.LayerBytes-s.FileBytes {
		return exceeds("LayerBytes", "more than %d bytes in its files", m.limits.LayerBytes)
	}
	if e.Sparse {
		m.holes += max(0, e.Size-e.Stored())
		if err := m.unpacked(e.Next()); err != nil {
			return err
		}
	}
	m.kept += int64(len(f.Name) + len(f.Link))
	for _, value := range f.Xattrs {
		m.kept += int64(len(value))
	}
	if m.kept > baseKept+s.Entries*entryKept {
		return fmt.Errorf("metadata exceeds the limit of %d MiB plus %d KiB per entry", baseKept>>20, entryKept>>10)
	}
	return nil
}

// Memory budget for the metadata of entries: a small layer can expand into many 4 KB paths, which
// compress well. Those of real images have some 60 bytes.
const (
	baseKept  = 16 << 20
	entryKept = 1 << 10
)

// held takes note of the memory of the blocks that the headers of one entry lie in. There are
// four headers of Limits.Header at most, and a block takes some three times its data:
// only a gzip stream of more deflate blocks than data comes up to the limit.
func (m *meter) held(memory int64) error {
	if memory > baseKept+16*m.limits.Header {
		return errors.New("the headers of one entry lie in too many deflate blocks: nobody packs a layer like that")
	}
	return nil
}

// Progress hears of the layers as they are worked on. Layer is called once for
// each layer that is read; add takes the bytes of it, packed, that were read since. Stage is called when a stage of
// the run begins, and what it returns when that ends; stages may overlap.
type Progress interface {
	Layer(desc v1.Descriptor) (add func(n int64), done func(outcome string))
	Stage(name string) (end func())
	Notice(text string)
}

type quiet struct{}

func (quiet) Layer(v1.Descriptor) (func(int64), func(string)) {
	return func(int64) {}, func(string) {}
}
func (quiet) Stage(string) func() { return func() {} }
func (quiet) Notice(string)       {}

// noticing keeps the notices for the result as well, from several layers at a time.
type noticing struct {
	Progress
	result *Result
	mu     sync.Mutex
}

func (n *noticing) Notice(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.result.Notices = append(n.result.Notices, text)
	n.Progress.Notice(text)
}

// Result is what Image did. Its JSON form is the documented output of
// `sbom-bless bless --output json`.
type Result struct {
	// Source and Blessed are the canonical references of the roots.
	Source  string `json:"source"`
	Blessed string `json:"blessed"`
	// Also are those of the blessed image in further places, see [transport.Several].
	Also []string `json:"also,omitempty"`
	// SourceDescriptor and Descriptor are the roots themselves.
	SourceDescriptor v1.Descriptor `json:"sourceDescriptor"`
	Descriptor       v1.Descriptor `json:"descriptor"`
	// KeyID names the key that signed, as security.ima does; empty for digests only.
	KeyID string `json:"keyId,omitempty"`
	// Certificate is the one of a delegated key, DER.
	Certificate []byte `json:"certificate,omitempty"`
	Hash        string `json:"hash"`
	IMAVersion  int    `json:"imaVersion,omitempty"`
	// Images are the platforms, in the order of the index.
	Images []ImageResult `json:"images"`
	// Dropped are children of the index that no longer hold: attestations of the source.
	Dropped []v1.Descriptor `json:"dropped,omitempty"`
	// Notices are remarks that a person should read.
	Notices []string `json:"notices,omitempty"`
	// Seconds is the wall time of the run.
	Seconds float64 `json:"seconds"`

	started time.Time
}

// ImageResult is what became of one platform.
type ImageResult struct {
	Platform string        `json:"platform"`
	Source   v1.Descriptor `json:"source"`
	Blessed  v1.Descriptor `json:"blessed"`
	Layers   []LayerResult `json:"layers"`
	// Embedded is the layer on top of Layers, if [Draft.Embed] or [Draft.Keep] gave it one.
	Embedded *EmbeddedLayer `json:"embedded,omitempty"`
	// SourceEmbedded is the layer that an earlier blessing embedded in the source, if it was there.
	SourceEmbedded *v1.Descriptor `json:"sourceEmbedded,omitempty"`
	// Created is when the image says it was made.
	Created time.Time `json:"created,omitzero"`
	// Memory are the files that a node runs under rule jit alone: they ask for memory that is
	// writable and executable.
	Memory []MemoryFile `json:"memory,omitempty"`
	// Tree is what a container sees, if Options.Files asked for it; not part of the JSON.
	Tree *tree.Tree `json:"-"`
	// Manifest and Config are the bytes that Blessed describes, and those of its config; not part of the JSON.
	Manifest []byte `json:"-"`
	Config   []byte `json:"-"`
}

// Unchanged reports whether every layer was right already.
func (ir *ImageResult) Unchanged() bool {
	for _, l := range ir.Layers {
		if l.Blessed.Digest != l.Source.Digest {
			return false
		}
	}
	return true
}

// EmbeddedLayer is a layer on top of a blessed image that carries statements about it.
type EmbeddedLayer struct {
	// Image is the manifest as it is without the layer, which the layer speaks of.
	Image  v1.Descriptor `json:"image"`
	Layer  v1.Descriptor `json:"layer"`
	DiffID v1.Hash       `json:"diffId"`
}

// LayerResult is what became of one layer.
type LayerResult struct {
	Source        v1.Descriptor `json:"source"`
	SourceDiffID  v1.Hash       `json:"sourceDiffId"`
	Blessed       v1.Descriptor `json:"blessed"`
	BlessedDiffID v1.Hash       `json:"blessedDiffId"`
	// ContentDiffID is the DiffID without our records: SourceDiffID, unless the
	// source carried such records already.
	ContentDiffID v1.Hash `json:"contentDiffId"`
	// Outcome is "blessed", "unchanged" (all was right already) or "cached".
	Outcome string `json:"outcome"`
	LayerStats
	// Files are the layer's entries in the order of the tar; not part of the JSON.
	Files []tree.File `json:"-"`
}

// Outcomes of a layer.
const (
	OutcomeBlessed   = "blessed"
	OutcomeUnchanged = "unchanged"
	OutcomeCached    = "cached"
)

// LayerStats counts what is in a layer.
type LayerStats struct {
	Entries   int64 `json:"entries"`
	Regular   int64 `json:"regular"`   // regular files
	Code      int64 `json:"code"`      // of them, those that count as code
	FileBytes int64 `json:"fileBytes"` // their content
	Signed    int64 `json:"signed"`    // files that got attributes in this run
}

// count adds a regular file.
func (s *LayerStats) count(f *tree.File) {
	s.Regular++
	s.FileBytes += f.Size
	if f.Code {
		s.Code++
	}
}

// Add sums two counts.
func (s LayerStats) Add(t LayerStats) LayerStats {
	return LayerStats{s.Entries + t.Entries, s.Regular + t.Regular, s.Code + t.Code, s.FileBytes + t.FileBytes, s.Signed + t.Signed}
}
