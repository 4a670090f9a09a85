// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sbom-bless/sbom-bless/internal/digest"
)

// layer makes a layer about a small image.
func layer(t testing.TB, created time.Time) []byte {
	t.Helper()
	config := []byte(`{"os":"linux"}`)
	raw, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(config)), Digest: digest.Of(config)}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Layer(v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(raw)), Digest: digest.Of(raw)}, raw, config, nil, created)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestALayerIsReadHoweverItIsPacked(t *testing.T) {
	plain := layer(t, time.Unix(1_700_000_000, 0))
	if !bytes.Equal(plain, layer(t, time.Unix(1_700_000_000, 0))) {
		t.Error("made again it is another one")
	}
	var gz, zs bytes.Buffer
	z := gzip.NewWriter(&gz)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for how, packed := range map[string][]byte{"not": plain, "gzip": gz.Bytes(), "zstd": zs.Bytes()} {
		l, err := unpack(packed)
		if err != nil {
			t.Errorf("%s: %v", how, err)
			continue
		}
		if l.diffID != digest.Of(plain) || len(l.files) != 4 {
			t.Errorf("%s: DiffID %s, %d files", how, l.diffID, len(l.files))
		}
		if _, err := unpack(packed[:len(packed)/2]); err == nil {
			t.Errorf("%s: half of it was read", how)
		}
	}
}

// FuzzUnpack holds what is accepted against Go's own reader of tars, which containerd and Docker unpack with: it must find
// nothing in the layer but plain files and directories below Root.
func FuzzUnpack(f *testing.F) {
	f.Add(layer(f, time.Time{}))
	f.Add(layer(f, time.Unix(1_700_000_000, 0)))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 1<<20 || bytes.HasPrefix(content, []byte{0x1f, 0x8b}) || bytes.HasPrefix(content, []byte{0x28, 0xb5}) {
			return
		}
		l, err := unpack(content)
		if err != nil {
			return
		}
		r, files := tar.NewReader(bytes.NewReader(content)), 0
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return // who cannot read it unpacks nothing
			}
			name := path.Clean(h.Name)
			if name != Root && !strings.HasPrefix(name, Root+"/") {
				t.Fatalf("an entry %q", h.Name)
			}
			switch h.Typeflag {
			case tar.TypeDir:
			case tar.TypeReg:
				files++
				body, err := io.ReadAll(r)
				if err != nil {
					return
				}
				if got := l.files[strings.TrimPrefix(h.Name, Root+"/")]; h.Mode&0o7777 != 0o644 || !bytes.Equal(got, body) {
					t.Fatalf("%q: mode %o, %d bytes, %d were read", h.Name, h.Mode, len(body), len(got))
				}
			default:
				t.Fatalf("%q of type %c", h.Name, h.Typeflag)
			}
		}
		if files != len(l.files) {
			t.Fatalf("%d files, %d were read", files, len(l.files))
		}
	})
}
