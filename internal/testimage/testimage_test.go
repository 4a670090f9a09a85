// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// slow names the cases whose making takes a second or more.
var slow = map[string]bool{"header-bomb": true, "gzip-bomb": true, "zstd-bomb": true, "entries-bomb": true, "large-file": true}

func TestGoodCasesAreValidImages(t *testing.T) {
	// go-containerregistry's checks want gzip, unique paths, diffIDs for tar layers alone, and layers that are of
	// their manifest's kind and as their media type says.
	unfit := map[string]bool{
		"uncompressed": true, "zstd": true, "index": true, "duplicates": true,
		"families": true, "families-in-one": true, "mislabelled": true,
	}
	for _, c := range goodCases() {
		t.Run(c.Name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.Make().WriteLayout(dir, Tag); err != nil {
				t.Fatal(err)
			}
			copied, err := exec.Command("skopeo", "copy", "-q", "--all", "oci:"+dir+":"+Tag, "dir:"+t.TempDir()).CombinedOutput()
			if errors.Is(err, exec.ErrNotFound) {
				t.Fatal("skopeo is missing: apt-get install skopeo")
			}
			if err != nil && !strings.HasPrefix(c.Name, "docker") && c.Name != "families" { // its oci: has no Docker manifests
				t.Errorf("skopeo: %v: %s", err, copied)
			}
			if unfit[c.Name] {
				return
			}
			index, err := layout.ImageIndexFromPath(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(index); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGoodLayersAreReadByGNUTar holds the hand-made archives against a parser
// that was not written in Go.
func TestGoodLayersAreReadByGNUTar(t *testing.T) {
	for _, c := range goodCases() {
		for h, content := range c.Make().Blobs {
			r, err := gzip.NewReader(bytes.NewReader(content))
			if err != nil {
				continue // JSON, zstd
			}
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			list := exec.Command("tar", "-tf", "-")
			list.Stdin = bytes.NewReader(content)
			if out, err := list.CombinedOutput(); err != nil || bytes.Contains(out, []byte("tar: ")) && c.Name != "no-end-marker" && c.Name != "odd-names" && c.Name != "capabilities" {
				t.Errorf("%s: %s: %v\n%s", c.Name, h, err, out)
			}
		}
	}
}

func TestSparseFilesExpandAlikeInGNUTarAndBsdtar(t *testing.T) {
	want := make([]byte, 1<<20)
	for _, s := range spans {
		copy(want[s.Off:], s.Data)
	}
	for format, e := range map[string]Entry{"gnu": SparseGNU("s", 1<<20, spans...), "pax": SparsePAX("s", 1<<20, spans...)} {
		for _, tool := range []string{"tar", "bsdtar"} {
			dir := t.TempDir()
			cmd := exec.Command(tool, "-C", dir, "-xf", "-")
			cmd.Stdin = bytes.NewReader(Tar(e))
			out, err := cmd.CombinedOutput()
			if errors.Is(err, exec.ErrNotFound) {
				t.Fatalf("%s is missing: apt-get install libarchive-tools", tool)
			}
			if err != nil {
				t.Errorf("%s, %s: %v: %s", format, tool, err, out)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "s")); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: %d bytes, %v", format, tool, len(got), err)
			}
		}
		r := tar.NewReader(bytes.NewReader(Tar(e)))
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, archive/tar: %d bytes, %v", format, len(got), err)
		}
	}
}

// TestHostileCasesAreInvalid: where go-containerregistry's checks cover a
// case, they must find it wrong; the others are for the reader under test.
func TestHostileCasesAreInvalid(t *testing.T) {
	covered := strings.Fields(`negative-size bad-checksum truncated-tar pax-length pax-newline truncated-gzip
		gzip-crc gzip-trailing not-gzip wrong-diffid swapped-diffids size-small size-large
		missing-blob wrong-digest digest-syntax`)
	known := map[string]Case{}
	for _, c := range hostileCases() {
		known[c.Name] = c
	}
	for _, name := range covered {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := known[name].Make().WriteLayout(dir, Tag); err != nil {
				t.Fatal(err)
			}
			index, err := layout.ImageIndexFromPath(dir)
			if err == nil {
				err = validate.Index(index)
			}
			if err == nil {
				t.Error("valid")
			}
		})
	}
}

func TestAllCasesCanBeWritten(t *testing.T) {
	for _, c := range Cases() {
		if testing.Short() && slow[c.Name] {
			continue
		}
		dir := t.TempDir()
		if err := c.Make().WriteLayout(dir, Tag); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		os.RemoveAll(dir)
	}
}

func TestABundleIsTheSameEachTime(t *testing.T) {
	for _, c := range Cases() {
		if slow[c.Name] {
			continue
		}
		if a, b := c.Make().Root.Digest, c.Make().Root.Digest; a != b {
			t.Errorf("%s: %s, then %s", c.Name, a, b)
		}
	}
}

func TestPushedIndexIsReadBackFromARegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	ref := strings.TrimPrefix(server.URL, "http://") + "/a/b:t"
	var b *Bundle
	for _, c := range goodCases() {
		if c.Name == "index" {
			b = c.Make()
		}
	}
	if err := b.Push(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	tag, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := index.Digest(); err != nil || got != b.Root.Digest {
		t.Errorf("digest %v, %v; want %v", got, err, b.Root.Digest)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 4 || m.Manifests[2].Annotations["vnd.docker.reference.digest"] != m.Manifests[0].Digest.String() {
		t.Errorf("children: %+v", m.Manifests)
	}
	var platforms []string
	for _, d := range m.Manifests {
		platforms = append(platforms, (&v1.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture}).String())
	}
	if got := strings.Join(platforms, " "); got != "linux/amd64 linux/arm64 unknown/unknown unknown/unknown" {
		t.Error(got)
	}
}

func TestAnUpperDirectoryBecomesALayerWithWhiteouts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("root is needed: overlayfs")
	}
	tmp := t.TempDir()
	script := `mkdir lower upper work merged lower/dir
echo a >lower/gone; echo b >lower/dir/b; ln lower/gone lower/same
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=off,metacopy=off,index=off overlay merged
rm merged/gone; rm -r merged/dir; mkdir merged/dir; echo c >merged/dir/c; setcap cap_net_raw=ep merged/dir/c`
	cmd := exec.Command("unshare", "--mount", "sh", "-euc", script)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file := filepath.Join(tmp, "layer.tar")
	if err := pack(t.Context(), filepath.Join(tmp, "upper"), file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	capability := false
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name)
		for k := range h.PAXRecords {
			if strings.Contains(k, "trusted.overlay") {
				t.Errorf("%s: %s", h.Name, k)
			}
			capability = capability || h.Name == "./dir/c" && k == "SCHILY.xattr.security.capability"
		}
	}
	if list := strings.Join(got, " "); list != "./ ./.wh.gone ./dir/ ./dir/.wh..wh..opq ./dir/c" {
		t.Error(list)
	}
	if !capability {
		t.Error("the capability of dir/c is lost")
	}
}

func TestMkimageKnowsWhatItCannotMake(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := Main([]string{"nonsense"}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "image nonsense: unknown") {
		t.Errorf("exit %d: %s", code, &stderr)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if code := Main([]string{"typical", dir}, &stdout, &stderr); code != 0 || stdout.String() != dir+"\n" {
		t.Errorf("exit %d: %s", code, &stdout)
	}
}
