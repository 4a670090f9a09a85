// SPDX-License-Identifier: Apache-2.0

package transport

// skopeo, podman and umoci read what this package writes, and write what it
// reads.

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, "skopeo", append([]string{"skopeo", "--insecure-policy"}, args...)...)
}

// skopeoCopy copies everything, digests kept unless the place has none.
func skopeoCopy(t *testing.T, from, to string, flags ...string) {
	t.Helper()
	args := append([]string{"copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"}, flags...)
	skopeo(t, append(args, from, to)...)
}

func TestSkopeoReadsWhatWeWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	docker := dockerRegistry(t)
	for i, place := range []struct{ ours, theirs string }{
		{docker + "/app:1", "docker://" + docker + "/app:1"},
		{"oci:" + dir + "/layout:v1", "oci:" + dir + "/layout:v1"},
		{"oci:" + dir + "/one", "oci:" + dir + "/one"},
		{"oci-archive:" + dir + "/a.tar:v1", "oci-archive:" + dir + "/a.tar:v1"},
		{"oci-archive:" + dir + "/b.tar", "oci-archive:" + dir + "/b.tar"},
	} {
		for j, c := range []*content{testImage(5000, 100000), testIndex()} {
			c.write(t, place.ours, Options{})
			out := filepath.Join(dir, "out", string(rune('a'+2*i+j)))
			if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
				t.Fatal(err)
			}
			skopeoCopy(t, place.theirs, "oci:"+out+":x", "--all", "--preserve-digests")
			same(t, read(t, "oci:"+out+":x", Options{}), c)
		}
	}
	c := testImage(5000, 100000)
	for _, ref := range []string{"docker-archive:" + dir + "/d.tar", "docker-archive:" + dir + "/e.tar:app:1"} {
		c.write(t, ref, Options{})
		// Not to a layout: skopeo writes the config anew for that.
		out := "docker-archive:" + filepath.Join(t.TempDir(), "out.tar")
		skopeoCopy(t, ref, out)
		sameFiles(t, read(t, out, Options{}), c)
	}
}

func TestWeReadWhatSkopeoWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	docker := dockerRegistry(t)
	for _, c := range []*content{testImage(5000, 100000), testIndex()} {
		from := "oci:" + dir + "/from:" + c.root.Digest.Hex[:8]
		c.write(t, from, Options{})
		for _, place := range []struct{ ours, theirs string }{
			{docker + "/app:1", "docker://" + docker + "/app:1"},
			{"oci:" + dir + "/layout:v1", "oci:" + dir + "/layout:v1"},
			{"oci-archive:" + dir + "/a.tar:v1", "oci-archive:" + dir + "/a.tar:v1"},
			{"oci-archive:" + dir + "/a.tar", "oci-archive:" + dir + "/a.tar:v1"},
		} {
			os.Remove(dir + "/a.tar")
			skopeoCopy(t, from, place.theirs, "--all", "--preserve-digests")
			same(t, read(t, place.ours, Options{}), c)
		}
	}
	c := testImage(5000, 100000)
	c.write(t, "oci:"+dir+"/single", Options{})
	skopeoCopy(t, "oci:"+dir+"/single", "docker-archive:"+dir+"/d.tar:example.test/app:1")
	for _, ref := range []string{"docker-archive:" + dir + "/d.tar", "docker-archive:" + dir + "/d.tar:example.test/app:1"} {
		sameFiles(t, read(t, ref, Options{}), c)
	}
	run(t, "gzip", "gzip", dir+"/d.tar")
	sameFiles(t, read(t, "docker-archive:"+dir+"/d.tar.gz", Options{}), c)
}

func TestUmociSharesALayoutWithUs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "layout")
	c := testImage(5000, 100000)
	c.write(t, "oci:"+dir+":ours", Options{})
	umoci := func(args ...string) string { return run(t, "umoci", append([]string{"umoci"}, args...)...) }
	umoci("tag", "--image", dir+":ours", "theirs")
	same(t, read(t, "oci:"+dir+":theirs", Options{}), c)
	umoci("config", "--image", dir+":theirs", "--config.user", "nobody")
	same(t, read(t, "oci:"+dir+":ours", Options{}), c)
	changed := read(t, "oci:"+dir+":theirs", Options{})
	if changed.root.Digest == c.root.Digest {
		t.Fatal("umoci config changed nothing")
	}
	other := testImage(77)
	other.write(t, "oci:"+dir+":other", Options{})
	umoci("gc", "--layout", dir)
	if list := strings.Fields(umoci("list", "--layout", dir)); strings.Join(list, " ") != "other ours theirs" && len(list) != 3 {
		t.Errorf("umoci lists %q", list)
	}
	for tag, want := range map[string]*content{"ours": c, "theirs": changed, "other": other} {
		same(t, read(t, "oci:"+dir+":"+tag, Options{}), want)
	}
	umoci("unpack", "--rootless", "--image", dir+":ours", t.TempDir()+"/bundle")
}

// podman runs podman with storage of its own.
func podman(t *testing.T) func(args ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "podman") // t.TempDir is too long for its sockets
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"podman", "--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	p := func(more ...string) string {
		t.Helper()
		return run(t, "podman", append(args, more...)...)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return p
}

func TestPodmanLoadsAndSaves(t *testing.T) {
	t.Parallel()
	p := podman(t)
	dir := t.TempDir()
	c := testImage(5000, 100000)
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	for _, ref := range []string{
		"docker-archive:" + dir + "/d.tar:example.test/app:docker",
		"oci-archive:" + dir + "/o.tar:example.test/app:oci",
	} {
		c.write(t, ref, Options{})
		_, name, _ := strings.Cut(ref, ".tar:")
		p("load", "--quiet", "--input", strings.TrimSuffix(ref[strings.Index(ref, ":")+1:], ":"+name))
		if id := strings.TrimSpace(p("image", "inspect", "--format", "{{.Id}}", name)); id != head.Config.Digest.Hex {
			t.Errorf("%s: podman has the image %s, want %s", ref, id, head.Config.Digest.Hex)
		}
		for _, format := range []string{"docker-archive", "oci-archive"} {
			file := filepath.Join(dir, "saved.tar")
			os.Remove(file)
			p("save", "--quiet", "--format", format, "--output", file, name)
			sameFiles(t, read(t, format+":"+file, Options{}), c)
		}
	}
}

// TestSeveralImagesInOnePlace: the tag decides, and without one the error lists
// them.
func TestSeveralImagesInOnePlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := testImage(10), testImage(20)
	a.write(t, "oci:"+dir+"/l:a", Options{})
	b.write(t, "oci:"+dir+"/l:b", Options{})
	_, err := Open(t.Context(), "oci:"+dir+"/l", Options{})
	wantError(t, err, `"oci:`+dir+`/l:a", "oci:`+dir+`/l:b"`)
	_, err = Open(t.Context(), "oci:"+dir+"/l:c", Options{})
	wantError(t, err, "tag not found", `"oci:`+dir+`/l:a"`)

	p := podman(t)
	for tag, c := range map[string]*content{"a": a, "b": b} {
		ref := "docker-archive:" + dir + "/" + tag + ".tar:example.test/app:" + tag
		c.write(t, ref, Options{})
		p("load", "--quiet", "--input", dir+"/"+tag+".tar")
	}
	file := "docker-archive:" + dir + "/both.tar"
	p("save", "--quiet", "--multi-image-archive", "--output", dir+"/both.tar", "example.test/app:a", "example.test/app:b")
	sameFiles(t, read(t, file+":example.test/app:a", Options{}), a)
	sameFiles(t, read(t, file+":example.test/app:b", Options{}), b)
	_, err = Open(t.Context(), file, Options{})
	wantError(t, err, "2 images in it", "example.test/app:a", "example.test/app:b")
	_, err = Open(t.Context(), file+":other:1", Options{})
	wantError(t, err, "not found", "example.test/app:a")
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func indexOf(t *testing.T, dir string) v1.IndexManifest {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var x v1.IndexManifest
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Fatal(err)
	}
	return x
}
