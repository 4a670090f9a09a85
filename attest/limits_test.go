// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/sbom"
	"github.com/sbom-bless/sbom-bless/tree"
)

// kyverno is the size of the largest attestation that Kyverno reads; other readers take more.
const kyverno = 10 << 20

// TestBundlesStayReadableWhateverTheNumberOfFiles attests images of few and many files,
// with SBOMs as they are really written.
func TestBundlesStayReadableWhateverTheNumberOfFiles(t *testing.T) {
	ctx := context.Background()
	key := newKey(t, "ecdsa-p256")
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	found, err := sbom.Scan(ctx, img, 1, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inventory, err := found.Inventory(img, 1)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := partial.Descriptor(img)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ files, references int }{{1000, 0}, {14_000, 1}, {100_000, 2}} {
		t.Run(fmt.Sprint(c.files), func(t *testing.T) {
			files := &tree.Tree{}
			for i := range c.files {
				name := fmt.Sprintf("srv/app/node_modules/package-%06d/lib/index.js", i)
				s256, s1 := sha256.Sum256([]byte(name)), sha1.Sum([]byte(name))
				files.Files = append(files.Files, tree.Entry{File: tree.File{Name: name, Type: '0', Mode: 0o644, SHA256: s256[:], SHA1: s1[:]}})
			}
			doc, err := inventory.Document(files, sbom.Options{Digest: desc.Digest, DiffIDs: []v1.Hash{hash("diff")}, Created: time.Unix(1_700_000_000, 0)})
			if err != nil {
				t.Fatal(err)
			}
			b := blessing(t, "image")
			b.SBOMs = []attest.SBOM{{MediaType: attest.MediaTypeSPDX, Raw: doc.SPDX, Short: doc.SPDXShort}, {MediaType: attest.MediaTypeCycloneDX, Raw: doc.CycloneDX, Short: doc.CycloneDXShort}}
			b.Counts.Files = c.files
			if b.FileList, err = attest.FileList(files, nil, nil); err != nil {
				t.Fatal(err)
			}
			artifacts := makeArtifacts(t, b, key)
			for _, a := range artifacts {
				if n := len(a.Blobs[0].Content); a.Descriptor.ArtifactType == attest.MediaTypeBundle && n > kyverno {
					t.Errorf("bundle %v of %d bytes", a.Descriptor.Annotations, n)
				}
			}
			v, err := attest.Verify(ctx, writeDir(t, artifacts), b.Image.Digest, trust(key))
			if err != nil {
				t.Fatal(err)
			}
			if err := attest.CheckFiles(v.Files, files); err != nil {
				t.Error(err)
			}
			references := 0
			for _, a := range v.Attestations {
				if a.Statement.PredicateType == attest.PredicateReference {
					references++
				}
			}
			if references != c.references {
				t.Errorf("%d references, want %d (SPDX of %d bytes, CycloneDX of %d)", references, c.references, len(doc.SPDX), len(doc.CycloneDX))
			}
			for _, s := range b.SBOMs {
				raw, err := v.SBOM(ctx, s.MediaType)
				if err != nil || !bytes.Equal(raw, s.Raw) {
					t.Errorf("%s: %d bytes of %d, %v", s.MediaType, len(raw), len(s.Raw), err)
				} else if err := sbom.Check(raw, files); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestSBOMWithTooManyPackages has a short form that is too big as well.
func TestSBOMWithTooManyPackages(t *testing.T) {
	ctx := context.Background()
	key := newKey(t, "ecdsa-p256")
	b := blessing(t, "image")
	big := func(what string) []byte {
		return []byte(`{"spdxVersion":"SPDX-2.3","comment":"` + what + strings.Repeat("x", 8<<20) + `"}`)
	}
	b.SBOMs[0].Raw, b.SBOMs[0].Short = big("whole"), big("short")
	artifacts := makeArtifacts(t, b, key)
	for _, a := range artifacts {
		if n := len(a.Blobs[0].Content); a.Descriptor.ArtifactType == attest.MediaTypeBundle && n > kyverno {
			t.Errorf("bundle %v of %d bytes", a.Descriptor.Annotations, n)
		}
	}
	v, err := attest.Verify(ctx, writeDir(t, artifacts), b.Image.Digest, trust(key))
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := v.SBOM(ctx, attest.MediaTypeSPDX); err != nil || !bytes.Equal(raw, b.SBOMs[0].Raw) {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

// padded is a bundle with a member that nobody knows.
func padded(a attest.Artifact, n int) []byte {
	return append([]byte(`{"padding":"`+strings.Repeat("x", n)+`",`), a.Blobs[0].Content[1:]...)
}

// TestCopiesOfABundleCountOnce has attestations by two keys, and before them copies of one that anyone can make.
func TestCopiesOfABundleCountOnce(t *testing.T) {
	ctx := context.Background()
	key, other := newKey(t, "ecdsa-p256"), newKey(t, "ecdsa-p256")
	b := blessing(t, "image")
	good := append(makeArtifacts(t, b, key), makeArtifacts(t, b, other)...)
	var all []attest.Artifact
	const copies = 50
	for i := range copies {
		all = append(all, rewrap(t, good[len(good)-1], padded(good[len(good)-1], i), nil))
	}
	dir := writeDir(t, append(all, good...))
	v, err := attest.Verify(ctx, dir, b.Image.Digest, trust(key, other))
	if err != nil || len(v.Attestations) != 8 || len(v.Rejected) != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := attest.VerifyFiles(ctx, dir, b.Image.Digest, trust(key, other)); err != nil || len(v.Attestations) != 2 {
		t.Errorf("for a node: %+v, %v", v, err)
	}
	asked, strict := 0, false
	keyless := attest.Trust{Keyless: func(bundle []byte, _ v1.Hash) error {
		asked++
		if strict && bytes.Contains(bundle, []byte("padding")) {
			return errors.New("an unknown field")
		}
		return nil
	}}
	if v, err := attest.Verify(ctx, dir, b.Image.Digest, keyless); err != nil || len(v.Attestations) != 8 || asked != 8 {
		t.Errorf("%d were verified: %+v, %v", asked, v, err)
	}
	strict = true // what was rejected hides no other
	if v, err := attest.Verify(ctx, dir, b.Image.Digest, keyless); err != nil || len(v.Attestations) != 8 || len(v.Rejected) != copies {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestAttestationsAreLimitedTogether has a bundle that counts, and is not too big, under many manifests.
func TestAttestationsAreLimitedTogether(t *testing.T) {
	key := newKey(t, "ecdsa-p256")
	b := blessing(t, "image")
	all := makeArtifacts(t, b, key)
	last := all[len(all)-1]
	large := padded(last, 30<<20)
	for i := range 20 {
		all = append(all, rewrap(t, last, large, map[string]string{"copy": fmt.Sprint(i)}))
	}
	_, err := attest.VerifyFiles(context.Background(), writeDir(t, all), b.Image.Digest, trust(key))
	if err == nil || !strings.Contains(err.Error(), "attestations of "+b.Image.Digest.String()+": manifests and bundles of more than 268435456 bytes") {
		t.Errorf("error %v", err)
	}
}
