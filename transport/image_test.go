// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// content is an image in memory: every blob and manifest by its digest, children
// before parents.
type content struct {
	bytes map[v1.Hash][]byte
	order []v1.Descriptor
	root  v1.Descriptor
}

func newContent() *content { return &content{bytes: map[v1.Hash][]byte{}} }

func (c *content) add(t types.MediaType, raw []byte) v1.Descriptor {
	h, err := sum(raw, v1.Hash{})
	if err != nil {
		panic(err)
	}
	desc := v1.Descriptor{MediaType: t, Digest: h, Size: int64(len(raw))}
	if _, ok := c.bytes[h]; !ok {
		c.bytes[h] = raw
		c.order = append(c.order, desc)
	}
	return desc
}

func (c *content) addJSON(t types.MediaType, v any) v1.Descriptor {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return c.add(t, raw)
}

// addImage adds an image of gzip layers of the given sizes, of bytes that do not
// compress.
func (c *content) addImage(seed uint64, arch string, sizes ...int) v1.Descriptor {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(len(arch))})
	config := map[string]any{"architecture": arch, "os": "linux", "config": map[string]any{"Env": []string{fmt.Sprint("SEED=", seed)}}}
	var diffIDs []v1.Hash
	var history []map[string]any
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Annotations: map[string]string{"org.opencontainers.image.title": "test"}}
	for i, size := range sizes {
		raw := make([]byte, size)
		random.Read(raw)
		layer := tarOf(map[string]string{fmt.Sprintf("file%d", i): string(raw)})
		h, _, _ := v1.SHA256(bytes.NewReader(layer))
		diffIDs = append(diffIDs, h)
		history = append(history, map[string]any{"created_by": "test"})
		m.Layers = append(m.Layers, c.add(types.OCILayer, gzipOf(layer)))
	}
	config["rootfs"], config["history"] = map[string]any{"type": "layers", "diff_ids": diffIDs}, history
	m.Config = c.addJSON(types.OCIConfigJSON, config)
	c.root = c.addJSON(m.MediaType, m)
	return c.root
}

func testImage(sizes ...int) *content {
	c := newContent()
	c.addImage(1, runtime.GOARCH, sizes...)
	return c
}

// testIndex is an image for two platforms.
func testIndex() *content {
	c := newContent()
	x := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Annotations: map[string]string{"a": "<b>&c"}}
	for i, arch := range []string{"amd64", "arm64"} {
		desc := c.addImage(uint64(i), arch, 3000, 200)
		desc.Platform = &v1.Platform{OS: "linux", Architecture: arch}
		x.Manifests = append(x.Manifests, desc)
	}
	c.root = c.addJSON(x.MediaType, x)
	return c
}

// addReferrer adds a manifest about subject.
func (c *content) addReferrer(subject v1.Descriptor, artifactType, note string) v1.Descriptor {
	empty := c.add(types.OCIEmptyJSON, []byte("{}"))
	return c.addJSON(types.OCIManifestSchema1, v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: artifactType, Config: empty,
		Layers: []v1.Descriptor{c.add("text/plain", []byte(note))}, Subject: &subject,
		Annotations: map[string]string{"note": note},
	})
}

// put puts everything to d, several parts at a time where that is allowed.
func (c *content) put(ctx context.Context, d Destination) error {
	errs := make(chan error)
	n := 0
	for _, desc := range c.order {
		if isManifest(desc.MediaType) {
			continue
		}
		n++
		go func() {
			errs <- d.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.bytes[desc.Digest])), nil })
		}()
	}
	var all []error
	for range n {
		all = append(all, <-errs)
	}
	for _, desc := range c.order {
		if err := errors.Join(all...); err != nil {
			return err
		}
		if isManifest(desc.MediaType) {
			all = append(all, d.PutManifest(ctx, desc, c.bytes[desc.Digest]))
		}
	}
	return errors.Join(all...)
}

// write puts the image to ref and commits it.
func (c *content) write(t *testing.T, ref string, o Options) string {
	t.Helper()
	d, err := Create(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.put(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	name, err := d.Commit(t.Context(), c.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// read reads everything that ref names.
func read(t *testing.T, ref string, o Options) *content {
	t.Helper()
	s, err := Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := newContent()
	c.root = s.Root()
	if err := c.fetch(t.Context(), s, s.Root()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *content) fetch(ctx context.Context, s Source, desc v1.Descriptor) error {
	if !isManifest(desc.MediaType) {
		b, err := s.Blob(ctx, desc)
		if err != nil {
			return err
		}
		defer b.Close()
		raw, err := readBlob(b, desc)
		c.add(desc.MediaType, raw)
		return err
	}
	raw, err := s.Manifest(ctx, desc)
	if err != nil {
		return err
	}
	head, err := parseHead(raw, string(desc.MediaType))
	if err != nil {
		return err
	}
	if err := verify(raw, desc); err != nil {
		return err
	}
	children := append(slices.Clone(head.Manifests), head.Layers...)
	if head.Config != nil {
		children = append(children, *head.Config)
	}
	for _, child := range children {
		if err := c.fetch(ctx, s, child); err != nil {
			return err
		}
	}
	c.add(head.MediaType, raw)
	return nil
}

// same fails unless both have the same root and the same bytes.
func same(t *testing.T, got, want *content) {
	t.Helper()
	if got.root.Digest != want.root.Digest || got.root.Size != want.root.Size || got.root.MediaType != want.root.MediaType {
		t.Fatalf("root is %+v, want %+v", got.root, want.root)
	}
	for h, raw := range want.bytes {
		if !bytes.Equal(got.bytes[h], raw) {
			t.Errorf("%s is missing or differs", h)
		}
	}
}

// sameFiles fails unless both are images with the same config and the same
// layers, however compressed.
func sameFiles(t *testing.T, got, want *content) {
	t.Helper()
	g, w := got.layers(t), want.layers(t)
	if !slices.Equal(g, w) {
		t.Fatalf("config and layers are %q, want %q", g, w)
	}
}

// layers gives the digest of the config and of the uncompressed layers.
func (c *content) layers(t *testing.T) []string {
	t.Helper()
	head, err := parseHead(c.bytes[c.root.Digest], string(c.root.MediaType))
	if err != nil {
		t.Fatal(err)
	}
	list := []string{head.Config.Digest.String()}
	for _, l := range head.Layers {
		raw := c.bytes[l.Digest]
		if len(raw) > 2 && raw[0] == 0x1f && raw[1] == 0x8b {
			z, err := gzip.NewReader(bytes.NewReader(raw))
			if err == nil {
				raw, err = io.ReadAll(z)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		h, _ := sum(raw, v1.Hash{})
		list = append(list, h.String())
	}
	return list
}

func tarOf(files map[string]string) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(files[name])), Mode: 0o644}
		if target, ok := strings.CutPrefix(files[name], "-> "); ok {
			h.Typeflag, h.Size, h.Linkname = tar.TypeSymlink, 0, target
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if h.Size > 0 {
			io.WriteString(w, files[name])
		}
	}
	w.Close()
	return buf.Bytes()
}

func gzipOf(raw []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(raw)
	w.Close()
	return buf.Bytes()
}

// run runs a program that a Debian package brings.
func run(t *testing.T, apt string, args ...string) string {
	t.Helper()
	return runEnv(t, apt, nil, args...)
}

func runEnv(t *testing.T, apt string, env []string, args ...string) string {
	t.Helper()
	program := lookup(t, apt, args[0])
	cmd := exec.CommandContext(t.Context(), program, args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

func lookup(t *testing.T, apt, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v\nhint: apt-get install %s", err, apt)
	}
	return path
}

// start runs a server until the test ends and waits until url answers.
func start(t *testing.T, ready func() bool, cmd *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	})
	for range 1000 {
		if ready() {
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s: %v\n%s", cmd, err, &out)
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("%s: does not answer", cmd)
}

func answers(url string) func() bool {
	return func() bool {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}
}

// filesIn lists the files under dir, for tests of what is left behind.
func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			list = append(list, name)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return list
}

// staticLayer is a blob for go-containerregistry to upload.
type staticLayer struct {
	desc v1.Descriptor
	raw  []byte
}

func (l staticLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l staticLayer) DiffID() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l staticLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l staticLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l staticLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.raw)), nil
}
func (l staticLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }
