// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/transport"
)

func newKey(t *testing.T, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ecdsa-p256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa-2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSigner(t *testing.T, key crypto.Signer, delegation *x509.Certificate) *attest.Signer {
	t.Helper()
	s, err := attest.NewSigner(key, delegation)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hash(s string) v1.Hash {
	sum := sha256.Sum256([]byte(s))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

const (
	spdx = `{ "spdxVersion": "SPDX-2.3", "name": "a & <b>", "files": [ {"fileName": "usr/bin/x"} ] }`
	cdx  = `{"bomFormat":"CycloneDX","specVersion":"1.6"}`
)

// blessing of an image; the same argument gives the same blessing.
func blessing(t *testing.T, image string) attest.Blessing {
	t.Helper()
	list, err := filelist.Encode([]filelist.File{{Path: "usr/bin/x", SHA256: sha256.Sum256([]byte(image)), Mode: 0o755, Flags: filelist.Code, Package: 0}},
		[]filelist.Package{{Type: "deb", Name: "x", Version: "1"}})
	if err != nil {
		t.Fatal(err)
	}
	l := attest.LayerDigests{DiffID: hash("diff"), Digest: hash("layer")}
	return attest.Blessing{
		Image:      v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 123, Digest: hash(image)},
		Name:       "registry.example/app",
		Platform:   "linux/amd64",
		Source:     attest.Source{Name: "registry.example/app:ci", Digest: hash("source of " + image)},
		Layers:     []attest.Layer{{Source: l, Blessed: attest.LayerDigests{DiffID: hash("diff'"), Digest: hash("layer'")}}},
		Attributes: []attest.Attribute{{Name: "security.ima", Format: "ima-signature-v2", Hash: "sha256", Files: "all"}},
		Key:        attest.Key{ID: "0123abcd"},
		Counts:     attest.Counts{Files: 1, Code: 1, Packages: 1},
		SBOMs:      []attest.SBOM{{MediaType: attest.MediaTypeSPDX, Raw: []byte(spdx)}, {MediaType: attest.MediaTypeCycloneDX, Raw: []byte(cdx)}},
		FileList:   list,
		Parameters: map[string]any{"hash": "sha256"},
		Version:    "v0.0.0-test",
		Created:    time.Unix(1_700_000_000, 0),
	}
}

func makeArtifacts(t *testing.T, b attest.Blessing, key crypto.Signer) []attest.Artifact {
	t.Helper()
	a, err := attest.Make(context.Background(), b, newSigner(t, key, nil))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func writeDir(t *testing.T, artifacts []attest.Artifact) *transport.Dir {
	t.Helper()
	dir := t.TempDir()
	if err := attest.WriteDir(context.Background(), dir, artifacts); err != nil {
		t.Fatal(err)
	}
	return transport.OpenDir(dir)
}

func trust(keys ...crypto.Signer) attest.Trust {
	var t attest.Trust
	for _, k := range keys {
		t.Keys = append(t.Keys, k.Public())
	}
	return t
}

func TestWhatIsMadeVerifies(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048"} {
		t.Run(kind, func(t *testing.T) {
			key := newKey(t, kind)
			b := blessing(t, "image")
			artifacts := makeArtifacts(t, b, key)
			if d := cmp.Diff(artifacts, makeArtifacts(t, b, key)); d != "" {
				t.Errorf("made again, the artifacts differ:\n%s", d)
			}
			v, err := attest.Verify(ctx, writeDir(t, artifacts), b.Image.Digest, trust(newKey(t, "ecdsa-p256"), key))
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Rejected) > 0 {
				t.Errorf("rejected: %v", v.Rejected)
			}
			var predicates []string
			for _, a := range v.Attestations {
				predicates = append(predicates, a.Statement.PredicateType)
			}
			want := []string{attest.PredicateSPDX, attest.PredicateCycloneDX, attest.PredicateProvenance, attest.PredicateBlessing}
			if d := cmp.Diff(want, predicates); d != "" {
				t.Errorf("predicates (-want +got):\n%s", d)
			}
			if f, ok := v.Files.Find("usr/bin/x"); !ok || f.SHA256 != sha256.Sum256([]byte("image")) {
				t.Errorf("file list: %v, %v", f, ok)
			}
			for mediaType, want := range map[string]string{attest.MediaTypeSPDX: spdx, attest.MediaTypeCycloneDX: cdx} {
				got, err := v.SBOM(ctx, mediaType)
				if err != nil || string(got) != want {
					t.Errorf("SBOM %s: %s, %v", mediaType, got, err)
				}
			}
			if d := cmp.Diff(b.Layers, v.Blessing.Layers); d != "" {
				t.Errorf("layers (-want +got):\n%s", d)
			}
			if d := cmp.Diff(b.Counts, v.Blessing.Counts); d != "" {
				t.Errorf("counts (-want +got):\n%s", d)
			}
		})
	}
}

// TestManifest compares a referrer with the one that formats of the ecosystem
// ask for, byte by byte.
func TestManifest(t *testing.T) {
	b := blessing(t, "image")
	for _, a := range makeArtifacts(t, b, newKey(t, "ecdsa-p256")) {
		if a.Descriptor.ArtifactType != attest.MediaTypeBundle {
			continue
		}
		want := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
			`"config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},`+
			`"layers":[{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","size":%d,"digest":"%s"}],`+
			`"annotations":{"dev.sigstore.bundle.content":"dsse-envelope","dev.sigstore.bundle.predicateType":"https://spdx.dev/Document","org.opencontainers.image.created":"2023-11-14T22:13:20Z"},`+
			`"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":123,"digest":"%s"},`+
			`"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`, len(a.Blobs[0].Content), hash(string(a.Blobs[0].Content)), b.Image.Digest)
		if d := cmp.Diff(want, string(a.Manifest)); d != "" {
			t.Errorf("manifest (-want +got):\n%s", d)
		}
		var bundle struct {
			DSSEEnvelope struct{ Payload []byte }
		}
		if err := json.Unmarshal(a.Blobs[0].Content, &bundle); err != nil {
			t.Fatal(err)
		}
		statement := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"registry.example/app@` + b.Image.Digest.String() + `","digest":{"sha256":"` + b.Image.Digest.Hex + `"}}],"predicateType":"https://spdx.dev/Document","predicate":` + spdx + `}`
		if d := cmp.Diff(statement, string(bundle.DSSEEnvelope.Payload)); d != "" {
			t.Errorf("statement (-want +got):\n%s", d)
		}
		return
	}
	t.Error("no bundle")
}

// TestVerifyFiles reads only what a node needs: other bundles may be gone.
func TestVerifyFiles(t *testing.T) {
	ctx := context.Background()
	key := newKey(t, "ecdsa-p256")
	b := blessing(t, "image")
	artifacts := makeArtifacts(t, b, key)
	dir := writeDir(t, artifacts)
	for _, a := range artifacts {
		if p := a.Descriptor.Annotations["dev.sigstore.bundle.predicateType"]; p != "" && p != attest.PredicateBlessing {
			remove(t, dir.Path(), a.Blobs[0].Descriptor.Digest)
		}
	}
	v, err := attest.VerifyFiles(ctx, dir, b.Image.Digest, trust(key))
	if err != nil || len(v.Attestations) != 1 || len(v.Rejected) != 0 || v.Files.Len() != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := attest.VerifyFiles(ctx, dir, b.Image.Digest, trust(newKey(t, "ecdsa-p256"))); !errors.Is(err, attest.ErrUntrusted) {
		t.Errorf("another key: %v", err)
	}
}

// TestStoreErrors has a bundle that cannot be read, which does not make the image one without a blessing.
func TestStoreErrors(t *testing.T) {
	ctx := context.Background()
	key := newKey(t, "ecdsa-p256")
	b := blessing(t, "image")
	artifacts := makeArtifacts(t, b, key)
	for i, a := range artifacts {
		if a.Descriptor.ArtifactType != attest.MediaTypeBundle {
			continue
		}
		dir := writeDir(t, artifacts)
		remove(t, dir.Path(), a.Blobs[0].Descriptor.Digest)
		v, err := attest.Verify(ctx, dir, b.Image.Digest, trust(key))
		if i < len(artifacts)-1 {
			if err != nil || len(v.Rejected) != 1 || !errors.Is(v.Rejected[0], transport.ErrNotFound) {
				t.Errorf("without another bundle: %+v, %v", v, err)
			}
		} else if errors.Is(err, attest.ErrUntrusted) || errors.Is(err, attest.ErrNone) || !errors.Is(err, transport.ErrNotFound) {
			t.Errorf("without the blessing: %v", err)
		}
	}
}

func TestUnchecked(t *testing.T) {
	b := blessing(t, "image")
	dir := writeDir(t, makeArtifacts(t, b, newKey(t, "ecdsa-p256")))
	v, err := attest.Verify(context.Background(), dir, b.Image.Digest, attest.Trust{Unchecked: true})
	if err != nil || len(v.Attestations) != 4 || v.Attestations[0].Key != nil {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestIndex(t *testing.T) {
	ctx := context.Background()
	key := newKey(t, "ecdsa-p256")
	b := blessing(t, "image")
	b.Index = &v1.Descriptor{MediaType: types.OCIImageIndex, Size: 99, Digest: hash("index")}
	dir := writeDir(t, makeArtifacts(t, b, key))
	if _, err := attest.Verify(ctx, dir, b.Image.Digest, trust(key)); err != nil {
		t.Error(err)
	}
	referrers, err := dir.Referrers(ctx, b.Index.Digest, attest.MediaTypeBundle)
	if err != nil || len(referrers) != 4 {
		t.Errorf("index has referrers %v, %v; want 4", referrers, err)
	}
	_, err = attest.Verify(ctx, dir, b.Index.Digest, trust(key))
	if !errors.Is(err, attest.ErrUntrusted) || !strings.Contains(err.Error(), "a manifest of the index") {
		t.Errorf("the index verified as an image: %v", err)
	}
}

func TestBigSBOM(t *testing.T) {
	ctx := context.Background()
	key := newKey(t, "ecdsa-p256")
	b := blessing(t, "image")
	large := []byte(`{"spdxVersion":"SPDX-2.3","comment":"` + strings.Repeat("x", 8<<20) + `"}`)
	b.SBOMs[0].Raw = large
	if _, err := attest.Make(ctx, b, newSigner(t, key, nil)); err == nil || !strings.Contains(err.Error(), "no short form is given") {
		t.Errorf("without a short form: %v", err)
	}
	b.SBOMs[0].Short = []byte(`{"spdxVersion":"SPDX-2.3"}`)
	artifacts := makeArtifacts(t, b, key)
	for _, a := range artifacts {
		if a.Descriptor.ArtifactType == attest.MediaTypeBundle && len(a.Blobs[0].Content) > 10<<20 {
			t.Errorf("bundle %v of %d bytes", a.Descriptor.Annotations, len(a.Blobs[0].Content))
		}
	}
	dir := writeDir(t, artifacts)
	v, err := attest.Verify(ctx, dir, b.Image.Digest, trust(key))
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.SBOM(ctx, attest.MediaTypeSPDX)
	if err != nil || !bytes.Equal(got, large) {
		t.Errorf("the SBOM read is not the one given: %v", err)
	}
	var references int
	for _, a := range v.Attestations {
		if a.Statement.PredicateType != attest.PredicateReference {
			continue
		}
		references++
		want := fmt.Sprintf(`{"attester":{"id":"https://github.com/sbom-bless/sbom-bless"},"references":[{"name":"sbom.spdx.json","digest":{"sha256":"%s"},`+
			`"downloadLocation":"https://registry.example/v2/app/blobs/%s","mediaType":"application/spdx+json","annotations":{"size":"%d"}}]}`, hash(string(large)).Hex, hash(string(large)), len(large))
		if d := cmp.Diff(want, string(a.Statement.Predicate)); d != "" {
			t.Errorf("reference (-want +got):\n%s", d)
		}
	}
	if references != 1 {
		t.Errorf("%d references", references)
	}
	if raw, err := dir.Referrers(ctx, b.Image.Digest, attest.MediaTypeSPDX); err != nil || len(raw) != 1 {
		t.Errorf("raw SBOM: %v, %v", raw, err)
	}
}

func TestDelegation(t *testing.T) {
	ctx := context.Background()
	root, leaf := newKey(t, "rsa-2048"), newKey(t, "ecdsa-p256")
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, leaf.Public(), root)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	b := blessing(t, "image")
	artifacts, err := attest.Make(ctx, b, newSigner(t, leaf, cert))
	if err != nil {
		t.Fatal(err)
	}
	dir := writeDir(t, artifacts)
	issued := func(by crypto.Signer) func(c *x509.Certificate) error {
		return func(c *x509.Certificate) error {
			parent := &x509.Certificate{PublicKey: by.Public(), PublicKeyAlgorithm: x509.RSA}
			return parent.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
		}
	}
	for name, c := range map[string]struct {
		trust attest.Trust
		good  bool
	}{
		"the root that delegated": {attest.Trust{Delegated: issued(root)}, true},
		"another root":            {attest.Trust{Delegated: issued(newKey(t, "rsa-2048"))}, false},
		"the leaf itself":         {trust(leaf), true},
		"the root as plain key":   {trust(root), false},
		"nobody":                  {attest.Trust{}, false},
	} {
		if _, err := attest.Verify(ctx, dir, b.Image.Digest, c.trust); (err == nil) != c.good || !c.good && !errors.Is(err, attest.ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rewrap attaches another blob in the place of a bundle, with the annotations.
func rewrap(t *testing.T, a attest.Artifact, blob []byte, annotations map[string]string) attest.Artifact {
	t.Helper()
	var m v1.Manifest
	if err := json.Unmarshal(a.Manifest, &m); err != nil {
		t.Fatal(err)
	}
	m.Layers[0].Size, m.Layers[0].Digest = int64(len(blob)), hash(string(blob))
	m.Annotations = annotations
	a.Blobs = []attest.Blob{{Descriptor: m.Layers[0], Content: blob}}
	a.Manifest, _ = json.Marshal(m)
	a.Descriptor.Size, a.Descriptor.Digest, a.Descriptor.Annotations = int64(len(a.Manifest)), hash(string(a.Manifest)), annotations
	return a
}

// TestSignedIsWhoseKeyVerified has a bundle with a stranger's certificate beside the signature, as keyless ones have it.
func TestSignedIsWhoseKeyVerified(t *testing.T) {
	key, stranger := newKey(t, "ecdsa-p256"), newKey(t, "ecdsa-p256")
	b := blessing(t, "image")
	good := makeArtifacts(t, b, key)
	issuer := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte("https://issuer.example")}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), EmailAddresses: []string{"admin@example.com"}, ExtraExtensions: []pkix.Extension{issuer}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, stranger.Public(), stranger)
	if err != nil {
		t.Fatal(err)
	}
	last := good[len(good)-1]
	var bundle attest.Bundle
	if err := json.Unmarshal(last.Blobs[0].Content, &bundle); err != nil {
		t.Fatal(err)
	}
	bundle.VerificationMaterial = attest.VerificationMaterial{Certificate: &attest.Certificate{RawBytes: der}}
	raw, _ := json.Marshal(bundle)
	v, err := attest.Verify(context.Background(), writeDir(t, []attest.Artifact{good[0], rewrap(t, last, raw, nil)}), b.Image.Digest, trust(key))
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	want := attest.Signed{KeySHA256: hash(string(public)).Hex, Checked: true}
	if d := cmp.Diff(want, v.Attestations[0].Signed()); d != "" {
		t.Errorf("signer (-want +got):\n%s", d)
	}
}

func TestTamperingIsRefused(t *testing.T) {
	ctx := context.Background()
	key := newKey(t, "ecdsa-p256")
	b := blessing(t, "image")
	good := makeArtifacts(t, b, key)
	last := good[len(good)-1]
	rewrap := func(blob []byte) []attest.Artifact {
		return append(append([]attest.Artifact{}, good[:len(good)-1]...), rewrap(t, last, blob, nil))
	}
	bundle := func(edit func(*attest.Bundle)) []attest.Artifact {
		var v attest.Bundle
		if err := json.Unmarshal(last.Blobs[0].Content, &v); err != nil {
			t.Fatal(err)
		}
		edit(&v)
		raw, _ := json.Marshal(v)
		return rewrap(raw)
	}
	other := makeArtifacts(t, blessing(t, "other image"), key)
	foreign := makeArtifacts(t, b, newKey(t, "ecdsa-p256"))
	for name, c := range map[string]struct {
		artifacts []attest.Artifact
		damage    func(dir string)
		want      string
	}{
		"nothing there":             {artifacts: other, want: "no attestation"},
		"signed by another key":     {artifacts: foreign, want: "ECDSA signature does not verify"},
		"a bundle of another image": {artifacts: rewrap(other[len(other)-1].Blobs[0].Content), want: "is not about " + b.Image.Digest.String()},
		"no blessing":               {artifacts: good[:len(good)-1], want: "no blessing signed by the given key"},
		"a byte of the payload":     {artifacts: bundle(func(v *attest.Bundle) { v.DSSEEnvelope.Payload[300] ^= 1 }), want: "no blessing signed by the given key"},
		"a byte of the signature":   {artifacts: bundle(func(v *attest.Bundle) { v.DSSEEnvelope.Signatures[0].Sig[20] ^= 1 }), want: "ECDSA signature does not verify"},
		"two signatures": {artifacts: bundle(func(v *attest.Bundle) {
			v.DSSEEnvelope.Signatures = append(v.DSSEEnvelope.Signatures, v.DSSEEnvelope.Signatures[0])
		}), want: "2 signatures, want 1"},
		"another payload type":       {artifacts: bundle(func(v *attest.Bundle) { v.DSSEEnvelope.PayloadType = "text/plain" }), want: `payload type "text/plain"`},
		"another bundle type":        {artifacts: bundle(func(v *attest.Bundle) { v.MediaType += "x" }), want: "media type"},
		"no file list":               {artifacts: good, damage: func(dir string) { remove(t, dir, good[0].Blobs[0].Descriptor.Digest) }, want: "file list: "},
		"an altered file list":       {artifacts: good, damage: func(dir string) { flip(t, dir, good[0].Blobs[0].Descriptor.Digest) }, want: "the bytes have the digest"},
		"an altered bundle on disk":  {artifacts: good, damage: func(dir string) { flip(t, dir, last.Blobs[0].Descriptor.Digest) }, want: "the bytes have the digest"},
		"an altered manifest":        {artifacts: good, damage: func(dir string) { flip(t, dir, last.Descriptor.Digest) }, want: ""},
		"a truncated file list blob": {artifacts: good, damage: func(dir string) { truncate(t, dir, good[0].Blobs[0].Descriptor.Digest) }, want: "bytes, the descriptor says"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeDir(t, c.artifacts)
			if c.damage != nil {
				c.damage(dir.Path())
			}
			_, err := attest.Verify(ctx, dir, b.Image.Digest, trust(key))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
	t.Run("another signer's bundles beside ours", func(t *testing.T) {
		v, err := attest.Verify(ctx, writeDir(t, append(append([]attest.Artifact{}, foreign...), good...)), b.Image.Digest, trust(key))
		if err != nil || len(v.Attestations) != 4 || len(v.Rejected) != 4 {
			t.Errorf("%v, %v", v, err)
		}
	})
	t.Run("an altered SBOM beside its attestation", func(t *testing.T) {
		b := b
		b.SBOMs = []attest.SBOM{{MediaType: attest.MediaTypeSPDX, Raw: []byte(`{"comment":"` + strings.Repeat("x", 8<<20) + `"}`), Short: []byte("{}")}}
		dir := writeDir(t, makeArtifacts(t, b, key))
		flip(t, dir.Path(), hash(string(b.SBOMs[0].Raw)))
		v, err := attest.Verify(ctx, dir, b.Image.Digest, trust(key))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.SBOM(ctx, attest.MediaTypeSPDX); err == nil || !strings.Contains(err.Error(), "the bytes have the digest") {
			t.Errorf("error %v", err)
		}
	})
}

func TestMakeRefuses(t *testing.T) {
	s := newSigner(t, newKey(t, "ecdsa-p256"), nil)
	for name, edit := range map[string]func(*attest.Blessing){
		"file list: 1 files, the image has 2": func(b *attest.Blessing) { b.Counts.Files = 2 },
		"file list: ":                         func(b *attest.Blessing) { b.FileList = nil },
		"unknown type":                        func(b *attest.Blessing) { b.SBOMs[0].MediaType = "text/plain" },
		"white space":                         func(b *attest.Blessing) { b.SBOMs[0].Raw = []byte("{}\n") },
		"no JSON":                             func(b *attest.Blessing) { b.SBOMs[0].Raw = []byte("{") },
	} {
		b := blessing(t, "image")
		edit(&b)
		if _, err := attest.Make(context.Background(), b, s); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want %s", err, name)
		}
	}
}

func blobPath(dir string, h v1.Hash) string { return filepath.Join(dir, "blobs", h.Algorithm, h.Hex) }

func remove(t *testing.T, dir string, h v1.Hash) {
	if err := os.Remove(blobPath(dir, h)); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, dir string, h v1.Hash) {
	raw, err := os.ReadFile(blobPath(dir, h))
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(blobPath(dir, h), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, dir string, h v1.Hash) {
	if err := os.Truncate(blobPath(dir, h), 10); err != nil {
		t.Fatal(err)
	}
}

// TestParallelRunsShareADirectory has several runs write to one directory at the same time: what each of them
// wrote must be listed afterwards.
func TestParallelRunsShareADirectory(t *testing.T) {
	ctx := context.Background()
	key := newKey(t, "ecdsa-p256")
	const runs = 8
	var artifacts [runs][]attest.Artifact
	for i := range artifacts {
		artifacts[i] = makeArtifacts(t, blessing(t, fmt.Sprint("image ", i)), key)
	}
	dir := t.TempDir()
	var g errgroup.Group
	for _, a := range artifacts {
		g.Go(func() error { return attest.WriteDir(ctx, dir, a) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range artifacts {
		if _, err := attest.Verify(ctx, transport.OpenDir(dir), hash(fmt.Sprint("image ", i)), trust(key)); err != nil {
			t.Errorf("run %d: %v", i, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
