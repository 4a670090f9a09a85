// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/sbom"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/tree"
)

// Scans that do not heed their context hold up no run that has failed, and leave nothing.
func TestNobodyWaitsForAScanThatDoesNotEnd(t *testing.T) {
	all, dir := scans{}, t.TempDir()
	for _, name := range []string{"endless", "another"} {
		s := &scan{done: make(chan struct{}), dir: filepath.Join(dir, name)}
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		all[digest.Of([]byte(name))] = s
	}
	all.end()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

const installed = `P:busybox
V:1.36.1-r29
A:x86_64
L:GPL-2.0-only
F:bin
R:busybox

`

// What a scan found is kept by what it was found in: an image of the same layers is not read for it again, and its
// SBOM is the same in every byte.
func TestLayersThatWereScannedAreNotScannedAgain(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	bundle := testimage.Image{Layers: []testimage.Layer{{Tar: testimage.Tar(
		testimage.File("etc/os-release", 0o644, []byte("ID=alpine\nVERSION_ID=3.20.0\n")),
		testimage.File("lib/apk/db/installed", 0o644, []byte(installed)),
	)}}}.Build()
	if err := bundle.WriteLayout(dir, "latest"); err != nil {
		t.Fatal(err)
	}
	cache, err := bless.OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	scanned := func(cache *bless.Cache) (*sbom.SBOM, error) {
		src, err := transport.Open(ctx, "oci:"+dir, transport.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		job, err := bless.Open(ctx, src, nil, bless.Options{})
		if err != nil {
			t.Fatal(err)
		}
		inv, err := inventory(ctx, src, job.Images()[0], t.TempDir(), cache)
		if err != nil {
			return nil, err
		}
		return inv.Document(&tree.Tree{}, sbom.Options{Digest: bundle.Root.Digest, DiffIDs: make([]v1.Hash, 1)})
	}
	first, err := scanned(cache)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Packages) != 1 {
		t.Fatalf("packages: %v", first.Packages)
	}
	for h, content := range bundle.Blobs {
		if !strings.HasPrefix(string(content), "{") { // the layer
			if err := os.Remove(filepath.Join(dir, "blobs", h.Algorithm, h.Hex)); err != nil {
				t.Fatal(err)
			}
		}
	}
	again, err := scanned(cache)
	if err != nil {
		t.Fatal(err)
	}
	if string(again.SPDX) != string(first.SPDX) || string(again.CycloneDX) != string(first.CycloneDX) {
		t.Errorf("from the cache:\n%s\n%s\nat first:\n%s\n%s", again.SPDX, again.CycloneDX, first.SPDX, first.CycloneDX)
	}
	if _, err := scanned(nil); err == nil {
		t.Error("an image without its layer was scanned")
	}
}
