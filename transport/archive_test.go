// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// legacy makes the files of an archive as docker save wrote them before 25, with
// a directory for each layer.
func legacy(layers ...[]byte) map[string]string {
	files := map[string]string{"repositories": `{"app":{"1":"x"}}`}
	image := savedImage{RepoTags: []string{"app:1"}}
	var diffIDs []v1.Hash
	for i, l := range layers {
		h, _ := sum(l, v1.Hash{})
		diffIDs = append(diffIDs, h)
		name := fmt.Sprintf("%064d/layer.tar", i)
		files[name] = string(l)
		image.Layers = append(image.Layers, name)
	}
	config, _ := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}})
	h, _ := sum(config, v1.Hash{})
	image.Config = h.Hex + ".json"
	files[image.Config] = string(config)
	list, _ := json.Marshal([]savedImage{image})
	files["manifest.json"] = string(list)
	return files
}

func archive(t *testing.T, raw []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "saved.tar")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return "docker-archive:" + name
}

func TestLegacyDockerArchives(t *testing.T) {
	a, b := tarOf(map[string]string{"a": "a"}), tarOf(map[string]string{"b": strings.Repeat("b", 10_000)})
	files := legacy(a, b, a)
	want := read(t, archive(t, tarOf(files)), Options{})
	if want.root.MediaType != types.DockerManifestSchema2 {
		t.Errorf("manifest is %s", want.root.MediaType)
	}
	m, err := v1.ParseManifest(bytes.NewReader(want.bytes[want.root.Digest]))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 3 || m.Layers[0].Digest != m.Layers[2].Digest || m.Layers[0].MediaType != types.DockerUncompressedLayer {
		t.Errorf("layers are %+v", m.Layers)
	}
	if !bytes.Equal(want.bytes[m.Layers[1].Digest], b) {
		t.Error("the second layer is not what was saved")
	}

	linked := maps.Clone(files)
	linked[fmt.Sprintf("%064d/layer.tar", 2)] = fmt.Sprintf("-> ../%064d/layer.tar", 0)
	same(t, read(t, archive(t, tarOf(linked)), Options{}), want)

	dotted := map[string]string{}
	for name, s := range files {
		dotted["./"+name] = s
	}
	same(t, read(t, archive(t, tarOf(dotted)), Options{}), want)
	same(t, read(t, archive(t, gzipOf(tarOf(files))), Options{}), want)

	// A pull to any other place and back keeps the manifest.
	dir := t.TempDir()
	want.write(t, "oci:"+dir+"/l", Options{})
	same(t, read(t, "oci:"+dir+"/l", Options{}), want)
	want.write(t, "docker-archive:"+dir+"/d.tar:app:1", Options{})
	same(t, read(t, "docker-archive:"+dir+"/d.tar:docker.io/library/app:1", Options{}), want)
}

// TestArchivesOfGgcr: crane and ko write gzip layers into the archive.
func TestArchivesOfGgcr(t *testing.T) {
	dir := t.TempDir()
	c := testImage(5000, 10_000)
	c.write(t, "oci:"+dir+"/l", Options{})
	x, err := ggcrlayout.ImageIndexFromPath(dir + "/l")
	if err != nil {
		t.Fatal(err)
	}
	img, err := x.Image(c.root.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil { // what crane validate runs
		t.Error(err)
	}
	tag, err := name.NewTag("example.test/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(dir+"/d.tar", tag, img); err != nil {
		t.Fatal(err)
	}
	got := read(t, "docker-archive:"+dir+"/d.tar:example.test/app:1", Options{})
	sameFiles(t, got, c)
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	for _, l := range head.Layers {
		if got.bytes[l.Digest] == nil {
			t.Errorf("the compressed layer %s has another digest", l.Digest)
		}
	}
	c.write(t, "docker-archive:"+dir+"/e.tar:example.test/app:1", Options{})
	theirs, err := tarball.ImageFromPath(dir+"/e.tar", &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(theirs); err != nil {
		t.Error(err)
	}
}

func TestZstdLayerInAnArchive(t *testing.T) {
	files := legacy([]byte("\x28\xb5\x2f\xfd and so on"), gzipOf(nil), tarOf(nil))
	c := read(t, archive(t, tarOf(files)), Options{})
	m, _ := v1.ParseManifest(bytes.NewReader(c.bytes[c.root.Digest]))
	got := []types.MediaType{m.MediaType, m.Config.MediaType, m.Layers[0].MediaType, m.Layers[1].MediaType, m.Layers[2].MediaType}
	want := []types.MediaType{types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayerZStd, types.OCILayer, types.OCIUncompressedLayer}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("types are %q, want %q", got, want)
	}
}

// Archives as writers in use leave them, of one image.
func TestArchivesOfManyWriters(t *testing.T) {
	layer := tarOf(map[string]string{"etc/motd": "hello"})
	files := legacy(layer)
	empty := maps.Clone(files)
	empty["oci-layout"], empty["index.json"] = `{"imageLayoutVersion":"1.0.0"}`, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":null}`
	plain := tarOf(files)
	for name, raw := range map[string][]byte{
		"members twice, with the same bytes":     append(plain[:len(plain)-1024:len(plain)-1024], plain...),
		"Docker 25, of an image that has no tag": tarOf(empty),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), archive(t, raw), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			m, err := s.Manifest(t.Context(), s.Root())
			if err != nil {
				t.Fatal(err)
			}
			h, _ := sum(layer, v1.Hash{})
			if !strings.Contains(string(m), h.String()) {
				t.Errorf("the manifest %s does not name the layer %s", m, h)
			}
		})
	}
}

func TestHostileArchives(t *testing.T) {
	good := legacy(tarOf(map[string]string{"a": "a"}))
	with := func(name, s string) []byte {
		files := maps.Clone(good)
		if s == "" {
			delete(files, name)
		} else {
			files[name] = s
		}
		return tarOf(files)
	}
	layer := fmt.Sprintf("%064d/layer.tar", 0)
	member := func(h *tar.Header, size int) []byte {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		h.Size = int64(size)
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, size))
		w.Close()
		return buf.Bytes()
	}
	var list []savedImage
	if err := json.Unmarshal([]byte(good["manifest.json"]), &list); err != nil {
		t.Fatal(err)
	}
	config := list[0].Config
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":                     {nil, "unexpected EOF"},
		"no tar":                    {[]byte(strings.Repeat("no tar ", 200)), "tar: "},
		"zstd":                      {[]byte("\x28\xb5\x2f\xfd......"), "hint: unzstd"},
		"xz":                        {[]byte("\xfd7zXZ\x00...."), "uncompress it first"},
		"broken gzip":               {gzipOf(tarOf(good))[:200], "gzip: "},
		"cut in a layer":            {tarOf(good)[:1000], "unexpected EOF"},
		"no manifest.json":          {with("manifest.json", ""), "an archive of Docker before 1.10"},
		"another tar":               {tarOf(map[string]string{"a": "b"}), "not an archive of docker save"},
		"no images":                 {with("manifest.json", "[]"), "image not found"},
		"manifest.json is no JSON":  {with("manifest.json", "{"), "manifest.json: unexpected end"},
		"huge manifest.json":        {with("manifest.json", strings.Repeat(" ", 5<<20)), "more than the limit of 4194304"},
		"missing layer":             {with(layer, ""), "layer 1: "},
		"missing config":            {with(config, ""), "config: "},
		"other number of layers":    {with(config, `{"rootfs":{"diff_ids":[]}}`), "1 layers, the config says 0"},
		"digest that is a path":     {with(config, `{"rootfs":{"diff_ids":["sha256:../../x"]}}`), "config: "},
		"other layer than said":     {with(layer, string(tarOf(map[string]string{"a": "b"}))), "the bytes have the digest"},
		"layer that is a loop":      {with(layer, "-> layer.tar"), "file does not exist"},
		"layer that leads out":      {with(layer, "-> ../../../../../etc/passwd"), "file does not exist"},
		"member twice":              {append(tarOf(good)[:len(tarOf(good))-1024], tarOf(map[string]string{layer: "other"})...), "is there twice, and not the same"},
		"device":                    {member(&tar.Header{Typeflag: tar.TypeChar, Name: "manifest.json"}, 0), "member of type"},
		"sparse file":               {sparseTar(), "sparse"},
		"two manifests in one name": {append(member(&tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json"}, 512)[:1024], member(&tar.Header{Typeflag: tar.TypeReg, Name: "./manifest.json"}, 513)...), "is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			ref := archive(t, test.raw)
			s, err := Open(t.Context(), ref, Options{})
			if err == nil {
				defer s.Close()
				err = newContent().fetch(t.Context(), s, s.Root())
			}
			wantError(t, err, test.want)
		})
	}
}

// sparseTar has a member in GNU's PAX format 1.0 for sparse files.
func sparseTar() []byte {
	records := ""
	for _, kv := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=manifest.json", "GNU.sparse.realsize=512"} {
		records += fmt.Sprintf("%d %s\n", len(kv)+4, kv)
	}
	var buf bytes.Buffer
	head := func(flag byte, name string, size int) {
		var one bytes.Buffer
		w := tar.NewWriter(&one)
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(size), Mode: 0o644, Format: tar.FormatUSTAR})
		h := one.Bytes()[:512]
		h[156] = flag
		copy(h[148:156], "        ")
		total := 0
		for _, b := range h {
			total += int(b)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", total))
		buf.Write(h)
	}
	block := func(s string) { buf.WriteString(s + strings.Repeat("\x00", 512-len(s))) }
	head('x', "pax", len(records))
	block(records)
	head('0', "manifest.json", 1024)
	block("1\n0\n512\n")
	block("[]")
	buf.Write(make([]byte, 1024))
	return buf.Bytes()
}

// TestArchiveThatUnpacksWithoutEnd: gzip makes a thousand bytes of one.
func TestArchiveThatUnpacksWithoutEnd(t *testing.T) {
	o := Options{TempDir: t.TempDir(), MaxBlob: 1 << 20}
	_, err := Open(t.Context(), archive(t, gzipOf(make([]byte, 16<<20))), o)
	wantError(t, err, "gzip: more than the limit of 1048576 bytes")
	noLeftovers(t, o)
}

func TestBlobBeyondTheLimit(t *testing.T) {
	dir := t.TempDir()
	c := testImage(5000)
	c.write(t, "oci:"+dir, Options{})
	s, err := Open(t.Context(), "oci:"+dir, Options{MaxBlob: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	_, err = s.Blob(t.Context(), head.Layers[0])
	wantError(t, err, "more than the limit of 4096")
	_, err = Open(t.Context(), "oci:"+dir, Options{MaxManifest: 100})
	wantError(t, err, "more than the limit of 100")
}

// TestCommitWithoutContent: what was not put cannot be committed.
func TestCommitWithoutContent(t *testing.T) {
	dir := t.TempDir()
	c := testImage(100)
	for _, ref := range []string{"oci:" + dir + "/l", "oci-archive:" + dir + "/a.tar", "docker-archive:" + dir + "/d.tar", memoryRegistry(t) + "/app:1"} {
		d, err := Create(t.Context(), ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Commit(t.Context(), c.root); err == nil {
			t.Errorf("%s: committed nothing", ref)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	d, err := Create(t.Context(), "docker-archive:"+dir+"/d.tar", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.PutManifest(t.Context(), c.root, c.bytes[c.root.Digest]); err != nil {
		t.Fatal(err)
	}
	_, err = d.Commit(t.Context(), c.root)
	wantError(t, err, "was not put")
	if left := filesIn(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestImage: the form for other libraries holds what validate.Image holds images
// to, and ends with an error on other bytes.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	c := testImage(1000, 20_000)
	c.write(t, "oci:"+dir, Options{})
	s, err := Open(t.Context(), "oci:"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img, err := Image(t.Context(), s, s.Root())
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	for _, desc := range append(head.Layers, *head.Config) {
		name := filepath.Join(dir, blobPath(desc.Digest))
		if err := os.WriteFile(name, make([]byte, desc.Size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if img, err = Image(t.Context(), s, s.Root()); err != nil {
		t.Fatal(err)
	}
	_, err = img.RawConfigFile()
	wantError(t, err, "config "+head.Config.Digest.String()+": the bytes have the digest")
	for _, desc := range head.Layers {
		l, err := img.LayerByDigest(desc.Digest)
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r)
		wantError(t, err, "layer "+desc.Digest.String()+": the bytes have the digest")
		r.Close()
	}
}

// TestArchiveInterrupted: a run that ends early leaves the archive that was there.
func TestArchiveInterrupted(t *testing.T) {
	dir := t.TempDir()
	for _, ref := range []string{"oci-archive:" + dir + "/a.tar", "docker-archive:" + dir + "/b.tar"} {
		before := testImage(100)
		before.write(t, ref, Options{})
		c := testImage(100_000)
		d, err := Create(t.Context(), ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.put(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.Commit(ctx, c.root); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		same(t, read(t, ref, Options{}), before)
	}
	if left := filesIn(t, dir); len(left) != 2 {
		t.Errorf("left behind: %q", left)
	}
}

func FuzzDockerArchive(f *testing.F) {
	f.Add(tarOf(legacy(tarOf(nil), gzipOf(tarOf(nil)))))
	f.Add(gzipOf(tarOf(legacy(tarOf(map[string]string{"a": "b"})))))
	c := testImage(10)
	files := map[string]string{"oci-layout": layoutFile}
	for h, raw := range c.bytes {
		files[blobPath(h)] = string(raw)
	}
	x := newIndex()
	e, _ := newEntry(c.root)
	x.entries = append(x.entries, e)
	raw, _ := x.marshal()
	files["index.json"] = string(raw)
	f.Add(tarOf(files))
	f.Add(sparseTar())
	f.Fuzz(func(t *testing.T, raw []byte) {
		name := filepath.Join(t.TempDir(), "f.tar")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, place := range []string{"docker-archive:", "oci-archive:"} {
			s, err := Open(t.Context(), place+name, Options{MaxBlob: 1 << 20, MaxManifest: 1 << 16})
			if err != nil {
				continue
			}
			raw, err := s.Manifest(t.Context(), s.Root())
			if err != nil {
				t.Fatalf("the root cannot be read: %v", err)
			}
			if err := verify(raw, s.Root()); err != nil {
				t.Fatal(err)
			}
			head, err := parseHead(raw, string(s.Root().MediaType))
			if err != nil {
				t.Fatal(err)
			}
			for _, desc := range head.Layers {
				if b, err := s.Blob(t.Context(), desc); err == nil {
					if n, err := io.Copy(io.Discard, io.NewSectionReader(b, 0, b.Size())); n != desc.Size || err != nil {
						t.Fatalf("blob of %d bytes gave %d: %v", desc.Size, n, err)
					}
					b.Close()
				}
			}
			s.Close()
		}
	})
}
