// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"bufio"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
)

// quickImage is an image whose gzip layers are unpacked by a faster decoder than that of the standard
// library, which takes as much time as all that syft does afterwards.
type quickImage struct {
	v1.Image
	n int // how many of its layers count
}

// Layers is that of v1.Image.
func (i quickImage) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	if err != nil {
		return nil, err
	}
	layers = layers[:min(i.n, len(layers))]
	for n := range layers {
		layers[n] = quickLayer{layers[n]}
	}
	return layers, nil
}

type quickLayer struct{ v1.Layer }

// Uncompressed is that of v1.Layer.
func (l quickLayer) Uncompressed() (io.ReadCloser, error) {
	packed, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(packed, 1<<18)
	if head, err := r.Peek(2); err != nil || head[0] != 0x1f || head[1] != 0x8b {
		packed.Close()
		return l.Layer.Uncompressed() // errors too are its own
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, errors.Join(err, packed.Close())
	}
	return unpacking{z, packed}, nil
}

// unpacking closes both the decoder and what it reads.
type unpacking struct {
	*gzip.Reader
	packed io.Closer
}

func (u unpacking) Close() error { return errors.Join(u.Reader.Close(), u.packed.Close()) }
