// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/transport"
)

// attestedImage writes an image and its attestations: beside it in a layout, or apart, in a directory.
func attestedImage(t *testing.T, key crypto.Signer, apart bool) (image, attestations string) {
	t.Helper()
	ctx := context.Background()
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := partial.Descriptor(img)
	if err != nil {
		t.Fatal(err)
	}
	list, err := filelist.Encode([]filelist.File{{Path: "a", SHA256: sha256.Sum256(nil), Package: -1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := attest.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	artifacts, err := attest.Make(ctx, attest.Blessing{
		Image: *desc, FileList: list, Counts: attest.Counts{Files: 1}, Source: attest.Source{Name: "source", Digest: desc.Digest},
		SBOMs: []attest.SBOM{
			{MediaType: attest.MediaTypeSPDX, Raw: []byte(`{"spdxVersion":"SPDX-2.3"}`)},
			{MediaType: attest.MediaTypeCycloneDX, Raw: []byte(`{"bomFormat":"CycloneDX"}`)},
		},
	}, signer)
	if err != nil {
		t.Fatal(err)
	}
	image = "oci:" + filepath.Join(t.TempDir(), "image") + ":latest"
	dst, err := transport.Create(ctx, image, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	put := func(d v1.Descriptor, open func() (io.ReadCloser, error)) {
		if err := dst.PutBlob(ctx, d, open); err != nil {
			t.Fatal(err)
		}
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	put(manifest.Layers[0], layers[0].Compressed)
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	put(manifest.Config, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(config)), nil })
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.PutManifest(ctx, *desc, raw); err != nil {
		t.Fatal(err)
	}
	attestations = t.TempDir()
	if apart {
		err = attest.WriteDir(ctx, attestations, artifacts)
	} else {
		err = attest.Push(ctx, dst, artifacts)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Commit(ctx, *desc); err != nil {
		t.Fatal(err)
	}
	return image, attestations
}

func publicKeyFile(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSBOMIsPrinted(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, otherPub := publicKeyFile(t, key), publicKeyFile(t, other)
	image, _ := attestedImage(t, key, false)
	bare, dir := attestedImage(t, key, true)
	for _, c := range []struct {
		name   string
		args   []string
		out    string
		err    string
		stderr string
	}{
		{name: "SPDX", args: []string{image, "--key", pub}, out: `{"spdxVersion":"SPDX-2.3"}` + "\n"},
		{name: "CycloneDX", args: []string{image, "--key", pub, "--format", "cyclonedx-json"}, out: `{"bomFormat":"CycloneDX"}` + "\n"},
		{name: "without a key", args: []string{image}, out: `{"spdxVersion":"SPDX-2.3"}` + "\n", stderr: "signature not checked"},
		{name: "another key", args: []string{image, "--key", otherPub}, err: "no blessing signed by the given key"},
		{name: "one of two keys", args: []string{image, "--key", otherPub, "--key", pub}, out: `{"spdxVersion":"SPDX-2.3"}` + "\n"},
		{name: "no attestations", args: []string{bare, "--key", pub}, err: "no attestation"},
		{name: "attestations apart", args: []string{bare, "--key", pub, "--attestations", dir}, out: `{"spdxVersion":"SPDX-2.3"}` + "\n"},
		{name: "half an identity", args: []string{image, "--certificate-identity", "me@example.com"}, err: "both --certificate-identity and --certificate-oidc-issuer"},
		{name: "no root", args: []string{image, "--certificate-identity", "me@example.com", "--certificate-oidc-issuer", "https://x", "--trust-root", "/absent"}, err: "trusted root /absent"},
		{name: "unknown format", args: []string{image, "--format", "x"}, err: "--format x: choose"},
		{name: "no image", err: "takes one IMAGE"},
		{name: "the bundle", args: []string{image, "--attestation", "--key", pub}, out: "bundle"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			app := &cli.App{Commands: []*cli.Command{newSBOM()}, Writer: &out, ErrWriter: &errs, ExitErrHandler: func(*cli.Context, error) {}}
			err := app.Run(flagsFirst(app, append([]string{"sbom-bless", "sbom"}, c.args...)))
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %s", err, c.err)
				}
			case err != nil:
				t.Error(err)
			case c.out == "bundle":
				var b attest.Bundle
				if err := json.Unmarshal(out.Bytes(), &b); err != nil || b.MediaType != attest.MediaTypeBundle || !bytes.Contains(b.DSSEEnvelope.Payload, []byte(attest.PredicateSPDX)) {
					t.Errorf("%s, %v", out.String(), err)
				}
			case out.String() != c.out || !strings.Contains(errs.String(), c.stderr):
				t.Errorf("printed %s, %s", out.String(), errs.String())
			}
		})
	}
}
