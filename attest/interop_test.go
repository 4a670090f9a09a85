// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/internal/gotool"
	"github.com/sbom-bless/sbom-bless/transport"
)

// program finds a program of another project.
func program(t *testing.T, module string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a program that is built from its module the first time")
	}
	path, err := gotool.Path(t.Context(), module)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// pushed is an image in a registry, with its attestations.
type pushed struct {
	name.Repository
	image     v1.Hash
	artifacts []attest.Artifact
}

// registries start a registry each and return its host.
var registries = map[string]func(t *testing.T) string{
	"with the referrers API":    func(t *testing.T) string { return serve(t, true) },
	"without the referrers API": func(t *testing.T) string { return serve(t, false) },
	"docker-registry":           dockerRegistry,
}

func serve(t *testing.T, referrersAPI bool) string {
	s := httptest.NewServer(registry.New(registry.WithReferrersSupport(referrersAPI), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// dockerRegistry runs Debian's docker-registry.
func dockerRegistry(t *testing.T) string {
	path, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Fatal("docker-registry is missing: apt-get install docker-registry")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\nlog: {level: error, accesslog: {disabled: true}}\n", dir, host)
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "serve", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 200 {
		if c, err := net.Dial("tcp", host); err == nil {
			c.Close()
			return host
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("docker-registry does not answer")
	return ""
}

func push(t *testing.T, key crypto.Signer, host string) pushed {
	t.Helper()
	ctx := context.Background()
	repo, err := name.NewRepository(host + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(repo.Tag("1"), img); err != nil {
		t.Fatal(err)
	}
	desc, err := partial.Descriptor(img)
	if err != nil {
		t.Fatal(err)
	}
	p := pushed{Repository: repo, image: desc.Digest}
	b := blessing(t, "image")
	b.Image, b.Name = *desc, repo.Name()
	p.artifacts = makeArtifacts(t, b, key)
	dst, err := transport.Create(ctx, repo.Tag("1").String(), transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := attest.Push(ctx, dst, p.artifacts); err != nil {
		t.Fatal(err)
	}
	return p
}

func publicPEM(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var predicateTypes = map[string]string{
	"spdxjson":               attest.PredicateSPDX,
	"cyclonedx":              attest.PredicateCycloneDX,
	"slsaprovenance1":        attest.PredicateProvenance,
	attest.PredicateBlessing: attest.PredicateBlessing,
}

func TestCosignVerifies(t *testing.T) {
	bin := program(t, gotool.Cosign)
	for where, start := range registries {
		for _, kind := range []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048"} {
			t.Run(kind+", "+where, func(t *testing.T) {
				key := newKey(t, kind)
				p := push(t, key, start(t))
				verify := func(key crypto.Signer, predicate string) (string, error) {
					cmd := exec.Command(bin, "verify-attestation", "--key", publicPEM(t, key), "--insecure-ignore-tlog", "--type", predicate, p.Digest(p.image.String()).String())
					var out, errs bytes.Buffer
					cmd.Stdout, cmd.Stderr = &out, &errs
					cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
					if err := cmd.Run(); err != nil {
						return "", fmt.Errorf("%w: %s", err, errs.String())
					}
					return out.String(), nil
				}
				for short, uri := range predicateTypes {
					out, err := verify(key, short)
					if err != nil {
						t.Errorf("%s: %v", short, err)
						continue
					}
					var envelope struct{ Payload []byte }
					var s attest.Statement
					if err := json.Unmarshal([]byte(out), &envelope); err != nil {
						t.Fatalf("%s: %v", out, err)
					}
					if err := json.Unmarshal(envelope.Payload, &s); err != nil || s.PredicateType != uri {
						t.Errorf("%s: cosign printed %s, %v", short, s.PredicateType, err)
					}
				}
				if _, err := verify(newKey(t, kind), "spdxjson"); err == nil {
					t.Error("cosign accepts another key")
				}
			})
		}
	}
}

// TestCosignRefusesTampering changes one byte in a signed statement.
func TestCosignRefusesTampering(t *testing.T) {
	bin := program(t, gotool.Cosign)
	key := newKey(t, "ecdsa-p256")
	p := push(t, key, serve(t, true))
	for _, a := range p.artifacts {
		if a.Descriptor.Annotations["dev.sigstore.bundle.predicateType"] != attest.PredicateSPDX {
			continue
		}
		dir := t.TempDir()
		verify := func(blob []byte) error {
			file := filepath.Join(dir, "bundle.json")
			if err := os.WriteFile(file, blob, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(bin, "verify-blob-attestation", "--key", publicPEM(t, key), "--insecure-ignore-tlog", "--type", "spdxjson", "--bundle", file,
				"--digest", p.image.Hex, "--digestAlg", "sha256")
			cmd.Env = append(os.Environ(), "HOME="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}
		if err := verify(a.Blobs[0].Content); err != nil {
			t.Errorf("the bundle as made: %v", err)
		}
		var b attest.Bundle
		if err := json.Unmarshal(a.Blobs[0].Content, &b); err != nil {
			t.Fatal(err)
		}
		b.DSSEEnvelope.Payload = bytes.Replace(b.DSSEEnvelope.Payload, []byte("usr/bin/x"), []byte("usr/bin/y"), 1)
		raw, _ := json.Marshal(b)
		if err := verify(raw); err == nil {
			t.Error("cosign accepts a changed statement")
		}
		return
	}
	t.Error("no SPDX attestation")
}

func TestSigstoreGoVerifies(t *testing.T) {
	for _, kind := range []string{"ecdsa-p256", "rsa-2048"} {
		t.Run(kind, func(t *testing.T) {
			key := newKey(t, kind)
			b := blessing(t, "image")
			check := func(raw []byte, image v1.Hash, key crypto.Signer) error {
				var entity bundle.Bundle
				if err := entity.UnmarshalJSON(raw); err != nil {
					return err
				}
				v, err := signature.LoadVerifier(key.Public(), crypto.SHA256)
				if err != nil {
					return err
				}
				material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
					return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
				})
				verifier, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps())
				if err != nil {
					return err
				}
				sum, err := hex.DecodeString(image.Hex)
				if err != nil {
					return err
				}
				_, err = verifier.Verify(&entity, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithKey()))
				return err
			}
			bundles := 0
			for _, a := range makeArtifacts(t, b, key) {
				if a.Descriptor.ArtifactType != attest.MediaTypeBundle {
					continue
				}
				bundles++
				if err := check(a.Blobs[0].Content, b.Image.Digest, key); err != nil {
					t.Errorf("%v: %v", a.Descriptor.Annotations, err)
				}
				if err := check(a.Blobs[0].Content, hash("another image"), key); err == nil {
					t.Error("accepted for another image")
				}
				if err := check(a.Blobs[0].Content, b.Image.Digest, newKey(t, kind)); err == nil {
					t.Error("accepted with another key")
				}
			}
			if bundles != 4 {
				t.Errorf("%d bundles", bundles)
			}
		})
	}
}

func TestRegistryVerifies(t *testing.T) {
	ctx := context.Background()
	key := newKey(t, "ecdsa-p256")
	for where, start := range registries {
		p := push(t, key, start(t))
		src, err := transport.Open(ctx, p.Tag("1").String(), transport.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		v, err := attest.Verify(ctx, src.(transport.ReadStore), src.Root().Digest, trust(key))
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if len(v.Attestations) != 4 || len(v.Rejected) > 0 || v.Files.Len() != 1 {
			t.Errorf("%s: %+v", where, v)
		}
	}
}

// TestReferrerList compares the list of referrers with the artifacts. The API of this registry gives the media type of
// the config as artifact type, whatever the manifest says; the fallback tag has it right.
func TestReferrerList(t *testing.T) {
	key := newKey(t, "ecdsa-p256")
	for _, api := range []bool{true, false} {
		p := push(t, key, serve(t, api))
		index, err := remote.Referrers(p.Digest(p.image.String()))
		if err != nil {
			t.Fatal(err)
		}
		list, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		listed := map[v1.Hash]v1.Descriptor{}
		for _, d := range list.Manifests {
			listed[d.Digest] = d
		}
		for _, a := range p.artifacts {
			d := listed[a.Descriptor.Digest]
			if !api && d.ArtifactType != a.Descriptor.ArtifactType || fmt.Sprint(d.Annotations) != fmt.Sprint(a.Descriptor.Annotations) {
				t.Errorf("referrers API %v: listed %+v, want %+v", api, d, a.Descriptor)
			}
		}
	}
}

// TestBuildxShowsAttestations puts BuildKit's manifest into an index and has buildx read it.
func TestBuildxShowsAttestations(t *testing.T) {
	bin := program(t, gotool.Buildx)
	ctx := context.Background()
	p := push(t, newKey(t, "ecdsa-p256"), serve(t, true))
	desc, err := remote.Head(p.Tag("1"))
	if err != nil {
		t.Fatal(err)
	}
	b := blessing(t, "image")
	b.Image, b.Name = *desc, p.Name()
	a, err := attest.BuildKit(b)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := transport.Create(ctx, p.Tag("2").String(), transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := attest.Push(ctx, dst, []attest.Artifact{a}); err != nil {
		t.Fatal(err)
	}
	image := *desc
	image.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{image, a.Descriptor}})
	if err != nil {
		t.Fatal(err)
	}
	index := v1.Descriptor{MediaType: types.OCIImageIndex, Size: int64(len(raw)), Digest: hash(string(raw))}
	if err := dst.PutManifest(ctx, index, raw); err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Commit(ctx, index); err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{
		"{{json .SBOM}}":       `"spdxVersion": "SPDX-2.3"`,
		"{{json .Provenance}}": `"buildType": "` + attest.BuildType + `"`,
	} {
		cmd := exec.Command(bin, "imagetools", "inspect", "--format", format, p.Tag("2").String())
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %s, %v; want %s", format, out, err, want)
		}
	}
}
