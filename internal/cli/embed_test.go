// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/transport"
)

// command runs the real command and returns its exit code and what it printed on stderr.
func command(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(context.Background(), append([]string{"sbom-bless"}, args...), strings.NewReader(""), &out, &errs)
	return code, errs.String()
}

func mustRun(t *testing.T, args ...string) {
	t.Helper()
	if code, errs := command(t, args...); code != 0 {
		t.Fatalf("%v: exit code %d\n%s", args, code, errs)
	}
}

// workshop is a directory with a key and the image "source", and is the working directory.
func workshop(t *testing.T, image string) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("SBOM_BLESS_PASSWORD", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	mustRun(t, "keygen", "--out", "bless")
	if code := testimage.Main([]string{image, "source"}, io.Discard, os.Stderr); code != 0 {
		t.Fatal("mkimage failed")
	}
}

// TestLayersBeyondWhatDockerTakes: the embedded layer is one more, and Docker's own store takes 125.
func TestLayersBeyondWhatDockerTakes(t *testing.T) {
	for layers, want := range map[int]bool{124: false, 125: true} {
		workshop(t, "typical")
		var im testimage.Image
		for i := range layers {
			im.Layers = append(im.Layers, testimage.Layer{Tar: testimage.Tar(testimage.File(fmt.Sprintf("f%d", i), 0o644, nil)), Compression: "gzip"})
		}
		if err := im.Build().WriteLayout("deep", testimage.Tag); err != nil {
			t.Fatal(err)
		}
		code, errs := command(t, "bless", "oci:deep", "-t", "oci:blessed", "--key", "bless.key", "--sbom", "none", "--embed")
		if code != 0 {
			t.Fatal(errs)
		}
		if got := strings.Contains(errs, "126 layers with the embedded attestations: Docker's own store takes no more than 125"); got != want {
			t.Errorf("%d layers: told %t, want %t:\n%s", layers, got, want, errs)
		}
	}
}

// pieces are an image in the hands of somebody who can write what he likes and get all digests right.
type pieces struct {
	manifest v1.Manifest
	config   []byte
	layers   [][]byte // unpacked
	lie      bool     // the config keeps its DiffIDs
}

func takeApart(t *testing.T, dir string) *pieces {
	t.Helper()
	blob := func(h v1.Hash) []byte {
		raw, err := os.ReadFile(filepath.Join(dir, "blobs", h.Algorithm, h.Hex))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var index v1.IndexManifest
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	tagged := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Annotations["org.opencontainers.image.ref.name"] != "" })
	p := &pieces{}
	if err := json.Unmarshal(blob(index.Manifests[max(tagged, 0)].Digest), &p.manifest); err != nil {
		t.Fatal(err)
	}
	p.config = blob(p.manifest.Config.Digest)
	for _, l := range p.manifest.Layers {
		r := io.Reader(bytes.NewReader(blob(l.Digest)))
		if strings.HasSuffix(string(l.MediaType), "gzip") {
			if r, err = gzip.NewReader(r); err != nil {
				t.Fatal(err)
			}
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		p.layers = append(p.layers, content)
	}
	return p
}

func sha(b []byte) v1.Hash { h, _, _ := v1.SHA256(bytes.NewReader(b)); return h }

// putTogether writes the pieces as an image, with DiffIDs and digests as they are now. Layers that did
// not change keep their blobs.
func (p *pieces) putTogether(t *testing.T, from, dir string) {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, raw []byte) {
		if err := os.WriteFile(name, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(p.config, &config); err != nil {
		t.Fatal(err)
	}
	old := takeApart(t, from)
	for i, content := range p.layers {
		same := slices.IndexFunc(old.layers, func(l []byte) bool { return bytes.Equal(l, content) })
		if same >= 0 && i < len(p.manifest.Layers) && p.manifest.Layers[i].Digest == old.manifest.Layers[same].Digest {
			raw, err := os.ReadFile(filepath.Join(from, "blobs", "sha256", old.manifest.Layers[same].Digest.Hex))
			if err != nil {
				t.Fatal(err)
			}
			write(filepath.Join(blobs, old.manifest.Layers[same].Digest.Hex), raw)
			continue
		}
		desc := v1.Descriptor{MediaType: types.OCIUncompressedLayer, Size: int64(len(content)), Digest: sha(content)}
		write(filepath.Join(blobs, desc.Digest.Hex), content)
		p.manifest.Layers[i] = desc
		if p.lie {
			continue
		}
		p.config = bytes.Replace(p.config, []byte(config.RootFS.DiffIDs[i].String()), []byte(desc.Digest.String()), 1)
	}
	p.manifest.Config.Digest, p.manifest.Config.Size = sha(p.config), int64(len(p.config))
	write(filepath.Join(blobs, p.manifest.Config.Digest.Hex), p.config)
	raw, err := json.Marshal(p.manifest)
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(blobs, sha(raw).Hex), raw)
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{
		MediaType: p.manifest.MediaType, Size: int64(len(raw)), Digest: sha(raw), Annotations: map[string]string{"org.opencontainers.image.ref.name": testimage.Tag},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "index.json"), index)
	write(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

// withEntry adds an entry to a tar, before the files or behind them.
func withEntry(t *testing.T, content []byte, h tar.Header, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	r := tar.NewReader(bytes.NewReader(content))
	for {
		old, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: old.Typeflag, Name: old.Name, Mode: old.Mode, Size: old.Size, ModTime: old.ModTime, PAXRecords: old.PAXRecords}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
	}
	h.Size = int64(len(body))
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestEmbeddedAttestationsHoldForNothingElse gives images to a node that it must not take the embedded
// attestations of another for: the control is the image as it was blessed.
func TestEmbeddedAttestationsHoldForNothingElse(t *testing.T) {
	workshop(t, "typical")
	mustRun(t, "bless", "oci:source", "-t", "oci:blessed", "--key", "bless.key", "--embed", "--sbom", "none")
	if code := testimage.Main([]string{"whiteouts", "source2"}, io.Discard, os.Stderr); code != 0 {
		t.Fatal("mkimage failed")
	}
	mustRun(t, "bless", "oci:source2", "-t", "oci:other", "--key", "bless.key", "--embed", "--sbom", "none")
	public, err := key.LoadPublic(context.Background(), "bless.crt")
	if err != nil {
		t.Fatal(err)
	}
	trust := attest.Trust{Keys: []crypto.PublicKey{public}}
	top := func(p *pieces) *[]byte { return &p.layers[len(p.layers)-1] }
	entry := func(h tar.Header, body string) func(*pieces) {
		return func(p *pieces) { *top(p) = withEntry(t, *top(p), h, body) }
	}
	for name, c := range map[string]struct {
		edit func(*pieces)
		want string
	}{
		"as it was blessed":                   {func(*pieces) {}, ""},
		"a program in the embedded layer":     {entry(tar.Header{Typeflag: '0', Name: "usr/bin/app", Mode: 0o755}, "#!/bin/sh\n"), "a file that has no place there"},
		"a program below its directory":       {entry(tar.Header{Typeflag: '0', Name: embedded.Root + "/x", Mode: 0o644}, "x"), "a file that has no place there"},
		"a file that may be run":              {entry(tar.Header{Typeflag: '0', Name: embedded.Root + "/blobs/sha256/" + strings.Repeat("a", 64), Mode: 0o755}, "x"), "a file that has no place there"},
		"a link":                              {entry(tar.Header{Typeflag: '2', Name: embedded.Root + "/l", Linkname: "/etc"}, ""), "neither a file nor a directory"},
		"a hard link":                         {entry(tar.Header{Typeflag: '1', Name: embedded.Root + "/l", Linkname: "usr/bin/app"}, ""), "neither a file nor a directory"},
		"a whiteout":                          {entry(tar.Header{Typeflag: '0', Name: "usr/bin/.wh.app", Mode: 0o644}, ""), "a file that has no place there"},
		"a file twice":                        {entry(tar.Header{Typeflag: '0', Name: embedded.Root + "/index.json", Mode: 0o644}, "{}"), "stands twice"},
		"a file of another user":              {entry(tar.Header{Typeflag: '0', Name: embedded.Root + "/blobs/sha256/" + strings.Repeat("a", 64), Mode: 0o644, Uid: 1}, ""), "not a plain file of root's"},
		"another attribute":                   {entry(tar.Header{Typeflag: '0', Name: embedded.Root + "/blobs/sha256/" + strings.Repeat("a", 64), Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}}, ""), "has the attribute security.capability"},
		"a directory of the image":            {entry(tar.Header{Typeflag: '5', Name: "etc/", Mode: 0o777}, ""), "a directory that has no place there"},
		"the embedded layer of another image": {func(p *pieces) { *top(p) = *top(takeApart(t, "other")) }, "is not that of the image that the attestations are about"},
		"another file in the layer below": {func(p *pieces) {
			p.layers[0] = withEntry(t, p.layers[0], tar.Header{Typeflag: '0', Name: "evil", Mode: 0o755}, "x")
		}, "is not that of the image that the attestations are about"},
		"another entry point": {func(p *pieces) {
			p.config = bytes.Replace(p.config, []byte(`"config":{}`), []byte(`"config":{"Entrypoint":["/evil"]}`), 1)
		}, "is not that of the image that the attestations are about"},
		"a layer repacked": {func(p *pieces) { p.manifest.Layers[0].Digest = v1.Hash{} }, ""}, // unpacked it is its DiffID
		"a layer that is not what its DiffID is": {func(p *pieces) {
			p.layers[0], p.lie = withEntry(t, p.layers[0], tar.Header{Typeflag: '0', Name: "evil", Mode: 0o755}, "x"), true
		}, "the blessing names"},
	} {
		t.Run(name, func(t *testing.T) {
			p := takeApart(t, "blessed")
			before := string(p.config)
			c.edit(p)
			if name == "another entry point" && string(p.config) == before {
				t.Fatal("the config did not change")
			}
			dir := filepath.Join(t.TempDir(), "image")
			p.putTogether(t, "blessed", dir)
			raw, err := json.Marshal(p.manifest)
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := transport.OpenDir(dir).Describe(sha(raw))
			if err != nil {
				t.Fatal(err)
			}
			v, err := locate.Within{Content: transport.OpenDir(dir)}.Find(context.Background(), locate.Query{Image: manifest, Trust: trust, FilesOnly: true, Layers: true})
			switch {
			case c.want == "" && (err != nil || v.Files.Len() != 5):
				t.Errorf("%v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want %s", err, c.want)
			}
			if code, errs := command(t, "verify", "oci:"+dir, "--key", "bless.crt"); (code == 0) != (c.want == "") {
				t.Errorf("verify: exit code %d\n%s", code, errs)
			}
		})
	}
	if _, err := (locate.Within{Content: transport.OpenDir("blessed")}).Find(context.Background(), locate.Query{Image: describeTop(t, "blessed")}); !errors.Is(err, attest.ErrUntrusted) {
		t.Errorf("without a key: %v", err)
	}
}

func describeTop(t *testing.T, dir string) v1.Descriptor {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	for _, d := range index.Manifests {
		if d.ArtifactType == "" {
			return v1.Descriptor{Digest: d.Digest, Size: d.Size}
		}
	}
	t.Fatalf("%s: no image among %v", dir, slices.Collect(maps.Keys(index.Annotations)))
	return v1.Descriptor{}
}

// TestBlessTakesNoLayerForItsOwn gives bless an image whose history claims that its last layer is an embedded one.
func TestBlessTakesNoLayerForItsOwn(t *testing.T) {
	workshop(t, "whiteouts")
	p := takeApart(t, "source")
	at := bytes.LastIndex(p.config, []byte(`"created_by":"`))
	if at < 0 {
		t.Fatalf("no history: %s", p.config)
	}
	p.config = append(append(bytes.Clone(p.config[:at]), `"created_by":"sbom-bless bless --embed","comment":"`...), p.config[at+len(`"created_by":"`):]...)
	p.putTogether(t, "source", "forged")
	code, errs := command(t, "bless", "oci:forged", "-t", "oci:blessed", "--key", "bless.key", "--no-attestations")
	if code != 1 || !strings.Contains(errs, "layer 2: the history of the image says that it holds attestations of an earlier blessing, but it holds ") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}
