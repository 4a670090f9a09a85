// SPDX-License-Identifier: Apache-2.0

package bless

// How a layer is packed: the media types that are known, and for each packing a
// decoder that yields the tar in blocks and an encoder that takes them back
// with edits.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sbom-bless/sbom-bless/deflate"
	"github.com/sbom-bless/sbom-bless/internal/magic"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// packing is the compression of a layer.
type packing string

const (
	packNone packing = "none"
	packGzip packing = "gzip"
	packZstd packing = "zstd"
)

const (
	ociLayer           = "application/vnd.oci.image.layer.v1.tar"
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	mediaTypeEncrypted = "+encrypted"
)

// packingOf reads the media type of a layer. Foreign, encrypted and unknown
// layers are refused.
func packingOf(mt types.MediaType) (packing, error) {
	switch string(mt) {
	case ociLayer, dockerLayer:
		return packNone, nil
	case ociLayer + "+gzip", dockerLayer + ".gzip":
		return packGzip, nil
	case ociLayer + "+zstd", dockerLayer + ".zstd":
		return packZstd, nil
	}
	switch {
	case strings.HasSuffix(string(mt), mediaTypeEncrypted):
		return "", fmt.Errorf("media type %s: the layer is encrypted\nhint: bless the image before it is encrypted", mt)
	case !mt.IsDistributable():
		return "", fmt.Errorf("media type %s: the layer is foreign, its bytes are not part of the image", mt)
	}
	return "", fmt.Errorf("media type %s is not a layer that can be blessed", mt)
}

// mediaType is the media type of a layer of the family of like, packed as p.
func (p packing) mediaType(like types.MediaType) (types.MediaType, error) {
	if strings.HasPrefix(string(like), dockerLayer) {
		switch p {
		case packNone:
			return dockerLayer, nil
		case packGzip:
			return dockerLayer + ".gzip", nil
		}
		return "", fmt.Errorf("media type %s: Docker's media types know no %s\nhint: convert the image to OCI media types first", like, p)
	}
	if p == packNone {
		return ociLayer, nil
	}
	return types.MediaType(ociLayer + "+" + string(p)), nil
}

// packingByMagic tells how data that begins with head is packed.
func packingByMagic(head []byte) packing {
	switch {
	case magic.Gzip(head):
		return packGzip
	case magic.Zstd(head):
		return packZstd
	}
	return packNone
}

// A block is a run of bytes of the uncompressed layer.
type block struct {
	off  int64
	data []byte
	gz   *deflate.Block // of a gzip layer: what is needed to write it again
}

func (b *block) end() int64 { return b.off + int64(len(b.data)) }

// memory is about how many bytes b takes as long as it is not released.
func (b *block) memory() int64 {
	if b.gz != nil {
		return b.gz.Memory()
	}
	return plainBlock
}

func (b *block) release() {
	if b.gz != nil {
		b.gz.Release()
		return
	}
	plainBlocks.Put((*[plainBlock]byte)(b.data[:plainBlock]))
}

// A decoder yields a layer's uncompressed bytes in order; io.EOF comes after
// the checksums of the packing were verified.
type decoder interface {
	next() (*block, error)
	// fork gives a decoder that continues where this one stands, while this one
	// rests. Forks are made at offsets that only grow.
	fork() (decoder, error)
	close()
}

// An encoder takes a layer's blocks in order, with the edits that begin in each.
type encoder interface {
	write(b *block, edits []xattr.Edit) error
	close() error
}

// newDecoder decodes the layer in src by what its bytes are, and tells what that is. Media types
// that say something else are in use, and containerd unpacks such layers; the DiffID holds what
// was read against what the image means.
func newDecoder(src io.ReaderAt, size int64, maxWindow uint64) (decoder, packing, error) {
	var head [4]byte
	n, err := src.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	switch p := packingByMagic(head[:n]); p {
	case packGzip:
		return gzipDecoder{deflate.NewReader(src, size)}, p, nil
	case packZstd:
		d, err := newZstdDecoder(src, size, maxWindow)
		return d, p, err
	}
	return &plainDecoder{r: io.NewSectionReader(src, 0, size), src: src, size: size}, packNone, nil
}

// ---- gzip: spliced ----

type gzipDecoder struct{ r *deflate.Reader }

func (d gzipDecoder) next() (*block, error) {
	b, err := d.r.Next()
	if err != nil {
		return nil, err
	}
	return &block{off: b.Off, data: b.Data, gz: b}, nil
}

func (d gzipDecoder) fork() (decoder, error) { return gzipDecoder{d.r.Fork()}, nil }
func (d gzipDecoder) close()                 {}

type gzipSplicer struct {
	w     *deflate.Writer
	edits []deflate.Edit
}

func (e *gzipSplicer) write(b *block, edits []xattr.Edit) error {
	e.edits = e.edits[:0]
	for _, edit := range edits {
		e.edits = append(e.edits, deflate.Edit(edit))
	}
	return e.w.WriteBlock(b.gz, e.edits)
}

func (e *gzipSplicer) close() error { return e.w.Close() }

// ---- none, zstd: decoded to plain blocks ----

const plainBlock = 256 << 10

var plainBlocks = sync.Pool{New: func() any { return new([plainBlock]byte) }}

type plainDecoder struct {
	r    io.Reader
	off  int64
	src  io.ReaderAt
	size int64
}

func (d *plainDecoder) next() (*block, error) {
	buf := plainBlocks.Get().(*[plainBlock]byte)
	n, err := io.ReadFull(d.r, buf[:])
	if n == 0 {
		plainBlocks.Put(buf)
		return nil, err
	}
	if err != nil && err != io.ErrUnexpectedEOF {
		plainBlocks.Put(buf)
		return nil, err
	}
	b := &block{off: d.off, data: buf[:n]}
	d.off += int64(n)
	return b, nil
}

func (d *plainDecoder) fork() (decoder, error) {
	return &plainDecoder{r: io.NewSectionReader(d.src, d.off, d.size-d.off), off: d.off, src: d.src, size: d.size}, nil
}

func (d *plainDecoder) close() {}

type zstdDecoder struct {
	plainDecoder
	z         *zstd.Decoder
	maxWindow uint64
	scout     *zstdDecoder // runs ahead; shared by all forks, because zstd cannot seek
}

func newZstdDecoder(src io.ReaderAt, size int64, maxWindow uint64) (*zstdDecoder, error) {
	z, err := zstd.NewReader(bufio.NewReaderSize(io.NewSectionReader(src, 0, size), plainBlock),
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecoderMaxMemory(math.MaxInt64)) // Limits.LayerBytes counts what comes out
	if err != nil {
		return nil, err
	}
	return &zstdDecoder{plainDecoder: plainDecoder{r: windowReader{z, maxWindow}, src: src, size: size}, z: z, maxWindow: maxWindow}, nil
}

// windowReader says which limit a frame exceeds. A frame of a single segment has its content for a
// window, and the decoder another error for it.
type windowReader struct {
	z   *zstd.Decoder
	max uint64
}

func (r windowReader) Read(p []byte) (int, error) {
	n, err := r.z.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = exceeds("ZstdWindow", "a zstd frame with a window of more than %d bytes", r.max)
	}
	return n, err
}

func (d *zstdDecoder) fork() (decoder, error) {
	if d.scout == nil {
		scout, err := newZstdDecoder(d.src, d.size, d.maxWindow)
		if err != nil {
			return nil, err
		}
		d.scout = scout
	}
	n, err := io.CopyN(io.Discard, d.scout.r, d.off-d.scout.off)
	d.scout.off += n
	if err != nil {
		return nil, err
	}
	return scoutDecoder{d.scout}, nil
}

func (d *zstdDecoder) close() {
	d.z.Close()
	if d.scout != nil {
		d.scout.close()
	}
}

// scoutDecoder lends the scout: closing it keeps the scout for the next fork.
type scoutDecoder struct{ *zstdDecoder }

func (scoutDecoder) close() {}

// ---- encoders ----

// recompression is the choice of Options.Recompress.
type recompression struct {
	packing packing
	level   int
}

// packedAs packs a layer as its media type says.
func packedAs(p packing) recompression {
	return recompression{p, map[packing]int{packGzip: 6, packZstd: 3}[p]}
}

// parseRecompress reads "gzip", "zstd", "gzip:9", "zstd:19".
func parseRecompress(s string) (recompression, error) {
	if s == "" {
		return recompression{}, nil
	}
	name, level, hasLevel := strings.Cut(s, ":")
	rc := recompression{packing: packing(name)}
	limits := map[packing][3]int{packGzip: {6, 1, 9}, packZstd: {3, 1, 22}}[rc.packing]
	if limits[0] == 0 {
		return rc, fmt.Errorf("recompress %q: choose gzip or zstd, with :LEVEL if you like", s)
	}
	rc.level = limits[0]
	if hasLevel {
		n, err := strconv.Atoi(level)
		if err != nil || n < limits[1] || n > limits[2] {
			return rc, fmt.Errorf("recompress %q: the level of %s is a number from %d to %d", s, name, limits[1], limits[2])
		}
		rc.level = n
	}
	return rc, nil
}

// newEncoder writes a layer to w: spliced where a gzip layer stays gzip,
// copied where it is not packed, else packed anew.
func newEncoder(w io.Writer, from packing, rc recompression) (encoder, packing, error) {
	to := from
	if rc.packing != "" {
		to = rc.packing
	}
	switch {
	case from == packGzip && rc.packing == "":
		return &gzipSplicer{w: deflate.NewWriter(w)}, to, nil
	case to == packGzip:
		z, err := gzip.NewWriterLevel(w, rc.level)
		return &plainEncoder{z, z}, to, err
	case to == packZstd:
		level := zstd.SpeedDefault
		if rc.packing != "" {
			level = zstd.EncoderLevelFromZstd(rc.level)
		}
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level))
		return &plainEncoder{z, z}, to, err
	}
	return &plainEncoder{w, nil}, to, nil
}

// plainEncoder applies edits and hands the bytes on.
type plainEncoder struct {
	w io.Writer
	c io.Closer
}

func (e *plainEncoder) write(b *block, edits []xattr.Edit) error {
	return applyEdits(e.w, b, edits)
}

func (e *plainEncoder) close() error {
	if e.c == nil {
		return nil
	}
	return e.c.Close()
}

// applyEdits writes the bytes of b to w with the edits applied; each edit lies
// within b.
func applyEdits(w io.Writer, b *block, edits []xattr.Edit) error {
	at := b.off
	for _, e := range edits {
		if _, err := w.Write(b.data[at-b.off : e.Off-b.off]); err != nil {
			return err
		}
		if _, err := w.Write(e.New); err != nil {
			return err
		}
		at = e.Off + e.Len
	}
	_, err := w.Write(b.data[at-b.off:])
	return err
}
