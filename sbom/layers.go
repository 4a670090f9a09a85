// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/deflate"
	"github.com/sbom-bless/sbom-bless/internal/magic"
)

// quickImage is an image whose gzip layers are unpacked by package deflate: the decoder of the standard
// library takes as much time as all that syft does afterwards. Its layers are orderly, see rewrite.
type quickImage struct {
	v1.Image
	repeats []bool // for each layer that counts: whether a name was seen to stand twice in it
}

// Layers is that of v1.Image.
func (i quickImage) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	if err != nil {
		return nil, err
	}
	layers = layers[:min(len(i.repeats), len(layers))]
	for n := range layers {
		layers[n] = quickLayer{layers[n], &i.repeats[n]}
	}
	return layers, nil
}

type quickLayer struct {
	v1.Layer
	repeats *bool
}

// Uncompressed is that of v1.Layer. If a name stands twice in the layer and repeats does not say so yet, reading ends
// with errRepeated, and repeats says so.
func (l quickLayer) Uncompressed() (io.ReadCloser, error) {
	var counts map[int]bool
	if *l.repeats {
		layer, err := l.unpack()
		if err != nil {
			return nil, err
		}
		counts, err = counting(layer)
		if err = errors.Join(err, layer.Close()); err != nil {
			return nil, err
		}
	}
	layer, err := l.unpack()
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		defer layer.Close()
		b := bufio.NewWriterSize(w, 64<<10)
		err := rewrite(b, layer, counts)
		if errors.Is(err, errRepeated) {
			*l.repeats = true
		}
		if err == nil {
			err = b.Flush()
		}
		w.CloseWithError(err)
	}()
	return r, nil
}

// unpack gives the tar as it is.
func (l quickLayer) unpack() (io.ReadCloser, error) {
	size, err := l.Size()
	if err != nil {
		return nil, err
	}
	packed, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(packed)
	if head, err := r.Peek(magic.Size); err != nil || !magic.Gzip(head) {
		packed.Close()
		return l.Layer.Uncompressed() // errors too are its own
	}
	return &unpacking{Closer: packed, packed: r, gz: deflate.NewReader(&inOrder{r: r}, size)}, nil
}

// inOrder is a stream as an io.ReaderAt for somebody who reads it from the first byte to the last.
type inOrder struct {
	r   io.Reader
	off int64
}

func (s *inOrder) ReadAt(p []byte, off int64) (int, error) {
	if off != s.off {
		return 0, fmt.Errorf("byte %d of a stream that is at %d", off, s.off)
	}
	n, err := io.ReadFull(s.r, p)
	s.off += int64(n)
	return n, err
}

// unpacking is the content of a gzip layer.
type unpacking struct {
	io.Closer
	packed io.Reader
	gz     *deflate.Reader
	block  *deflate.Block
	rest   []byte // of block, not read yet
}

func (u *unpacking) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		if u.block != nil {
			u.block.Release()
			u.block = nil
		}
		b, err := u.gz.Next()
		if err == io.EOF {
			// The stream says at its end whether it was what it should be.
			if _, err = io.ReadFull(u.packed, make([]byte, 1)); err == nil {
				err = errors.New("layer of more bytes than its descriptor says")
			}
			return 0, err
		}
		if err != nil {
			return 0, err
		}
		u.block, u.rest = b, b.Data
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}
