// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WriteLayout writes the bundle to dir as an OCI layout that names its root
// tag. The bytes go out as they are, wrong digests included.
func (b *Bundle) WriteLayout(dir, tag string) error {
	for h, content := range b.Blobs {
		path := blobPath(dir, h)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return writeIndex(dir, b.Root, tag)
}

// Push sends the bundle to a registry that speaks plain HTTP; ref is
// "host:port/repository:tag".
func (b *Bundle) Push(ctx context.Context, ref string) error {
	host, path, _ := strings.Cut(ref, "/")
	colon := strings.LastIndexByte(path, ':')
	if colon < 0 {
		return fmt.Errorf("%s: no tag", ref)
	}
	repository, tag := path[:colon], path[colon+1:]
	base := "http://" + host + "/v2/" + repository
	manifests := map[v1.Hash]bool{}
	for _, m := range b.Manifests {
		manifests[m.Digest] = true
	}
	for h, content := range b.Blobs {
		if manifests[h] {
			continue
		}
		location, err := send(ctx, http.MethodPost, base+"/blobs/uploads/", "", nil)
		if err != nil {
			return err
		}
		location.RawQuery = strings.TrimPrefix(location.RawQuery+"&digest="+url.QueryEscape(h.String()), "&")
		if _, err := send(ctx, http.MethodPut, location.String(), "application/octet-stream", content); err != nil {
			return err
		}
	}
	for _, m := range b.Manifests {
		name := m.Digest.String()
		if m.Digest == b.Root.Digest {
			name = tag
		}
		if _, err := send(ctx, http.MethodPut, base+"/manifests/"+name, string(m.MediaType), b.Blobs[m.Digest]); err != nil {
			return err
		}
	}
	return nil
}

// send makes one request and returns the absolute URL of its Location header.
func send(ctx context.Context, method, to, contentType string, body []byte) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return nil, fmt.Errorf("%s %s: %s: %s", method, to, resp.Status, text)
	}
	return req.URL.Parse(resp.Header.Get("Location"))
}

func hashOf(content []byte) v1.Hash {
	sum := sha256.Sum256(content)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func blobPath(dir string, h v1.Hash) string {
	return filepath.Join(dir, "blobs", h.Algorithm, h.Hex)
}

// writeIndex makes dir an OCI layout with one entry.
func writeIndex(dir string, root v1.Descriptor, tag string) error {
	entry := root
	entry.Annotations = map[string]string{"org.opencontainers.image.ref.name": tag}
	for k, v := range root.Annotations {
		entry.Annotations[k] = v
	}
	raw, err := json.Marshal(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{entry},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.json"), raw, 0o644)
}

// addBlob copies r into the layout at dir.
func addBlob(dir string, mt types.MediaType, r io.Reader) (v1.Descriptor, error) {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return v1.Descriptor{}, err
	}
	f, err := os.CreateTemp(blobs, ".new-")
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, sum), r)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if err := f.Chmod(0o644); err != nil {
		return v1.Descriptor{}, err
	}
	h := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return v1.Descriptor{MediaType: mt, Size: size, Digest: h}, os.Rename(f.Name(), blobPath(dir, h))
}
