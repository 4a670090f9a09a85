// SPDX-License-Identifier: Apache-2.0

package transport

// The Engine API, served by Docker and by podman.

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// engine starts a daemon that DOCKER_HOST names from then on.
func engine(t *testing.T, apt, program string, args func(dir, socket string) []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	ready := func() bool {
		c, err := dial(context.Background())
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	start(t, ready, exec.Command(lookup(t, apt, program), args(dir, socket)...))
}

// dockerd needs root, and no network.
func dockerd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root\nhint: sudo -E go test")
	}
	engine(t, "docker.io", "dockerd", func(dir, socket string) []string {
		return []string{"--host", "unix://" + socket, "--data-root", dir + "/data", "--exec-root", dir + "/exec", "--pidfile", dir + "/pid",
			"--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip6tables=false"}
	})
}

func podmanService(t *testing.T) {
	engine(t, "podman", "podman", func(dir, socket string) []string {
		return []string{"--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
			"system", "service", "--time", "0", "unix://" + socket}
	})
}

func TestDaemons(t *testing.T) {
	for name, serve := range map[string]func(*testing.T){"docker": dockerd, "podman": podmanService} {
		t.Run(name, func(t *testing.T) {
			serve(t)
			c := testImage(5000, 100000)
			head, err := parseHead(c.bytes[c.root.Digest], "")
			if err != nil {
				t.Fatal(err)
			}
			temp := t.TempDir()
			o := Options{TempDir: temp}
			for _, ref := range []string{"docker-daemon:app:1", "docker-daemon:registry.example/app"} {
				if name, want := c.write(t, ref, o), "docker-daemon:"+head.Config.Digest.String(); name != want {
					t.Errorf("canonical name is %s, want %s", name, want)
				}
				sameFiles(t, read(t, ref, o), c)
				sameFiles(t, read(t, "docker-daemon:"+head.Config.Digest.String(), o), c)
			}
			other := testImage(5)
			other.write(t, "docker-daemon:app:1", o)
			sameFiles(t, read(t, "docker-daemon:app:1", o), other)
			_, err = Open(t.Context(), "docker-daemon:nothing:1", o)
			wantError(t, err, "docker-daemon:nothing:1: image not found")
			d, err := Create(t.Context(), "docker-daemon:app:1", o)
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, testIndex().put(t.Context(), d), "docker save has no form for an index")
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if left := filesIn(t, temp); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestSkopeoAndTheDaemon: what skopeo loads we read, and what we load it reads.
func TestSkopeoAndTheDaemon(t *testing.T) {
	dockerd(t)
	dir := t.TempDir()
	host := "--src-daemon-host=" + os.Getenv("DOCKER_HOST")
	c := testImage(5000, 100000)
	c.write(t, "docker-daemon:app:1", Options{})
	skopeoCopy(t, "docker-daemon:app:1", "docker-archive:"+dir+"/out.tar", host)
	sameFiles(t, read(t, "docker-archive:"+dir+"/out.tar", Options{}), c)
	skopeoCopy(t, "docker-archive:"+dir+"/out.tar", "docker-daemon:app:2", "--dest-daemon-host="+os.Getenv("DOCKER_HOST"))
	sameFiles(t, read(t, "docker-daemon:app:2", Options{}), c)
}

func TestDaemonThatIsNotThere(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
	_, err := Open(t.Context(), "docker-daemon:app:1", Options{})
	wantError(t, err, "docker-daemon:app:1: ", "hint: DOCKER_HOST")
	_, err = Create(t.Context(), "docker-daemon:app:1", Options{})
	wantError(t, err, "docker-daemon:app:1: ", "hint: DOCKER_HOST")
	_, err = Create(t.Context(), "docker-daemon:sha256:"+strings.Repeat("0", 64), Options{})
	wantError(t, err, "a destination has a tag")
}

// TestDaemonThatFailsLate: the daemon answers 200 and reports the error in the
// stream.
func TestDaemonThatFailsLate(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/images/load") {
			w.Write([]byte(`{"stream":"Loading"}` + "\n" + `{"errorDetail":{"message":"no space left on device"},"error":"no space left on device"}`))
		}
	}))
	defer s.Close()
	t.Setenv("DOCKER_HOST", "tcp://"+strings.TrimPrefix(s.URL, "http://"))
	c := testImage(5)
	d, err := Create(t.Context(), "docker-daemon:app:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := c.put(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	_, err = d.Commit(t.Context(), c.root)
	wantError(t, err, "docker-daemon:app:1: load: no space left on device")
}

// TestSavedByContainerd reads the archive of a Docker that keeps images in
// containerd's store: an OCI layout of an index, with the platforms that are
// there, and manifest.json for one of them.
func TestSavedByContainerd(t *testing.T) {
	c := testIndex()
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	first, _ := parseHead(c.bytes[head.Manifests[0].Digest], "")
	save := func(image savedImage) string {
		files := map[string]string{"oci-layout": layoutFile}
		for h, raw := range c.bytes {
			files[blobPath(h)] = string(raw)
		}
		root := v1.Descriptor{MediaType: c.root.MediaType, Digest: c.root.Digest, Size: c.root.Size}
		root.Annotations = map[string]string{containerName: "docker.io/library/app:1", refName: "1"}
		index := newContent()
		index.addJSON("", v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{root}})
		files["index.json"] = string(index.bytes[index.order[0].Digest])
		saved := newContent()
		saved.addJSON("", []savedImage{image})
		files["manifest.json"] = string(saved.bytes[saved.order[0].Digest])
		name := filepath.Join(t.TempDir(), "saved.tar")
		if err := os.WriteFile(name, tarOf(files), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	image := savedImage{Config: blobPath(first.Config.Digest), RepoTags: []string{"app:1"}}
	for _, l := range first.Layers {
		image.Layers = append(image.Layers, blobPath(l.Digest))
	}
	name := save(image)
	same(t, read(t, "docker-archive:"+name, Options{}), c)
	same(t, read(t, "docker-archive:"+name+":app:1", Options{}), c)
	_, err := Open(t.Context(), "docker-archive:"+name+":app:2", Options{})
	wantError(t, err, "not found", "docker-archive:"+name+":app:1")

	image.Layers = image.Layers[:1]
	_, err = Open(t.Context(), "docker-archive:"+save(image), Options{})
	wantError(t, err, "name different images")
}

func TestLoadError(t *testing.T) {
	for in, want := range map[string]string{
		`{"stream":"Loaded image: app:1\n"}`: "",
		``:                                   "",
		`{"error":"bad"}`:                    "bad",
		`<html>`:                             "invalid character",
	} {
		err := loadError(bytes.NewReader([]byte(in)))
		if want == "" && err != nil {
			t.Errorf("%s: %v", in, err)
		} else if want != "" {
			wantError(t, err, want)
		}
	}
}
