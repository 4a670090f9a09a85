// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/in-toto/in-toto-golang/in_toto"

	"github.com/sbom-bless/sbom-bless/attest"
)

// TestLayoutAcceptsLink has in-toto's own verifier judge the link, with a layout that demands the step.
func TestLayoutAcceptsLink(t *testing.T) {
	for _, kind := range []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048"} {
		t.Run(kind, func(t *testing.T) {
			key := newKey(t, kind)
			der, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				t.Fatal(err)
			}
			var public in_toto.Key
			if err := public.LoadKeyReaderDefaults(bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))); err != nil {
				t.Fatal(err)
			}
			if id, err := attest.KeyID(der); err != nil || id != public.KeyID {
				t.Errorf("key id %s, %v; in-toto says %s", id, err, public.KeyID)
			}
			b := blessing(t, "image")
			dir := t.TempDir()
			for _, a := range makeArtifacts(t, b, key) {
				if a.Descriptor.ArtifactType != attest.MediaTypeLink {
					continue
				}
				name := a.Blobs[0].Descriptor.Annotations["org.opencontainers.image.title"]
				if err := os.WriteFile(filepath.Join(dir, name), a.Blobs[0].Content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := layoutVerify(t, dir, public, b.Source.Digest); err != nil {
				t.Errorf("refused: %v", err)
			}
			if err := layoutVerify(t, dir, public, hash("another source")); err == nil {
				t.Error("a blessing of another source was accepted")
			}
			links, _ := filepath.Glob(filepath.Join(dir, "bless.*.link"))
			var env attest.Envelope
			raw, err := os.ReadFile(links[0])
			if err != nil || json.Unmarshal(raw, &env) != nil {
				t.Fatal(err)
			}
			env.Payload = bytes.Replace(env.Payload, []byte(b.Image.Digest.Hex), []byte(hash("evil").Hex), 1)
			raw, _ = json.Marshal(env)
			if err := os.WriteFile(links[0], raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := layoutVerify(t, dir, public, b.Source.Digest); err == nil {
				t.Error("an altered link was accepted")
			}
		})
	}
}

// layoutVerify runs in-toto verification: a step "build" whose product is the source, then the step "bless".
func layoutVerify(t *testing.T, links string, blesser in_toto.Key, source v1.Hash) error {
	t.Helper()
	owner := inTotoKey(t)
	build := in_toto.Link{Type: "link", Name: "build", Materials: map[string]in_toto.HashObj{}, ByProducts: map[string]any{}, Command: []string{}, Environment: map[string]any{},
		Products: map[string]in_toto.HashObj{"registry.example/app:ci": {"sha256": source.Hex}}}
	var env in_toto.Envelope
	if err := env.SetPayload(build); err != nil {
		t.Fatal(err)
	}
	if err := env.Sign(owner); err != nil {
		t.Fatal(err)
	}
	if err := env.Dump(filepath.Join(links, "build."+owner.KeyID[:8]+".link")); err != nil {
		t.Fatal(err)
	}
	step := func(name, key string, materials, products [][]string) in_toto.Step {
		return in_toto.Step{Type: "step", PubKeys: []string{key}, Threshold: 1, ExpectedCommand: []string{},
			SupplyChainItem: in_toto.SupplyChainItem{Name: name, ExpectedMaterials: materials, ExpectedProducts: products}}
	}
	layout := in_toto.Layout{
		Type: "layout", Expires: time.Now().Add(time.Hour).UTC().Format(in_toto.ISO8601DateSchema), Inspect: []in_toto.Inspection{},
		Keys: map[string]in_toto.Key{blesser.KeyID: blesser, owner.KeyID: publicOf(owner)},
		Steps: []in_toto.Step{
			step("build", owner.KeyID, [][]string{}, [][]string{{"ALLOW", "registry.example/app:ci"}, {"DISALLOW", "*"}}),
			step(attest.StepName, blesser.KeyID,
				[][]string{{"REQUIRE", "registry.example/app:ci"}, {"MATCH", "registry.example/app:ci", "WITH", "PRODUCTS", "FROM", "build"}, {"DISALLOW", "*"}},
				[][]string{{"REQUIRE", "registry.example/app"}, {"ALLOW", "registry.example/app"}, {"REQUIRE", "sbom.spdx.json"}, {"ALLOW", "sbom.*"}, {"ALLOW", "files.zst"}, {"DISALLOW", "*"}}),
		},
	}
	var layoutEnv in_toto.Envelope
	if err := layoutEnv.SetPayload(layout); err != nil {
		t.Fatal(err)
	}
	if err := layoutEnv.Sign(owner); err != nil {
		t.Fatal(err)
	}
	_, err := in_toto.InTotoVerify(&layoutEnv, map[string]in_toto.Key{owner.KeyID: owner}, links, "", map[string]string{}, nil, false)
	return err
}

// inTotoKey makes the project owner's key in in-toto's own form.
func inTotoKey(t *testing.T) in_toto.Key {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(newKey(t, "ecdsa-p256"))
	if err != nil {
		t.Fatal(err)
	}
	var k in_toto.Key
	if err := k.LoadKeyReaderDefaults(strings.NewReader(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))); err != nil {
		t.Fatal(err)
	}
	return k
}

func publicOf(k in_toto.Key) in_toto.Key {
	k.KeyVal.Private = ""
	return k
}
