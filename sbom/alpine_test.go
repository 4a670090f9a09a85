// SPDX-License-Identifier: Apache-2.0

package sbom_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/sbom"
)

const apkInstalled = `C:Q1MVWGzrpRpYtdfuNzyS6aSDFYpyg=
P:busybox
V:1.36.1-r29
A:x86_64
S:500000
I:900000
T:Size optimized toolbox
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
m:Maintainer <m@example.org>
t:1700000000
c:0000000000000000000000000000000000000000
F:bin
R:busybox
a:0:0:755
Z:Q1MVWGzrpRpYtdfuNzyS6aSDFYpyg=
R:extra
a:0:0:755
Z:Q1MVWGzrpRpYtdfuNzyS6aSDFYpyg=

`

// TestLayersOfAlpine has another package manager, and an upper layer that removes a
// file of a package, links to one and brings its own.
func TestLayersOfAlpine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	err := testimage.Image{Layers: []testimage.Layer{
		{Tar: testimage.Tar(
			testimage.File("etc/os-release", 0o644, []byte("ID=alpine\nVERSION_ID=3.20.0\nPRETTY_NAME=\"Alpine Linux\"\n")),
			testimage.File("lib/apk/db/installed", 0o644, []byte(apkInstalled)),
			testimage.File("bin/busybox", 0o755, []byte("busybox")),
			testimage.File("bin/extra", 0o755, []byte("extra")),
		), Compression: "gzip"},
		{Tar: testimage.Tar(
			testimage.Whiteout("bin/extra"),
			testimage.Link("bin/sh", "bin/busybox"),
			testimage.File("app/run", 0o755, []byte("#!/bin/sh\n")),
		), Compression: "zstd"},
	}}.Build().WriteLayout(dir, "latest")
	if err != nil {
		t.Fatal(err)
	}
	l, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := l.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifests.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	files, err := readTree(img, map[string][]byte{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	inventory, err := scan(img, len(config.RootFS.DiffIDs), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	got, err := inventory.Document(files, sbom.Options{Digest: manifests.Manifests[0].Digest, DiffIDs: config.RootFS.DiffIDs, Created: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]filelist.Package{{Type: "apk", Name: "busybox", Version: "1.36.1-r29"}}, got.Packages); d != "" {
		t.Errorf("packages (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]int{"bin/busybox": 0}, got.Owner); d != "" {
		t.Errorf("owners (-want +got):\n%s", d)
	}
	for _, doc := range [][]byte{got.SPDX, got.CycloneDX} {
		if err := sbom.Check(doc, files); err != nil {
			t.Error(err)
		}
	}
}
