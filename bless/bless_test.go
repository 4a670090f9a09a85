// SPDX-License-Identifier: Apache-2.0

package bless_test

// The invariants of blessing, on every image that testimage knows for the
// trouble it makes.

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// newSigner makes a signer with a key of its own.
func newSigner(t testing.TB) (*xattr.Signer, crypto.PublicKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, key), key.Public()
}

func signerOf(t testing.TB, key crypto.Signer) *xattr.Signer {
	t.Helper()
	s, err := xattr.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lay writes an image to a layout of its own and returns its reference.
func lay(t testing.TB, b *testimage.Bundle) string {
	t.Helper()
	dir := t.TempDir()
	if err := b.WriteLayout(dir, "latest"); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

// blessRef blesses from one place to another.
func blessRef(source, dest string, s *xattr.Signer, o bless.Options) (*bless.Result, error) {
	ctx := context.Background()
	src, err := transport.Open(ctx, source, transport.Options{})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	dst, err := transport.Create(ctx, dest, transport.Options{})
	if err != nil {
		return nil, err
	}
	defer dst.Close()
	return bless.Image(ctx, src, dst, s, o)
}

// mustBless blesses into a new layout and returns its reference.
func mustBless(t testing.TB, source string, s *xattr.Signer, o bless.Options) (string, *bless.Result) {
	t.Helper()
	dest := "oci:" + t.TempDir()
	r, err := blessRef(source, dest, s, o)
	if err != nil {
		t.Fatal(err)
	}
	return dest, r
}

func verifyRef(t testing.TB, ref string, o bless.VerifyOptions) *bless.VerifyResult {
	t.Helper()
	src, err := transport.Open(context.Background(), ref, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	r, err := bless.Verify(context.Background(), src, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eachGood runs f on every image that must be accepted.
func eachGood(t *testing.T, f func(t *testing.T, source string)) {
	for _, c := range testimage.Cases() {
		if !c.Refused {
			t.Run(c.Name, func(t *testing.T) {
				if c.Name == "large-file" && testing.Short() {
					t.Skip("short")
				}
				t.Parallel()
				f(t, lay(t, c.Make()))
			})
		}
	}
}

func TestBlessedImageVerifiesAndStripsToItsSource(t *testing.T) {
	signer, pub := newSigner(t)
	eachGood(t, func(t *testing.T, source string) {
		blessed, result := mustBless(t, source, signer, bless.Options{EVM: true, Files: true})
		check := verifyRef(t, blessed, bless.VerifyOptions{Keys: []crypto.PublicKey{pub}, EVM: true})
		for _, p := range check.Problems {
			t.Error(p)
		}
		for i, img := range result.Images {
			for k, l := range img.Layers {
				if got := check.Images[i].Layers[k].SourceDiffID; got != l.SourceDiffID {
					t.Errorf("layer %d stripped has the DiffID %s, its source %s", k+1, got, l.SourceDiffID)
				}
				if l.Regular > 0 && l.BlessedDiffID == l.SourceDiffID {
					t.Errorf("layer %d has %d files and did not change", k+1, l.Regular)
				}
			}
		}
		validateLayout(t, blessed, result)
		if diff := cmp.Diff(layerTypes(t, source), layerTypes(t, blessed)); diff != "" {
			t.Errorf("media types of the layers of each manifest:\n%s", diff)
		}
	})
}

// layerTypes are the media types of the layers, manifest by manifest, as a layout has them.
func layerTypes(t *testing.T, ref string) (all [][]types.MediaType) {
	t.Helper()
	index, err := layout.ImageIndexFromPath(strings.TrimPrefix(ref, "oci:"))
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images(t, index) {
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		var each []types.MediaType
		for _, l := range m.Layers {
			each = append(each, l.MediaType)
		}
		all = append(all, each)
	}
	return all
}

// images are those in an index and its indexes, attestation manifests left out.
func images(t *testing.T, index v1.ImageIndex) (all []v1.Image) {
	t.Helper()
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range m.Manifests {
		switch {
		case desc.MediaType.IsIndex():
			child, err := index.ImageIndex(desc.Digest)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, images(t, child)...)
		case desc.Platform == nil || desc.Platform.OS != "unknown":
			img, err := index.Image(desc.Digest)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, img)
		}
	}
	return all
}

// validateLayout has go-containerregistry read the layout whole. Its validator
// knows gzip layers alone, each under one media type, without duplicate entries.
func validateLayout(t *testing.T, ref string, r *bless.Result) {
	t.Helper()
	if len(r.Notices) > 0 {
		return
	}
	for _, img := range r.Images {
		for _, l := range img.Layers {
			same := func(o bless.LayerResult) bool {
				return o.Blessed.Digest == l.Blessed.Digest && o.Blessed.MediaType != l.Blessed.MediaType
			}
			if !strings.HasSuffix(string(l.Blessed.MediaType), "gzip") || slices.ContainsFunc(img.Layers, same) {
				return
			}
		}
	}
	index, err := layout.ImageIndexFromPath(strings.TrimPrefix(ref, "oci:"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
}

func TestBlessingTwiceChangesNothing(t *testing.T) {
	signer, _ := newSigner(t)
	eachGood(t, func(t *testing.T, source string) {
		once, first := mustBless(t, source, signer, bless.Options{})
		_, second := mustBless(t, once, signer, bless.Options{})
		if first.Descriptor.Digest != second.Descriptor.Digest {
			t.Errorf("first %s, second %s", first.Descriptor.Digest, second.Descriptor.Digest)
		}
		for k, img := range second.Images {
			for i, l := range img.Layers {
				if l.Outcome != bless.OutcomeUnchanged || l.Signed != 0 {
					t.Errorf("layer %d: %s, %d signed", i+1, l.Outcome, l.Signed)
				}
				if want := first.Images[k].Layers[i].SourceDiffID; l.ContentDiffID != want {
					t.Errorf("layer %d: without our records %s, the first source was %s", i+1, l.ContentDiffID, want)
				}
			}
		}
	})
}

func TestResultDependsOnInputKeyAndOptionsAlone(t *testing.T) {
	signer, _ := newSigner(t)
	eachGood(t, func(t *testing.T, source string) {
		_, want := mustBless(t, source, signer, bless.Options{Jobs: 1})
		for _, jobs := range []int{2, 7} {
			_, got := mustBless(t, source, signer, bless.Options{Jobs: jobs})
			if got.Descriptor.Digest != want.Descriptor.Digest {
				t.Errorf("%d jobs give %s, one gives %s", jobs, got.Descriptor.Digest, want.Descriptor.Digest)
			}
		}
	})
}

// Everybody's bytes are the same, with every version that has the same recordVersion: a layer that one
// of them blessed comes from caches and registries ever after.
func TestResultIsTheSameEverywhere(t *testing.T) {
	gz, err := os.ReadFile("testdata/layer.tar.gz") // made with GNU tar and gzip -9
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	source := lay(t, testimage.Image{Layers: []testimage.Layer{{Tar: content, Compressed: gz, Compression: "gzip"}}}.Build())
	// The P-256 key of RFC 6979, A.2.5.
	scalar, _ := hex.DecodeString("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		t.Fatal(err)
	}
	_, result := mustBless(t, source, signerOf(t, key), bless.Options{})
	const want = "sha256:f59fc59c5a611db8ba865a85c1877fc096f7a6d534e120088e2cd76791a6c0d1"
	if got := result.Images[0].Layers[0].Blessed.Digest.String(); got != want {
		t.Errorf("layer %s, want %s: if that is meant, raise recordVersion as well", got, want)
	}
}

// refusals are what the error about each hostile image says: its reason, not just any.
var refusals = map[string]string{
	"gzip-bomb":    "layer 1: zeros: more than 1073741824 bytes in its files",
	"zstd-bomb":    "layer 1: zeros: more than 1073741824 bytes in its files",
	"entries-bomb": "more than 1000000 entries",
	"header-bomb":  "extended header of 1073741824 bytes: more than the limit of 1048576",
	"zstd-window":  "layer 1: a zstd frame with a window of more than 134217728 bytes",

	"pax-size":         "size: 2048, the entry's header says 0",
	"pax-duplicate":    `"path" occurs twice`,
	"pax-length":       `malformed record "99 path=a\n"`,
	"pax-newline":      `malformed record "9 path=a "`,
	"pax-orphan":       "an extended header that no entry follows",
	"second-archive":   "a second archive behind the end of the first",
	"bad-checksum":     "not a tar header: its checksum is wrong",
	"negative-size":    "size -1, -1 stored: out of range",
	"truncated-tar":    `tar entry "a" at byte 5632: unexpected EOF`,
	"sparse-overlap":   "sparse map: span of 4096 bytes at 4096 overlaps another one",
	"sparse-unaligned": "sparse map: a span ends within a block",
	"sparse-bomb":      "layer 1: a: more than 1073741824 bytes in its files",
	"sparse-ratio":     "layer 1: a: more than 1073741824 bytes in its files", // with the limits of this test

	"escape":             "../../etc/passwd: name leads out of the root filesystem",
	"hardlink-escape":    "a: hard link to ../../etc/shadow: name leads out of the root filesystem",
	"symlink-long":       "target longer than 4095 bytes",
	"heavy-names":        "metadata exceeds the limit of 16 MiB",
	"deep-parents":       "too many parent directories without an entry",
	"hardlink-dangling":  "layer 1: a: hard link to missing: no such file in this layer or below",
	"overlay-xattr":      "a/: has the attribute trusted.overlay.redirect",
	"user-overlay-xattr": "a/: has the attribute user.overlay.opaque",
	"foreign-ima":        "a: has security.ima already, and it does not verify under this key",
	"foreign-bpf":        "a: has security.bpf.bless already, and it does not verify under this key",
	"hardlink-whiteout":  "layer 2: b: hard link to usr/bin/app: no such file in this layer or below",

	"truncated-gzip": "gzip byte 100575: unexpected EOF",
	"truncated-zstd": "layer 1: unexpected EOF",
	"gzip-crc":       "wrong CRC-32 of the content",
	"gzip-trailing":  "gzip byte 100596: bytes after the last gzip member that are no other member",
	"not-gzip":       "layer 1: its DiffID is sha256:",

	"wrong-diffid":    "layer 2: its DiffID is sha256:",
	"swapped-diffids": ": its DiffID is sha256:",
	"diffid-count":    "has 2 layers, its config names 1 DiffIDs",
	"size-small":      "more than the",
	"size-large":      "bytes, the descriptor says",
	"size-negative":   "layer 2: a size of -1 bytes",
	"missing-blob":    "not found",
	"wrong-digest":    "has the digest sha256:",
	"digest-syntax":   "found non-hex character in hash",

	"encrypted":     "the layer is encrypted",
	"unknown-type":  "media type application/vnd.example.layer.v1.tar+lz4 is not a layer",
	"foreign-layer": "the layer is foreign",
	"layer-urls":    "its descriptor sends readers to http://192.0.2.1/layer",
	"schema1":       "is a schema 1 manifest",
	"nested-index":  "nested",
	"huge-manifest": "33555010 bytes, more than the limit of 4194304",
	"huge-config":   "33554847 bytes, more than the limit of 8388608",
}

func TestHostileImagesAreRefusedAndLeaveNothing(t *testing.T) {
	signer, _ := newSigner(t)
	for _, c := range testimage.Cases() {
		if !c.Refused {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			if testing.Short() && strings.HasSuffix(c.Name, "-bomb") {
				t.Skip("short")
			}
			dest, temp := t.TempDir(), t.TempDir()
			_, err := blessRef(lay(t, c.Make()), "oci:"+dest, signer, bless.Options{
				TempDir: temp,
				Limits:  bless.Limits{LayerBytes: 1 << 30, Entries: 1e6},
			})
			if want := refusals[c.Name]; want == "" || err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("%s: error %v, want one that says %q", c.About, err, want)
			}
			if index, err := os.ReadFile(filepath.Join(dest, "index.json")); err == nil && strings.Contains(string(index), "sha256:") {
				t.Errorf("the destination names an image: %s", index)
			}
			if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestForeignAttributesAreReplacedOnlyWhenAsked(t *testing.T) {
	signer, pub := newSigner(t)
	for _, name := range []string{"foreign-ima", "foreign-bpf"} {
		t.Run(name, func(t *testing.T) {
			source := lay(t, caseNamed(t, name))
			if _, err := blessRef(source, "oci:"+t.TempDir(), signer, bless.Options{}); err == nil || !strings.Contains(err.Error(), refusals[name]) {
				t.Errorf("not asked: error %v, want one that says %q", err, refusals[name])
			}
			blessed, _ := mustBless(t, source, signer, bless.Options{Replace: true})
			if r := verifyRef(t, blessed, bless.VerifyOptions{Keys: []crypto.PublicKey{pub}}); !r.OK() {
				t.Error(r.Problems)
			}
		})
	}
}

func TestAnImageOfAnotherKeyIsRefusedOrReplaced(t *testing.T) {
	ours, pub := newSigner(t)
	theirs, _ := newSigner(t)
	source, _ := mustBless(t, lay(t, caseNamed(t, "typical")), theirs, bless.Options{EVM: true})
	_, err := blessRef(source, "oci:"+t.TempDir(), ours, bless.Options{})
	if !errors.Is(err, bless.ErrForeign) {
		t.Fatalf("not asked to replace: %v", err)
	}
	replaced, _ := mustBless(t, source, ours, bless.Options{Replace: true})
	if r := verifyRef(t, replaced, bless.VerifyOptions{Keys: []crypto.PublicKey{pub}}); !r.OK() {
		t.Error(r.Problems)
	}
}

func caseNamed(t testing.TB, name string) *testimage.Bundle {
	t.Helper()
	for _, c := range testimage.Cases() {
		if c.Name == name {
			return c.Make()
		}
	}
	t.Fatalf("no case %s", name)
	return nil
}

func TestEveryKindOfAttributeVerifies(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	source := lay(t, caseNamed(t, "typical"))
	for _, key := range []crypto.Signer{p384, rsa2048} {
		for _, hash := range []xattr.Hash{xattr.SHA256, xattr.SHA384, xattr.SHA512} {
			for _, version := range []int{2, 3} {
				for _, files := range []bless.BPFFiles{bless.BPFCode, bless.BPFAll, bless.BPFNone} {
					t.Run(fmt.Sprintf("%T %s v%d %s", key, hash, version, files), func(t *testing.T) {
						blessed, _ := mustBless(t, source, signerOf(t, key), bless.Options{Hash: hash, IMAVersion: version, BPFFiles: files})
						r := verifyRef(t, blessed, bless.VerifyOptions{Keys: []crypto.PublicKey{key.Public()}, BPFFiles: files})
						if !r.OK() {
							t.Error(r.Problems)
						}
					})
				}
			}
		}
	}
}

func TestDigestsAloneNeedNoKey(t *testing.T) {
	source := lay(t, caseNamed(t, "typical"))
	digests, _ := mustBless(t, source, nil, bless.Options{})
	if r := verifyRef(t, digests, bless.VerifyOptions{}); !r.OK() {
		t.Error(r.Problems)
	}
	signer, pub := newSigner(t)
	r := verifyRef(t, digests, bless.VerifyOptions{Keys: []crypto.PublicKey{pub}})
	if len(r.Problems) == 0 {
		t.Error("digests passed for signatures")
	}
	signed, _ := mustBless(t, digests, signer, bless.Options{}) // right digests may be signed
	if r := verifyRef(t, signed, bless.VerifyOptions{Keys: []crypto.PublicKey{pub}}); !r.OK() {
		t.Error(r.Problems)
	}
}

func TestSharedBaseLayerStaysOneLayer(t *testing.T) {
	signer, _ := newSigner(t)
	base := testimage.Layer{Tar: testimage.Tar(testimage.File("bin/base", 0o755, []byte("#!"))), Compression: "gzip"}
	top := func(name string) testimage.Layer {
		return testimage.Layer{Tar: testimage.Tar(testimage.File(name, 0o644, []byte(name))), Compression: "gzip"}
	}
	_, a := mustBless(t, lay(t, testimage.Image{Layers: []testimage.Layer{base, top("a")}}.Build()), signer, bless.Options{})
	_, b := mustBless(t, lay(t, testimage.Image{Layers: []testimage.Layer{base, top("b")}}.Build()), signer, bless.Options{})
	if a.Images[0].Layers[0].Blessed.Digest != b.Images[0].Layers[0].Blessed.Digest {
		t.Error("the base layer differs between two images")
	}
}

func TestCacheGivesTheSameImageWithoutReadingIt(t *testing.T) {
	signer, _ := newSigner(t)
	other, _ := newSigner(t)
	eachGood(t, func(t *testing.T, source string) {
		cache, err := bless.OpenCache(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		_, cold := mustBless(t, source, signer, bless.Options{Cache: cache})
		_, warm := mustBless(t, source, signer, bless.Options{Cache: cache})
		if cold.Descriptor.Digest != warm.Descriptor.Digest {
			t.Errorf("cold %s, warm %s", cold.Descriptor.Digest, warm.Descriptor.Digest)
		}
		for _, img := range warm.Images {
			for i, l := range img.Layers {
				if l.Outcome != bless.OutcomeCached {
					t.Errorf("layer %d: %s", i+1, l.Outcome)
				}
			}
		}
		_, keyed := mustBless(t, source, other, bless.Options{Cache: cache})
		for _, img := range keyed.Images {
			for i, l := range img.Layers {
				if l.Outcome == bless.OutcomeCached {
					t.Errorf("layer %d of another key came from the cache", i+1)
				}
			}
		}
	})
}

func TestDamagedCacheIsNotBelieved(t *testing.T) {
	signer, _ := newSigner(t)
	source := lay(t, caseNamed(t, "typical"))
	dir := t.TempDir()
	cache, err := bless.OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, want := mustBless(t, source, signer, bless.Options{Cache: cache})
	for _, pattern := range []string{"blobs/sha256/*", "layers/*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, f := range files {
			if err := os.Truncate(f, 10); err != nil {
				t.Fatal(err)
			}
		}
		_, got := mustBless(t, source, signer, bless.Options{Cache: cache})
		if got.Descriptor.Digest != want.Descriptor.Digest {
			t.Errorf("%s truncated: %s, want %s", pattern, got.Descriptor.Digest, want.Descriptor.Digest)
		}
	}
}

func TestPlatformsAreChosen(t *testing.T) {
	signer, _ := newSigner(t)
	source := lay(t, caseNamed(t, "index"))
	_, all := mustBless(t, source, signer, bless.Options{})
	var names []string
	for _, img := range all.Images {
		names = append(names, img.Platform)
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64/v8"}, names); diff != "" {
		t.Error(diff)
	}
	if len(all.Dropped) != 2 {
		t.Errorf("%d attestation manifests dropped, want 2", len(all.Dropped))
	}
	_, arm := mustBless(t, source, signer, bless.Options{Platforms: []v1.Platform{{OS: "linux", Architecture: "arm64"}}})
	if len(arm.Images) != 1 || arm.Images[0].Blessed.Digest != all.Images[1].Blessed.Digest {
		t.Errorf("one platform chosen: %+v", arm.Images)
	}
	if arm.Descriptor.MediaType.IsIndex() {
		t.Error("one platform chosen, and the result is an index")
	}
	_, err := blessRef(source, "oci:"+t.TempDir(), signer, bless.Options{Platforms: []v1.Platform{{OS: "linux", Architecture: "s390x"}}})
	if err == nil || !strings.Contains(err.Error(), "s390x") {
		t.Errorf("a platform that is not there: %v", err)
	}
}

func TestRecompression(t *testing.T) {
	signer, pub := newSigner(t)
	source := lay(t, caseNamed(t, "typical"))
	for _, how := range []string{"gzip", "gzip:9", "zstd", "zstd:19"} {
		blessed, r := mustBless(t, source, signer, bless.Options{Recompress: how})
		name, _, _ := strings.Cut(how, ":")
		if mt := r.Images[0].Layers[0].Blessed.MediaType; !strings.HasSuffix(string(mt), "+"+name) {
			t.Errorf("%s: media type %s", how, mt)
		}
		if v := verifyRef(t, blessed, bless.VerifyOptions{Keys: []crypto.PublicKey{pub}}); !v.OK() {
			t.Error(v.Problems)
		}
		validateLayout(t, blessed, r)
	}
	for _, how := range []string{"lz4", "gzip:0", "zstd:23", "gzip:x"} {
		if _, err := blessRef(source, "oci:"+t.TempDir(), signer, bless.Options{Recompress: how}); err == nil || !strings.Contains(err.Error(), how) {
			t.Errorf("%s: %v", how, err)
		}
	}
}

// What describes the bytes of a layer is not true of the blessed one.
// What is no image is called that: an artifact alone, and one beside an image in an index.
func TestArtifactsAreNamed(t *testing.T) {
	signer, _ := newSigner(t)
	chart := testimage.Image{ConfigType: "application/vnd.cncf.helm.config.v1+json", Platform: v1.Platform{OS: "linux", Architecture: "arm64"},
		Layers: []testimage.Layer{{Tar: testimage.Tar(testimage.File("chart/Chart.yaml", 0o644, []byte("name: a\n"))), Compression: "gzip", MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip"}}}
	const what = "the manifest is not an image: config application/vnd.cncf.helm.config.v1+json"
	if _, err := blessRef(lay(t, chart.Build()), "oci:"+t.TempDir(), signer, bless.Options{}); err == nil || !strings.HasSuffix(err.Error(), what) {
		t.Errorf("alone: %v", err)
	}
	image := testimage.Image{Layers: []testimage.Layer{{Tar: testimage.Tar(testimage.File("a", 0o644, []byte("a"))), Compression: "gzip"}}}
	_, r := mustBless(t, lay(t, testimage.Index(false, image, chart)), signer, bless.Options{})
	if want := []string{"linux/arm64 is left as it is: " + what}; !slices.Equal(r.Notices, want) {
		t.Errorf("in an index: notices %q, want %q", r.Notices, want)
	}
}

// One platform that cannot be blessed stops the run, with the way out.
func TestOtherPlatformsAreNamed(t *testing.T) {
	signer, pub := newSigner(t)
	image := testimage.Image{Layers: []testimage.Layer{{Tar: testimage.Tar(testimage.File("a", 0o644, []byte("a"))), Compression: "gzip"}}}
	wasm := testimage.Image{Platform: v1.Platform{OS: "wasip1", Architecture: "wasm"}, Layers: []testimage.Layer{{Compressed: []byte("\x00asm"), MediaType: "application/wasm"}}}
	source := lay(t, testimage.Index(false, image, wasm))
	_, err := blessRef(source, "oci:"+t.TempDir(), signer, bless.Options{})
	var child *bless.ChildError
	if want := "wasip1/wasm: layer 1: media type application/wasm is not a layer that can be blessed"; !errors.As(err, &child) || !strings.HasSuffix(err.Error(), want) || !slices.Equal(child.Others, []string{"linux/amd64"}) {
		t.Errorf("error %#v, want %s", err, want)
	}
	blessed, _ := mustBless(t, source, signer, bless.Options{Platforms: []v1.Platform{{OS: "linux", Architecture: "amd64"}}})
	if check := verifyRef(t, blessed, bless.VerifyOptions{Keys: []crypto.PublicKey{pub}}); !check.OK() {
		t.Error(check.Problems)
	}
}

func TestStaleTablesOfContentsAreDropped(t *testing.T) {
	signer, _ := newSigner(t)
	blessed, r := mustBless(t, lay(t, caseNamed(t, "stargz")), signer, bless.Options{})
	if len(r.Notices) != 1 || !strings.Contains(r.Notices[0], "layer 1") || !strings.Contains(r.Notices[0], "stargz/toc.digest") {
		t.Errorf("notices: %q", r.Notices)
	}
	index, err := layout.ImageIndexFromPath(strings.TrimPrefix(blessed, "oci:"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := index.Image(r.Descriptor.Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]map[string]string{"manifest": manifest.Layers[0].Annotations, "result": r.Images[0].Layers[0].Blessed.Annotations} {
		if diff := cmp.Diff(map[string]string{"com.example/what": "base"}, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	signer, pub := newSigner(t)
	_, stranger := newSigner(t)
	keys := []crypto.PublicKey{pub}
	// The attributes of a blessed layer, put on other content.
	tampered := func(edit func(testimage.Entry) testimage.Entry) string {
		plain := testimage.File("bin/app", 0o755, []byte("#!/bin/sh\n"))
		good, err := signer.IMA(sha256Digest("#!/bin/sh\n"), 2)
		if err != nil {
			t.Fatal(err)
		}
		pkcs7, err := signer.Bless(sha256Digest("#!/bin/sh\n"))
		if err != nil {
			t.Fatal(err)
		}
		e := edit(plain.With("SCHILY.xattr.security.bpf.bless", string(pkcs7), "SCHILY.xattr.security.ima", string(good)))
		return lay(t, testimage.Image{Layers: []testimage.Layer{{Tar: testimage.Tar(e), Compression: "gzip"}}}.Build())
	}
	same := func(e testimage.Entry) testimage.Entry { return e }
	for _, tc := range []struct {
		name string
		ref  string
		keys []crypto.PublicKey
		want []string // attribute and a word of the reason
	}{
		{"nothing", tampered(same), keys, nil},
		{"another key", tampered(same), []crypto.PublicKey{stranger}, []string{"security.ima another key", "security.bpf.bless no trusted key"}},
		{"changed content", tampered(func(e testimage.Entry) testimage.Entry { e.Body = []byte("#!/bin/ba\n"); return e }), keys,
			[]string{"security.ima content or the signature was changed", "security.bpf.bless no trusted key"}},
		{"no attributes", tampered(func(testimage.Entry) testimage.Entry {
			return testimage.File("bin/app", 0o755, []byte("#!/bin/sh\n"))
		}), keys, []string{"security.ima missing", "security.bpf.bless missing"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := verifyRef(t, tc.ref, bless.VerifyOptions{Keys: tc.keys})
			if len(r.Problems) != len(tc.want) {
				t.Fatalf("problems: %v", r.Problems)
			}
			for i, p := range r.Problems {
				attribute, reason, _ := strings.Cut(tc.want[i], " ")
				if p.Attribute != attribute || !strings.Contains(p.Reason, reason) || p.Path != "bin/app" || p.Layer != 1 {
					t.Errorf("%s, want %s", p, tc.want[i])
				}
			}
		})
	}
}

func sha256Digest(content string) xattr.Digest {
	h := xattr.SHA256.New()
	h.Write([]byte(content))
	return xattr.Digest{Hash: xattr.SHA256, Sum: h.Sum(nil)}
}

func TestInspectCountsByAttribute(t *testing.T) {
	signer, _ := newSigner(t)
	blessed, result := mustBless(t, lay(t, caseNamed(t, "typical")), signer, bless.Options{})
	src, err := transport.Open(context.Background(), blessed, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	got, err := bless.Inspect(context.Background(), src, bless.InspectOptions{Files: true})
	if err != nil {
		t.Fatal(err)
	}
	total := got.Images[0].Total
	format := signer.KeyID().String() + " sha256 v2"
	want := bless.Coverage{Regular: 5, Code: 3, Bytes: total.Bytes, Signed: 5, Bless: 3, Formats: map[string]int64{format: 5}}
	if diff := cmp.Diff(want, total); diff != "" {
		t.Error(diff)
	}
	if total.Bytes != result.Images[0].Layers[0].FileBytes {
		t.Errorf("%d bytes, bless counted %d", total.Bytes, result.Images[0].Layers[0].FileBytes)
	}
	i := slices.IndexFunc(got.Images[0].Layers[0].Files, func(f bless.FileInspection) bool { return f.Path == "etc/app.conf" })
	if i < 0 {
		t.Fatal("etc/app.conf is not listed")
	}
	if diff := cmp.Diff(bless.FileInspection{Path: "etc/app.conf", IMA: format}, got.Images[0].Layers[0].Files[i], cmpopts.IgnoreUnexported(bless.FileInspection{})); diff != "" {
		t.Error(diff)
	}
}

func TestCancelledRunLeavesNothing(t *testing.T) {
	signer, _ := newSigner(t)
	ctx, cancel := context.WithCancel(context.Background())
	src, err := transport.Open(ctx, lay(t, caseNamed(t, "many-entries")), transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dir, temp := t.TempDir(), t.TempDir()
	dst, err := transport.Create(ctx, "oci:"+dir, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = bless.Image(ctx, src, dst, signer, bless.Options{TempDir: temp, Progress: cancelAtLayer{cancel}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	dst.Close()
	if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// cancelAtLayer is a Progress that cancels the run when the first bytes are read.
type cancelAtLayer struct{ cancel func() }

func (c cancelAtLayer) Layer(v1.Descriptor) (func(int64), func(string)) {
	return func(int64) { c.cancel() }, func(string) {}
}
func (cancelAtLayer) Stage(string) func() { return func() {} }
func (cancelAtLayer) Notice(string)       {}
