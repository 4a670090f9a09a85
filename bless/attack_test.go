// SPDX-License-Identifier: Apache-2.0

package bless_test

// What someone would try who can put a file into an image, or an image into a
// registry.

import (
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/xattr"
)

func TestNoFileIsSignedThatCouldPassForSomethingElse(t *testing.T) {
	signer, _ := newSigner(t)
	statement := xattr.Statement(sha256Digest("evil"))
	fileID := append([]byte{xattr.TypeSignature, byte(xattr.SHA256)}, make([]byte, 32)...)
	for name, content := range map[string]string{
		"an attestation":         "DSSEv1 28 application/vnd.in-toto+json 2 {}",
		"a statement":            string(statement[:]),
		"a record of the ledger": "sbom-bless layer record\x00{}",
		"a certificate":          "\x30\x82\x01\x00\xa0\x03\x02\x01\x02\x02\x01\x01",
		"a short certificate":    "\x30\x81\xf0\xa0\x03\x02\x01\x02\x02\x01\x01",
		"an ima_file_id":         string(fileID),
		"an EVM signature":       "\x03\x02\x04abcd\x00\x48" + strings.Repeat("s", 72) + string(make([]byte, 24)),
	} {
		t.Run(name, func(t *testing.T) {
			source := lay(t, testimage.Image{Layers: []testimage.Layer{{
				Tar: testimage.Tar(testimage.File("f", 0o755, []byte(content))), Compression: "gzip",
			}}}.Build())
			_, err := blessRef(source, "oci:"+t.TempDir(), signer, bless.Options{})
			if err == nil || !strings.Contains(err.Error(), "could be passed off") {
				t.Errorf("error %v", err)
			}
			if _, err := blessRef(source, "oci:"+t.TempDir(), nil, bless.Options{}); err != nil {
				t.Errorf("a digest signs nothing, and was refused: %v", err)
			}
		})
	}
}

// An index whose first child a runtime would take, and verify would not read.
func TestVerifyReadsEveryChildThatARuntimeMayChoose(t *testing.T) {
	signer, pub := newSigner(t)
	good := testimage.Image{Layers: []testimage.Layer{{Tar: testimage.Tar(testimage.File("bin/good", 0o755, []byte("#!"))), Compression: "gzip"}}}
	ref, result := mustBless(t, lay(t, testimage.Index(false, good)), signer, bless.Options{})
	options := bless.VerifyOptions{Keys: []crypto.PublicKey{pub}}
	if r := verifyRef(t, ref, options); !r.OK() {
		t.Fatal(r.Problems)
	}
	for name, edit := range map[string]func(*v1.Descriptor){
		"said to be an attestation, for a platform": func(d *v1.Descriptor) {
			d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
		},
		"spelled otherwise":  func(d *v1.Descriptor) { d.Platform.Architecture = "x86_64" },
		"without a platform": func(d *v1.Descriptor) { d.Platform = nil },
		"of an unknown type": func(d *v1.Descriptor) { d.MediaType = types.MediaType("application/vnd.example+json") },
	} {
		t.Run(name, func(t *testing.T) {
			evil := testimage.Image{Layers: []testimage.Layer{{Tar: testimage.Tar(testimage.File("bin/evil", 0o755, []byte("#!"))), Compression: "gzip"}}}
			options := options
			if name == "spelled otherwise" || name == "without a platform" {
				options.Platforms = []v1.Platform{{OS: "linux", Architecture: "amd64"}}
			}
			b := inFront(t, testimage.Index(false, evil), strings.TrimPrefix(ref, "oci:"), result.Descriptor, edit)
			if r := verifyRef(t, lay(t, b), options); r.OK() {
				t.Error("verified")
			}
		})
	}
}

// inFront puts the only child of b, its descriptor edited, in front of the children
// of the index root of the layout dir.
func inFront(t *testing.T, b *testimage.Bundle, dir string, root v1.Descriptor, edit func(*v1.Descriptor)) *testimage.Bundle {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Blobs[v1.Hash{Algorithm: "sha256", Hex: filepath.Base(f)}] = raw
	}
	var evil, index v1.IndexManifest
	unmarshal(t, b.Blobs[b.Root.Digest], &evil)
	unmarshal(t, b.Blobs[root.Digest], &index)
	edit(&evil.Manifests[0])
	index.Manifests = append(evil.Manifests, index.Manifests...)
	raw := marshal(t, index)
	b.Root.Size = int64(len(raw))
	if b.Root.Digest, _, err = v1.SHA256(strings.NewReader(string(raw))); err != nil {
		t.Fatal(err)
	}
	b.Blobs[b.Root.Digest] = raw
	b.Manifests = []v1.Descriptor{b.Root}
	return b
}
