// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// storedLayer is a layer of which only the stored bytes matter. The decoder of its own
// gives "plain".
type storedLayer struct {
	v1.Layer
	size   int64
	stored io.Reader
}

func (l storedLayer) Size() (int64, error)               { return l.size, nil }
func (l storedLayer) Compressed() (io.ReadCloser, error) { return io.NopCloser(l.stored), nil }
func (l storedLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("plain")), nil
}

func TestQuickLayerGivesTheContentOrAnError(t *testing.T) {
	noise := make([]byte, 1<<20) // which fills many buffers
	rand.NewChaCha8([32]byte{}).Read(noise)
	content := string(noise)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, content)
	z.Close()
	gz, size := b.Bytes(), int64(b.Len())
	wrongDigest := errors.New("wrong digest")

	for _, c := range []struct {
		name   string
		stored io.Reader
		want   string // content, or
		err    string
	}{
		{"gzip", bytes.NewReader(gz), content, ""},
		{"not gzip", strings.NewReader("\x28\xb5\x2f\xfd"), "plain", ""},
		{"empty", strings.NewReader(""), "plain", ""},
		{"cut off", bytes.NewReader(gz[:size/2]), "", "unexpected EOF"},
		{"damaged", bytes.NewReader(append(bytes.Clone(gz[:size-5]), 0, 0, 0, 0, 0)), "", "gzip byte"},
		{"longer than it says", io.MultiReader(bytes.NewReader(gz), strings.NewReader("x")), "", "more bytes"},
		{"of another digest", io.MultiReader(bytes.NewReader(gz), iotest.ErrReader(wrongDigest)), "", "wrong digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := quickLayer{Layer: storedLayer{size: size, stored: c.stored}}.unpack()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			switch {
			case c.err == "" && (err != nil || string(got) != c.want):
				t.Errorf("%d bytes and %v, want the %d of the content", len(got), err, len(c.want))
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}
