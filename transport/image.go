// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxConfig is the largest config that is read into memory.
const maxConfig = 8 << 20

// Image gives the image whose manifest desc describes in the form that other
// libraries take. Config and layers are verified as they are read: whoever reads
// a layer to its end has its bytes. ctx counts for all later reads, which must
// end before src is closed.
func Image(ctx context.Context, src Source, desc v1.Descriptor) (v1.Image, error) {
	raw, err := src.Manifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(&image{ctx: ctx, src: src, desc: desc, raw: raw})
}

// image is a partial.CompressedImageCore.
type image struct {
	ctx  context.Context
	src  Source
	desc v1.Descriptor
	raw  []byte
}

func (i *image) MediaType() (types.MediaType, error) { return i.desc.MediaType, nil }
func (i *image) RawManifest() ([]byte, error)        { return i.raw, nil }

func (i *image) RawConfigFile() ([]byte, error) {
	m, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	if err := checkDescriptor(m.Config, maxConfig); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	b, err := i.src.Blob(i.ctx, m.Config)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	raw, err := readBlob(b, m.Config)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	return raw, nil
}

func (i *image) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	m, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	if h == m.Config.Digest {
		return &imageLayer{i, m.Config}, nil
	}
	for _, l := range m.Layers {
		if l.Digest == h {
			return &imageLayer{i, l}, nil
		}
	}
	return nil, ErrNotFound
}

// imageLayer is a partial.CompressedLayer.
type imageLayer struct {
	image *image
	desc  v1.Descriptor
}

func (l *imageLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *imageLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *imageLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }

// Compressed gives the layer as it is stored.
func (l *imageLayer) Compressed() (io.ReadCloser, error) {
	b, err := l.image.src.Blob(l.image.ctx, l.desc)
	if err != nil {
		return nil, err
	}
	h, err := newHasher(l.desc.Digest.Algorithm)
	if err != nil {
		b.Close()
		return nil, err
	}
	return &verifiedLayer{r: io.NewSectionReader(b, 0, b.Size()), Closer: b, sum: h, want: l.desc.Digest}, nil
}

// verifiedLayer ends with an error instead of io.EOF if the bytes were others
// than those of the digest.
type verifiedLayer struct {
	io.Closer
	r    io.Reader
	sum  *hasher
	want v1.Hash
}

func (l *verifiedLayer) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.sum.Write(p[:n])
	if err == io.EOF {
		if got := l.sum.digest(); got != l.want {
			return n, fmt.Errorf("layer %s: %w", l.want, digestError(got))
		}
	}
	return n, err
}
