// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/imageconfig"
	"github.com/sbom-bless/sbom-bless/policy"
	"github.com/sbom-bless/sbom-bless/transport"
)

const imageConfig = `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"history":[]}`

// blessed is an image in a registry, and the artifacts of its blessing.
type blessed struct {
	key       *ecdsa.PrivateKey
	image     v1.Descriptor
	raw       []byte
	artifacts []attest.Artifact
}

// bless makes an image of two files, usr/bin/x and usr/bin/y, that hold what their names say,
// or else what is given.
func bless(t *testing.T, name string, content ...string) *blessed {
	t.Helper()
	if len(content) == 0 {
		content = []string{"x", "y"}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	config := []byte(imageConfig)
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":%d,"digest":"%s"},"layers":[],"annotations":{"name":%q}}`,
		types.OCIManifestSchema1, types.OCIConfigJSON, len(config), sum(config), name)
	b := &blessed{key: key, raw: raw, image: v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(raw)), Digest: sum(raw)}}
	list, err := filelist.Encode([]filelist.File{
		{Path: "usr/bin/x", SHA256: sha256.Sum256([]byte(content[0])), Size: 1, Mode: 0o755, Flags: filelist.Code, Package: 0},
		{Path: "usr/bin/y", SHA256: sha256.Sum256([]byte(content[1])), Size: 1, Mode: 0o755, Package: -1},
	}, []filelist.Package{{Type: "deb", Name: "x", Version: "1"}})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := attest.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.artifacts, err = attest.Make(context.Background(), attest.Blessing{
		Image: b.image, Name: "registry.example/" + name, Source: attest.Source{Name: "source", Digest: sum([]byte("source"))},
		FileList: list, Counts: attest.Counts{Files: 2, Code: 1, Packages: 1}, Created: time.Unix(1_700_000_000, 0), SBOMs: []attest.SBOM{{MediaType: attest.MediaTypeSPDX, Raw: []byte(`{"spdxVersion":"SPDX-2.3"}`)}},
	}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sum(b []byte) v1.Hash {
	h, _, _ := v1.SHA256(bytes.NewReader(b))
	return h
}

// dir writes the artifacts to a directory.
func (b *blessed) dir(t *testing.T) policy.Source {
	t.Helper()
	dir := t.TempDir()
	if err := attest.WriteDir(t.Context(), dir, b.artifacts); err != nil {
		t.Fatal(err)
	}
	return policy.Source{Kind: policy.Directory, Path: dir}
}

// push puts image and artifacts into a registry and gives the name there.
func (b *blessed) push(t *testing.T, server string) string {
	t.Helper()
	name := strings.TrimPrefix(server, "http://") + "/app:1"
	dst, err := transport.Create(t.Context(), name, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(imageConfig)), nil }
	config := v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(imageConfig)), Digest: sum([]byte(imageConfig))}
	err = errors.Join(dst.PutBlob(t.Context(), config, open), dst.PutManifest(t.Context(), b.image, b.raw))
	if err == nil {
		_, err = dst.Commit(t.Context(), b.image)
	}
	if err == nil {
		err = attest.Push(t.Context(), dst, b.artifacts)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func (b *blessed) trust() attest.Trust { return attestTrust(b) }

func attestTrust(by ...*blessed) (t attest.Trust) {
	for _, b := range by {
		t.Keys = append(t.Keys, b.key.Public())
	}
	return t
}

func TestAttested(t *testing.T) {
	b, other := bless(t, "app"), bless(t, "other")
	want := List{Blessed: time.Unix(1_700_000_000, 0).UTC(), Set: enforce.Set{Name: "registry.example/app@" + b.image.Digest.String(), Digest: "sha256:" + fileList(b), Sizes: true, Files: []enforce.File{
		{Path: "/usr/bin/x", SHA256: sha256.Sum256([]byte("x")), Size: 1, Package: "deb x 1"},
		{Path: "/usr/bin/y", SHA256: sha256.Sum256([]byte("y")), Size: 1},
	}}}
	damaged := b.dir(t)
	if err := os.WriteFile(filepath.Join(damaged.Path, "blobs/sha256", fileList(b)), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		trust   attest.Trust
		sources []policy.Source
		reason  string
	}{
		"directory":              {b.trust(), []policy.Source{b.dir(t)}, ""},
		"second directory":       {b.trust(), []policy.Source{other.dir(t), b.dir(t)}, ""},
		"second key":             {attestTrust(other, b), []policy.Source{b.dir(t)}, ""},
		"of another image":       {attestTrust(other, b), []policy.Source{other.dir(t)}, ReasonNoAttestation},
		"no directory":           {b.trust(), []policy.Source{{Kind: policy.Directory, Path: "/nonexistent"}}, ReasonNoAttestation},
		"another key":            {other.trust(), []policy.Source{b.dir(t)}, ReasonUntrusted},
		"another key, then none": {other.trust(), []policy.Source{b.dir(t), other.dir(t)}, ReasonUntrusted},
		"damaged":                {b.trust(), []policy.Source{damaged}, ReasonDamaged},
		"damaged, then whole":    {b.trust(), []policy.Source{damaged, b.dir(t)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Attested{Trust: c.trust, Sources: c.sources, Store: t.TempDir()}
			got, err := a.List(t.Context(), &Container{Image: "registry.example/app:1", Digest: b.image.Digest.String()})
			expect(t, err, c.reason)
			if c.reason == "" {
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func expect(t *testing.T, err error, reason string) {
	t.Helper()
	got := ""
	var u *Unblessed
	if errors.As(err, &u) {
		got = u.Reason
	}
	if got != reason || (err == nil) != (reason == "") {
		t.Errorf("%q: %v, want %q", got, err, reason)
	}
}

// fileList is the name of the blob that holds the list.
func fileList(b *blessed) string {
	for _, a := range b.artifacts {
		if strings.Contains(a.Descriptor.ArtifactType, "filelist") {
			return a.Blobs[0].Descriptor.Digest.Hex
		}
	}
	return ""
}

// What came from a registry is there when the registry is not; and it is verified anew,
// so that a key that is trusted no more has no say.
func TestAttestedStore(t *testing.T) {
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	b, other := bless(t, "app"), bless(t, "other")
	c := &Container{Image: b.push(t, server.URL), Digest: b.image.Digest.String()}
	store := t.TempDir()
	list := func(trust attest.Trust, store string) error {
		a := &Attested{Trust: trust, Sources: []policy.Source{{Kind: policy.Registry}}, Store: store}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		set, err := a.List(ctx, c)
		if err == nil && len(set.Files) != 2 {
			t.Errorf("%d files", len(set.Files))
		}
		return err
	}
	expect(t, list(other.trust(), store), ReasonUntrusted)
	expect(t, list(b.trust(), store), "")
	server.Close()
	expect(t, list(b.trust(), store), "")
	expect(t, list(other.trust(), store), ReasonUnreachable)
	expect(t, list(b.trust(), store), "") // what wrong keys ask for takes nothing away
	expect(t, list(b.trust(), t.TempDir()), ReasonUnreachable)
}

// A list that cannot be kept counts all the same.
func TestAttestedUnkept(t *testing.T) {
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	b := bless(t, "app")
	store := t.TempDir()
	if err := os.WriteFile(store+"/attestations", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var told error
	a := &Attested{Trust: b.trust(), Sources: []policy.Source{{Kind: policy.Registry}}, Store: store, Unkept: func(err error) { told = err }}
	_, err := a.List(t.Context(), &Container{Image: b.push(t, server.URL), Digest: b.image.Digest.String()})
	expect(t, err, "")
	if told == nil {
		t.Error("nobody is told")
	}
}

func TestUnreachableRegistries(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"empty":   ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))).ServeHTTP,
		"refuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			b := bless(t, "app")
			a := &Attested{Trust: b.trust(), Sources: []policy.Source{{Kind: policy.Registry}}, Store: t.TempDir()}
			_, err := a.List(t.Context(), &Container{Image: strings.TrimPrefix(server.URL, "http://") + "/app:1", Digest: b.image.Digest.String()})
			expect(t, err, ReasonUnreachable)
		})
	}
}

// A policy joins lists of other blessed images: the union counts. One that is missing, or
// that no trusted key signed, leaves the container unblessed, for the reason that it has.
func TestJoin(t *testing.T) {
	app, tool, foreign := bless(t, "app"), bless(t, "tool", "t", "x"), bless(t, "foreign", "f", "g")
	none := "registry.example/none@sha256:" + strings.Repeat("0", 64)
	nameOf := func(name string, b *blessed) string {
		return "registry.example/" + name + "@" + b.image.Digest.String()
	}
	r := newRig(t)
	dirs := []policy.Source{app.dir(t), tool.dir(t), foreign.dir(t)}
	r.lists = (&Attested{Trust: attestTrust(app, tool), Sources: dirs, Store: t.TempDir()}).List
	c := r.container("c", "registry.example/app:1")
	c.Digest = app.image.Digest.String()
	text := func(join string) string {
		return "keys: [k]\nmatches: [{image: '**', mode: enforce, unblessed: deny, join: [" + join + "]}]\n"
	}
	r.start(text(""))
	for _, step := range []struct {
		join, state, reason, why string
	}{
		{"", "enforce 2", "", ""},
		{nameOf("tool", tool), "enforce 4", "", ""},
		{tool.image.Digest.String(), "enforce 4", "", ""},
		{nameOf("foreign", foreign), "enforce 0", ReasonUntrusted, "joined list of registry.example/foreign@sha256:"},
		{nameOf("tool", tool) + ", " + none, "enforce 0", ReasonNoAttestation, "joined list of " + none},
		{nameOf("tool", tool), "enforce 4", "", ""},
	} {
		r.write(text(step.join))
		r.notices = nil
		if err := r.Reload(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if err := r.Admit(t.Context(), c, Running); err != nil {
			t.Fatal(err)
		}
		if s := r.kernel.state("c"); s != step.state {
			t.Errorf("join %q: in the kernel %q, want %q", step.join, s, step.state)
		}
		if step.reason != "" && !slices.ContainsFunc(r.notices, func(n Notice) bool {
			return n.Action == "denied" && n.Reason == step.reason && strings.Contains(n.Message, step.why)
		}) {
			t.Errorf("join %q: %+v, want %s, %s", step.join, r.notices, step.reason, step.why)
		}
	}
	updates := r.kernel.updates
	if err := r.Reload(t.Context(), 0); err != nil || r.kernel.updates != updates {
		t.Errorf("a policy that says the same has all judged anew: %v", err)
	}
	d := r.force.decide(t.Context(), &c)
	var got []string
	for _, f := range d.set.Files {
		got = append(got, f.Path+" "+f.Image+" "+f.Package)
	}
	want := []string{"/usr/bin/x  deb x 1", "/usr/bin/y  ", "/usr/bin/x " + nameOf("tool", tool) + " deb x 1", "/usr/bin/y " + nameOf("tool", tool) + " "}
	if diff := cmp.Diff(want, got); diff != "" || d.set.Name != c.image() || !d.set.Sizes {
		t.Errorf("set %s, sizes %t:\n%s", d.set.Name, d.set.Sizes, diff)
	}
}

// A digest without a name can be joined where a directory has it. A registry cannot be asked,
// and the reason says what to write.
func TestJoinWithoutName(t *testing.T) {
	a := &Attested{Sources: []policy.Source{{Kind: policy.Registry}}, Store: t.TempDir()}
	_, err := a.List(t.Context(), &Container{Digest: sum(nil).String()})
	expect(t, err, ReasonNoAttestation)
	if err == nil || !strings.Contains(err.Error(), "hint: write NAME@"+sum(nil).String()) {
		t.Errorf("%v", err)
	}
}

// The store keeps those that were used last.
func TestAttestedStoreIsBounded(t *testing.T) {
	store := t.TempDir()
	for i := range maxKept + 2 {
		dir := filepath.Join(store, "attestations", fmt.Sprintf("%04d", i))
		at := time.Now().Add(time.Duration(-i) * time.Hour)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chtimes(dir, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&Attested{Store: store}).clean(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(store, "attestations"))
	if err != nil || len(left) != maxKept || left[maxKept-1].Name() != fmt.Sprintf("%04d", maxKept-1) {
		t.Errorf("%d left, %v", len(left), err)
	}
}

// Attestations that are in the image are found in what a runtime keeps of it, and are there
// when the runtime no longer is asked.
func TestAttestedEmbedded(t *testing.T) {
	b, other := bless(t, "app"), bless(t, "other")
	layer, err := embedded.Layer(b.image, b.raw, []byte(imageConfig), b.artifacts, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := imageconfig.AddEmbedded([]byte(imageConfig), sum(layer))
	if err != nil {
		t.Fatal(err)
	}
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":%d,"digest":"%s"},"layers":[{"mediaType":%q,"size":%d,"digest":"%s"}]}`,
		types.OCIManifestSchema1, types.OCIConfigJSON, len(config), sum(config), types.OCIUncompressedLayer, len(layer), sum(layer))
	content := transport.NewMemory(nil)
	for _, blob := range [][]byte{raw, config, layer} {
		desc := v1.Descriptor{Size: int64(len(blob)), Digest: sum(blob)}
		if err := content.PutBlob(t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }); err != nil {
			t.Fatal(err)
		}
	}
	with := &Container{
		Image: "registry.example/app:1", Digest: sum(raw).String(), content: content,
		manifest: v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(raw)), Digest: sum(raw)},
	}
	without := &Container{Image: with.Image, Digest: with.Digest, Runtime: "podman"}
	store := t.TempDir()
	list := func(trust attest.Trust, c *Container, store string) error {
		set, err := (&Attested{Trust: trust, Sources: []policy.Source{{Kind: policy.Embedded}}, Store: store}).List(t.Context(), c)
		if err == nil && (len(set.Files) != 2 || set.Blessed.Unix() != 1_700_000_000) {
			t.Errorf("%+v", set)
		}
		return err
	}
	expect(t, list(b.trust(), without, store), ReasonNoAttestation)
	expect(t, list(other.trust(), with, store), ReasonUntrusted)
	expect(t, list(b.trust(), with, store), "")
	expect(t, list(b.trust(), without, store), "")
	expect(t, list(other.trust(), without, store), ReasonNoAttestation)
	later := &Container{Image: with.Image, Digest: with.Digest, Runtime: "containerd"}
	expect(t, list(b.trust(), later, t.TempDir()), ReasonUnreachable)
	expect(t, list(b.trust(), without, t.TempDir()), ReasonNoAttestation)
}

// stalled has one place to ask: a registry that does not answer.
func stalled(t *testing.T) Lists {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release); s.Close() })
	a := &Attested{Sources: []policy.Source{{Kind: policy.Registry}}, Store: t.TempDir()}
	return func(ctx context.Context, c *Container) (List, error) {
		there := *c
		there.Image = strings.TrimPrefix(s.URL, "http://") + "/x:1"
		return a.List(ctx, &there)
	}
}

// Whoever asks waits no longer than it wants to, and those who ask with it not shorter.
func TestAttestedDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	list := stalled(t)
	other := make(chan error, 1)
	go func() {
		_, err := list(t.Context(), &Container{Digest: sum(nil).String()})
		other <- err
	}()
	if _, err := list(ctx, &Container{Digest: sum(nil).String()}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	select {
	case err := <-other:
		t.Errorf("the other: %v", err)
	default:
	}
}
