// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// rewriteDir rewrites each referrer in a directory of attestations, as somebody can who holds the directory but
// not the key: edit gets manifest and blob, digests are made right.
func rewriteDir(t *testing.T, dir string, edit func(m *v1.Manifest, blob []byte) []byte) {
	t.Helper()
	read := func(path string, v any) []byte {
		raw, err := os.ReadFile(filepath.Join(dir, path))
		if err == nil && v != nil {
			err = json.Unmarshal(raw, v)
		}
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	write := func(raw []byte) v1.Hash {
		h := sha(raw)
		if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", h.Hex), raw, 0o644); err != nil {
			t.Fatal(err)
		}
		return h
	}
	var index v1.IndexManifest
	read("index.json", &index)
	for i, d := range index.Manifests {
		var m v1.Manifest
		read("blobs/sha256/"+d.Digest.Hex, &m)
		blob := edit(&m, read("blobs/sha256/"+m.Layers[0].Digest.Hex, nil))
		m.Layers[0].Digest, m.Layers[0].Size = write(blob), int64(len(blob))
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		index.Manifests[i].Digest, index.Manifests[i].Size = write(raw), int64(len(raw))
	}
	raw, err := json.Marshal(index)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "index.json"), raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// inBundle edits the statement in the bundle of one predicate type.
func inBundle(t *testing.T, predicateType string, edit func([]byte) []byte) func(*v1.Manifest, []byte) []byte {
	return func(m *v1.Manifest, blob []byte) []byte {
		if m.Annotations["dev.sigstore.bundle.predicateType"] != predicateType {
			return blob
		}
		var b attest.Bundle
		if err := json.Unmarshal(blob, &b); err != nil {
			t.Fatal(err)
		}
		was := string(b.DSSEEnvelope.Payload)
		b.DSSEEnvelope.Payload = edit(b.DSSEEnvelope.Payload)
		if was == string(b.DSSEEnvelope.Payload) {
			t.Fatal("nothing was changed")
		}
		out, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// TestVerifyRefusesTampering changes a blessed image, or its attestations, in one
// place each, all digests made right; verify names the place.
func TestVerifyRefusesTampering(t *testing.T) {
	workshop(t, "whiteouts")
	mustRun(t, "bless", "oci:source", "-t", "oci:blessed", "--key", "bless.key", "--attestation-out", "attestations")
	if code := testimage.Main([]string{"typical", "source2"}, io.Discard, os.Stderr); code != 0 {
		t.Fatal("mkimage failed")
	}
	mustRun(t, "bless", "oci:source2", "-t", "oci:other", "--key", "bless.key", "--attestation-out", "others")
	subject := func(dir string) v1.Hash { return describeTop(t, dir).Digest }
	for name, c := range map[string]struct {
		image        func(*pieces)
		attestations func(t *testing.T, dir string)
		want         []string
	}{
		"nothing": {},
		"one file's content": {
			image: func(p *pieces) {
				at := bytes.Index(p.layers[0], []byte("#!/bin/sh"))
				p.layers[0][at+2] = '.'
			},
			want: []string{
				"layer 1: usr/bin/start: security.ima: the signature does not fit: the content or the signature was changed",
				"layer 1: usr/bin/start: security.bpf.bless: no trusted key verifies it",
				"no attestation",
			},
		},
		"one attribute": {
			image: func(p *pieces) {
				at := bytes.Index(p.layers[0], []byte("SCHILY.xattr.security.ima="))
				p.layers[0][at+len("SCHILY.xattr.security.ima=")+40] ^= 1
			},
			want: []string{"security.ima: the signature does not fit", "no attestation"},
		},
		"one attribute removed": {
			image: func(p *pieces) {
				p.layers[1] = bytes.Replace(p.layers[1], []byte("SCHILY.xattr.security.ima="), []byte("SCHILY.xattr.security.imb="), 1)
			},
			want: []string{"security.ima: missing: the file is not blessed", "no attestation"},
		},
		"a dropped layer": {
			image: func(p *pieces) {
				top := len(p.layers) - 1
				id := sha(p.layers[top]).String()
				p.layers, p.manifest.Layers = p.layers[:top], p.manifest.Layers[:top]
				p.config = bytes.Replace(p.config, []byte(`,"`+id+`"`), nil, 1)
			},
			want: []string{"no attestation"},
		},
		"one digest of the SBOM": {
			attestations: func(t *testing.T, dir string) {
				rewriteDir(t, dir, inBundle(t, attest.PredicateSPDX, func(b []byte) []byte {
					at := bytes.Index(b, []byte(`"algorithm":"SHA256","checksumValue":"`)) + len(`"algorithm":"SHA256","checksumValue":"`)
					b = bytes.Clone(b)
					b[at] = "0123456789abcdef0"[strings.IndexByte("0123456789abcdef", b[at])+1]
					return b
				}))
			},
			want: []string{"SBOM sbom.spdx.json: no document with the digest that the blessing names", "it is missing, or was altered"},
		},
		"one digest of the blessing": {
			attestations: func(t *testing.T, dir string) {
				rewriteDir(t, dir, inBundle(t, attest.PredicateBlessing, func(b []byte) []byte {
					return bytes.Replace(b, []byte(`"key":{"id":"`), []byte(`"key":{"id":"0`), 1)
				}))
			},
			want: []string{"no blessing signed by the given key", "ECDSA signature does not verify"},
		},
		"the attestations of another image": {
			attestations: func(t *testing.T, dir string) {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				if err := os.CopyFS(dir, os.DirFS("others")); err != nil {
					t.Fatal(err)
				}
				image := subject("blessed")
				rewriteDir(t, dir, func(m *v1.Manifest, blob []byte) []byte { m.Subject.Digest = image; return blob })
			},
			want: []string{"is not about " + subject("blessed").String()},
		},
		"no attestations": {
			attestations: func(t *testing.T, dir string) {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"no attestation", "hint: --files-only checks"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			image, dir := "blessed", filepath.Join(t.TempDir(), "attestations")
			if err := os.CopyFS(dir, os.DirFS("attestations")); err != nil {
				t.Fatal(err)
			}
			if c.attestations != nil {
				c.attestations(t, dir)
			}
			if c.image != nil {
				p := takeApart(t, "blessed")
				c.image(p)
				image = filepath.Join(t.TempDir(), "image")
				p.putTogether(t, "blessed", image)
			}
			code, errs := command(t, "verify", "oci:"+image, "--key", "bless.crt", "--attestations", dir)
			want := 3
			if c.want == nil {
				want = 0
			}
			if code != want {
				t.Errorf("exit code %d, want %d\n%s", code, want, errs)
			}
			for _, s := range c.want {
				if !strings.Contains(errs, s) {
					t.Errorf("stderr lacks %q:\n%s", s, errs)
				}
			}
		})
	}
}
