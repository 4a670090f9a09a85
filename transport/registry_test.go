// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// impatient is for registries that fail on purpose.
func impatient(t *testing.T) Options {
	return Options{
		TempDir:  t.TempDir(),
		patience: patience{tries: 4, pause: time.Millisecond, idle: 500 * time.Millisecond, total: 20 * time.Second},
	}
}

// faulty is a registry in front of which somebody meddles. It counts requests.
type faulty struct {
	*httptest.Server
	host string

	mu    sync.Mutex
	count map[string]int // by "METHOD kind", and those with a "Range"
}

// kind names what a request is about.
func kind(r *http.Request) string {
	for _, k := range []string{"/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/"} {
		if strings.Contains(r.URL.Path, k) {
			return r.Method + " " + strings.Trim(k, "/")
		}
	}
	return r.Method + " " + r.URL.Path
}

func (f *faulty) seen(kind string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[kind]
}

// meddle serves next with go-containerregistry's registry behind it; n is how
// often a request of this kind came, from 1.
func meddle(t *testing.T, next func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler), opts ...ggcr.Option) *faulty {
	registry := ggcr.New(append(opts, quiet)...)
	f := &faulty{count: map[string]int{}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		if r.Header.Get("Range") != "" {
			f.count["Range"]++
		}
		f.count[kind(r)]++
		n := f.count[kind(r)]
		f.mu.Unlock()
		next(w, r, n, registry)
	}))
	f.host = strings.TrimPrefix(f.URL, "http://")
	t.Cleanup(f.Close)
	return f
}

func noLeftovers(t *testing.T, o Options) {
	t.Helper()
	if left := filesIn(t, o.TempDir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestEveryRequestFailsAtFirst(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(w http.ResponseWriter, n int) bool{
		"503 once": func(w http.ResponseWriter, n int) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		},
		"429 and when to come again": func(w http.ResponseWriter, n int) bool {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		},
		"reset": func(w http.ResponseWriter, n int) bool {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]bool{}
			var mu sync.Mutex
			f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
				key := r.Method + r.URL.Path
				if strings.Contains(key, "/uploads/") {
					key = kind(r) // each upload has its own path
				}
				mu.Lock()
				first := !seen[key]
				seen[key] = true
				mu.Unlock()
				// A body that was read is what makes uploads hard to repeat.
				if first && r.URL.Path != "/v2/" {
					io.Copy(io.Discard, r.Body)
					fail(w, n)
					return
				}
				registry.ServeHTTP(w, r)
			})
			o := impatient(t)
			o.patience.tries = 10
			c := testImage(5000, 500_000)
			c.write(t, f.host+"/app:1", o)
			same(t, read(t, f.host+"/app:1", o), c)
			noLeftovers(t, o)
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
		if r.URL.Path == "/v2/" {
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	})
	o := impatient(t)
	_, err := Open(t.Context(), f.host+"/app:1", o)
	wantError(t, err, f.host+"/app:1: ", "502", "tried 4 times")
	if n := f.seen("GET manifests"); n != o.patience.tries {
		t.Errorf("asked %d times, want %d", n, o.patience.tries)
	}
	o.patience.total, o.patience.tries = 100*time.Millisecond, 1<<20
	_, err = Open(t.Context(), f.host+"/app:1", o)
	wantError(t, err, "deadline exceeded after 100ms", "502")
}

func TestRegistryThatWantsUsToWaitLong(t *testing.T) {
	f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
		if r.URL.Path != "/v2/" {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	_, err := Open(t.Context(), f.host+"/app:1", impatient(t))
	wantError(t, err, "429", "come again in 1h0m0s")
	if n := f.seen("GET manifests"); n != 1 {
		t.Errorf("asked %d times, want 1", n)
	}
}

// TestBusyRegistryOfPlainHTTP: https and http are both tried at first. That the registry asks to come again is not
// hidden by what https says.
func TestBusyRegistryOfPlainHTTP(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		for _, times := range []int{1, 1 << 30} {
			asked := 0
			f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
				if r.URL.Path == "/v2/" {
					if asked++; asked <= times {
						w.WriteHeader(status)
						return
					}
				}
				registry.ServeHTTP(w, r)
			})
			c := testImage(100)
			d, err := Create(t.Context(), f.host+"/app:1", impatient(t))
			if err != nil {
				t.Fatal(err)
			}
			err = c.put(t.Context(), d)
			d.Close()
			if times == 1 {
				if err != nil {
					t.Errorf("%d: %v", status, err)
				}
				continue
			}
			wantError(t, err, fmt.Sprint(status), "tried 4 times")
			if !Temporary(err) {
				t.Errorf("%v is not taken for temporary", err)
			}
		}
	}
}

// TestTagsThatThereAre: a reference that leads to nothing is answered with the tags of the repository.
func TestTagsThatThereAre(t *testing.T) {
	f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) { registry.ServeHTTP(w, r) })
	c, _ := attested() // its list of referrers is under a tag
	for n := range 12 {
		c.write(t, fmt.Sprintf("%s/app:1.%02d", f.host, n), impatient(t))
	}
	_, err := Open(t.Context(), f.host+"/app:2", impatient(t))
	wantError(t, err, f.host+"/app:2: not found: ", "\nhint: the repository has the tags 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 1.09, 1.10, 1.11 and 2 more")
	if strings.Contains(err.Error(), "sha256-") {
		t.Errorf("names the list of referrers: %v", err)
	}
	_, err = Open(t.Context(), f.host+"/other:1", impatient(t))
	wantError(t, err, "\nhint: the registry has no repository other")
}

// TestMirror: a registry that takes nothing says so in a word that helps nobody.
func TestMirror(t *testing.T) {
	f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		registry.ServeHTTP(w, r)
	})
	d, err := Create(t.Context(), f.host+"/app:1", impatient(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	wantError(t, testImage(100).put(t.Context(), d), "405", "hint: a registry that is a mirror")
}

// brokenDownload serves a blob as serve says the first time, and as it is later.
func brokenDownload(t *testing.T, serve func(w http.ResponseWriter, r *http.Request, raw []byte)) (*faulty, *content, Options) {
	c := testImage(500_000)
	f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
		if kind(r) != "GET blobs" {
			registry.ServeHTTP(w, r)
			return
		}
		h, _ := v1.NewHash(filepath.Base(r.URL.Path))
		if n == 1 {
			serve(w, r, c.bytes[h])
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(c.bytes[h]))
	})
	o := impatient(t)
	c.write(t, f.host+"/app:1", o)
	return f, c, o
}

func TestBrokenDownloads(t *testing.T) {
	t.Parallel()
	hijack := func(w http.ResponseWriter, raw []byte, send int) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(raw))
		conn.Write(raw[:send])
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request, raw []byte){
		"reset in the middle": func(w http.ResponseWriter, r *http.Request, raw []byte) { hijack(w, raw, len(raw)/2) },
		"reset at once":       func(w http.ResponseWriter, r *http.Request, raw []byte) { hijack(w, raw, 0) },
		"stall in the middle": func(w http.ResponseWriter, r *http.Request, raw []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
			w.Write(raw[:len(raw)/2])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"stall before the first byte": func(w http.ResponseWriter, r *http.Request, raw []byte) { <-r.Context().Done() },
		"short, and no length said": func(w http.ResponseWriter, r *http.Request, raw []byte) {
			w.Write(raw[:len(raw)/2])
			w.(http.Flusher).Flush()
		},
		"500": func(w http.ResponseWriter, r *http.Request, raw []byte) { w.WriteHeader(500) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c, o := brokenDownload(t, serve)
			same(t, read(t, f.host+"/app:1", o), c)
			if n := f.seen("GET blobs"); n != 3 {
				t.Errorf("%d blob requests, want one more than blobs", n)
			}
			if n, want := f.seen("Range"), strings.Count(name, "middle")+strings.Count(name, "short"); n != want {
				t.Errorf("%d downloads went on where they broke, want %d", n, want)
			}
			noLeftovers(t, o)
		})
	}
}

// TestRottenHalf: the first half was wrong, which shows only at the end.
func TestRottenHalf(t *testing.T) {
	f, c, o := brokenDownload(t, func(w http.ResponseWriter, r *http.Request, raw []byte) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(raw))
		conn.Write(make([]byte, len(raw)/2))
		conn.Close()
	})
	same(t, read(t, f.host+"/app:1", o), c)
}

func TestLyingRegistries(t *testing.T) {
	c := testImage(100_000)
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	layer := head.Layers[0]
	for name, test := range map[string]struct {
		lie  func(w http.ResponseWriter, r *http.Request) bool
		want string
	}{
		"another blob of the same size": {func(w http.ResponseWriter, r *http.Request) bool {
			if kind(r) == "GET blobs" {
				w.Write(make([]byte, layer.Size))
			}
			return kind(r) == "GET blobs"
		}, "blob " + layer.Digest.String() + ": the bytes have the digest sha256:"},
		"a longer blob": {func(w http.ResponseWriter, r *http.Request) bool {
			if kind(r) == "GET blobs" {
				w.Write(make([]byte, layer.Size+1))
			}
			return kind(r) == "GET blobs"
		}, "blob " + layer.Digest.String()},
		"an endless blob": {func(w http.ResponseWriter, r *http.Request) bool {
			for kind(r) == "GET blobs" {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return true
				}
			}
			return false
		}, "more than the"},
		"another manifest": {func(w http.ResponseWriter, r *http.Request) bool {
			if kind(r) != "GET manifests" {
				return false
			}
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			w.Write(c.bytes[c.root.Digest])
			return true
		}, "manifest sha256:0000"},
		"a manifest that is offered as an index": {func(w http.ResponseWriter, r *http.Request) bool {
			if kind(r) != "GET manifests" {
				return false
			}
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			w.Write(c.bytes[c.root.Digest])
			return true
		}, "is offered as"},
		"an endless manifest": {func(w http.ResponseWriter, r *http.Request) bool {
			for kind(r) == "GET manifests" {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return true
				}
			}
			return false
		}, "more than the limit of 4194304 bytes"},
		"a digest that is a path": {func(w http.ResponseWriter, r *http.Request) bool {
			if kind(r) != "GET manifests" {
				return false
			}
			w.Write([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:../../../../etc/passwd","size":1},"layers":[]}`))
			return true
		}, "non-hex character"},
		"a schema 1 manifest": {func(w http.ResponseWriter, r *http.Request) bool {
			if kind(r) != "GET manifests" {
				return false
			}
			w.Write([]byte(`{"schemaVersion":1,"fsLayers":[]}`))
			return true
		}, "schema 1"},
	} {
		t.Run(name, func(t *testing.T) {
			lying := false
			f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
				if !lying || !test.lie(w, r) {
					registry.ServeHTTP(w, r)
				}
			})
			o := impatient(t)
			c.write(t, f.host+"/app:1", o)
			lying = true
			s, err := Open(t.Context(), f.host+"/app:1", o)
			if err == nil {
				defer s.Close()
				_, err = s.Blob(t.Context(), layer)
				if n := f.seen("GET blobs"); n != 1 {
					t.Errorf("asked %d times for what is wrong, want 1", n)
				}
			}
			wantError(t, err, f.host+"/app:1: ", test.want)
			noLeftovers(t, o)
		})
	}
}

func TestUploadsThatFail(t *testing.T) {
	t.Parallel()
	blob := []byte(strings.Repeat("blob", 100_000))
	c := newContent()
	desc := c.add(types.OCILayer, blob)
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }
	put := func(t *testing.T, f *faulty, open func() (io.ReadCloser, error)) error {
		t.Helper()
		d, err := Create(t.Context(), f.host+"/app:1", impatient(t))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		return d.PutBlob(t.Context(), desc, open)
	}
	pass := func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) { registry.ServeHTTP(w, r) }

	t.Run("other bytes than said", func(t *testing.T) {
		f := meddle(t, pass)
		err := put(t, f, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(make([]byte, len(blob)))), nil })
		wantError(t, err, "blob "+desc.Digest.String(), "the bytes have the digest")
		if f.seen("PUT blobs/uploads") > 0 {
			t.Error("the registry was told the digest all the same")
		}
	})
	t.Run("open fails", func(t *testing.T) {
		err := put(t, meddle(t, pass), func() (io.ReadCloser, error) { return nil, os.ErrPermission })
		if !errors.Is(err, os.ErrPermission) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("the registry stops reading", func(t *testing.T) {
		big := make([]byte, 16<<20) // more than sockets take unread
		c := newContent()
		desc := c.add(types.OCILayer, big)
		again := make(chan bool)
		f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
			if r.Method == http.MethodPatch && n == 1 {
				io.ReadFull(r.Body, make([]byte, 1000))
				<-again
				return
			}
			if r.Method == http.MethodPatch && n == 2 {
				close(again)
			}
			registry.ServeHTTP(w, r)
		})
		o := impatient(t)
		d, err := Create(t.Context(), f.host+"/app:1", o)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.PutBlob(t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(big)), nil }); err != nil {
			t.Fatal(err)
		}
		if n := f.seen("PATCH blobs/uploads"); n != 2 {
			t.Errorf("%d uploads, want 2", n)
		}
	})
	t.Run("the registry stores something else", func(t *testing.T) {
		f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
			if r.Method == http.MethodPut {
				w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("1", 64))
				w.WriteHeader(http.StatusCreated)
				return
			}
			registry.ServeHTTP(w, r)
		})
		wantError(t, put(t, f, open), `the registry says it stored "sha256:1111`)
	})
	t.Run("the registry forgets", func(t *testing.T) {
		f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
			if kind(r) == "HEAD blobs" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			registry.ServeHTTP(w, r)
		})
		wantError(t, put(t, f, open), "not there, or of another size, after the upload", "tried 4 times")
	})
	t.Run("stored, but the answer was lost", func(t *testing.T) {
		f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
			if r.Method == http.MethodPut && n == 1 {
				registry.ServeHTTP(httptest.NewRecorder(), r)
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			registry.ServeHTTP(w, r)
		})
		if err := put(t, f, open); err != nil {
			t.Error(err)
		}
		if n := f.seen("PATCH blobs/uploads"); n != 1 {
			t.Errorf("%d uploads, want 1", n)
		}
	})
}

func TestTagIsResolvedOnce(t *testing.T) {
	host := memoryRegistry(t)
	a, b := testImage(10), testImage(20)
	a.write(t, host+"/app:1", Options{})
	s, err := Open(t.Context(), host+"/app:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b.write(t, host+"/app:1", Options{})
	c := newContent()
	c.root = s.Root()
	if err := c.fetch(t.Context(), s, s.Root()); err != nil {
		t.Fatal(err)
	}
	same(t, c, a)
}

func TestNothingShowsBeforeCommit(t *testing.T) {
	dir := t.TempDir()
	for _, ref := range []string{memoryRegistry(t) + "/app:1", "oci:" + dir + "/l:1", "oci-archive:" + dir + "/a.tar:1", "docker-archive:" + dir + "/d.tar"} {
		d, err := Create(t.Context(), ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := testImage(1000)
		if err := c.put(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), ref, Options{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: before Commit the error is %v", ref, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if left := filesIn(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestCancelledTransfers(t *testing.T) {
	waiting := make(chan bool, 10)
	f, c, o := brokenDownload(t, func(w http.ResponseWriter, r *http.Request, raw []byte) {
		w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
		w.Write(raw[:10])
		w.(http.Flusher).Flush()
		waiting <- true
		<-r.Context().Done()
	})
	o.patience.idle = time.Minute
	s, err := Open(t.Context(), f.host+"/app:1", o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-waiting; cancel() }()
	if _, err := s.Blob(ctx, head.Layers[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	noLeftovers(t, o)
}

// credentials makes DOCKER_CONFIG name credentials for host.
func credentials(t *testing.T, host, user, password string) {
	t.Helper()
	dir := t.TempDir()
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	raw, _ := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"auth": auth}}})
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
}

// locked lets in who has the password alone.
func locked(user, password string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestCredentials(t *testing.T) {
	s := httptest.NewServer(locked("user", "secret", ggcr.New(quiet)))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	c := testImage(1000)

	t.Run("none", func(t *testing.T) {
		t.Setenv("HOME", t.TempDir())
		_, err := Open(t.Context(), host+"/app:1", Options{})
		wantError(t, err, host+"/app:1: ", "401", "hint: docker login "+host)
	})
	t.Run("config.json of docker login", func(t *testing.T) {
		credentials(t, host, "user", "secret")
		c.write(t, host+"/app:1", Options{})
		same(t, read(t, host+"/app:1", Options{}), c)
	})
	t.Run("credential helper", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv("HOME", dir)
		t.Setenv("DOCKER_CONFIG", dir)
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		err := errors.Join(
			os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"credHelpers":{%q:"test"}}`, host), 0o600),
			os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte("#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"user\",\"Secret\":\"secret\"}'\n"), 0o700))
		if err != nil {
			t.Fatal(err)
		}
		same(t, read(t, host+"/app:1", Options{}), c)
	})
	t.Run("auth.json of podman login", func(t *testing.T) {
		t.Setenv("HOME", t.TempDir())
		t.Setenv("DOCKER_CONFIG", "")
		file := filepath.Join(t.TempDir(), "auth.json")
		t.Setenv("REGISTRY_AUTH_FILE", file)
		run(t, "skopeo", "skopeo", "login", "--tls-verify=false", "--authfile", file, "--username", "user", "--password", "secret", host)
		same(t, read(t, host+"/app:1", Options{}), c)
	})
}

// bearing lets in who has the token, which is for who has the password.
func bearing(user, password string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			locked(user, password, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, `{"token":"t0ken"}`)
			})).ServeHTTP(w, r)
			return
		}
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// TestRedirectsDoNotCarryCredentials sends downloads and uploads to another
// host, as registries in front of object stores do.
func TestRedirectsDoNotCarryCredentials(t *testing.T) {
	for name, lock := range map[string]func(user, password string, next http.Handler) http.Handler{"basic": locked, "bearer": bearing} {
		t.Run(name, func(t *testing.T) { redirects(t, lock) })
	}
}

func redirects(t *testing.T, lock func(user, password string, next http.Handler) http.Handler) {
	var mu sync.Mutex
	var leaked []string
	elsewhere := map[string]int{}
	registry := ggcr.New(quiet)
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		elsewhere[r.Method]++
		for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
			if v := r.Header.Get(name); v != "" {
				leaked = append(leaked, r.Method+" "+name+": "+v)
			}
		}
		mu.Unlock()
		registry.ServeHTTP(w, r)
	}))
	defer store.Close()
	// The same address by another name is another host.
	other := strings.Replace(store.URL, "127.0.0.1", "localhost", 1)
	front := httptest.NewServer(lock("user", "secret", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, other+r.URL.Path+"?signature=s3cret", http.StatusTemporaryRedirect)
			return
		}
		if r.Method == http.MethodPost {
			rec := httptest.NewRecorder()
			registry.ServeHTTP(rec, r)
			w.Header().Set("Location", other+rec.Header().Get("Location"))
			w.WriteHeader(rec.Code)
			return
		}
		registry.ServeHTTP(w, r)
	})))
	defer front.Close()
	host := strings.TrimPrefix(front.URL, "http://")
	credentials(t, host, "user", "secret")
	c := testImage(1000)
	c.write(t, host+"/app:1", Options{})
	same(t, read(t, host+"/app:1", Options{}), c)
	if elsewhere["GET"] == 0 || elsewhere["PATCH"] == 0 {
		t.Errorf("redirected: %v", elsewhere)
	}
	if len(leaked) > 0 {
		t.Errorf("the other host got %q", leaked)
	}

	// An error must not print what the signed URL signs with.
	store.Close()
	s, err := Open(t.Context(), host+"/app:1", impatient(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	_, err = s.Blob(t.Context(), head.Layers[0])
	wantError(t, err, "blob "+head.Layers[0].Digest.String())
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error prints the signature: %v", err)
	}
}

// TestTokenThatExpires: the registry wants a new token in the middle of an
// upload, when the body has been sent.
func TestTokenThatExpires(t *testing.T) {
	registry := ggcr.New(quiet)
	var mu sync.Mutex
	tokens, patches := 0, 0
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/token" {
			tokens++
			fmt.Fprintf(w, `{"token":"t%d"}`, tokens)
			return
		}
		if r.Method == http.MethodPatch {
			if patches++; patches == 1 {
				tokens++ // what was given out is old now
				io.Copy(io.Discard, r.Body)
			}
		}
		if r.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", tokens) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:app:push,pull"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		registry.ServeHTTP(w, r)
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	c := testImage(1_000_000)
	o := impatient(t)
	d, err := Create(t.Context(), host+"/app:1", o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i, desc := range c.order {
		if isManifest(desc.MediaType) {
			err = d.PutManifest(t.Context(), desc, c.bytes[desc.Digest])
		} else {
			name := filepath.Join(t.TempDir(), fmt.Sprint(i)) // a file, as that cannot be read after it was closed
			if err := os.WriteFile(name, c.bytes[desc.Digest], 0o600); err != nil {
				t.Fatal(err)
			}
			err = d.PutBlob(t.Context(), desc, func() (io.ReadCloser, error) { return os.Open(name) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Commit(t.Context(), c.root); err != nil {
		t.Fatal(err)
	}
	same(t, read(t, host+"/app:1", o), c)
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(ggcr.New(quiet))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "https://")
	c := testImage(1000)
	c.write(t, host+"/app:1", Options{Insecure: true})
	same(t, read(t, host+"/app:1", Options{Insecure: true}), c)
	// By address, go-containerregistry would try plain HTTP too; by name it must not.
	_, err := Open(t.Context(), host+"/app:1", Options{})
	wantError(t, err, host+"/app:1: ", "x509", ErrCertificate.Error())
}

func TestGuard(t *testing.T) {
	pass := roundTripper(func(*http.Request) (*http.Response, error) { return &http.Response{}, nil })
	for target, want := range map[string]string{
		"https://registry.example/v2/":   "",
		"http://localhost:5000/v2/":      "",
		"http://a.localhost/v2/":         "",
		"http://127.0.0.2/v2/":           "",
		"http://[::1]:5000/v2/":          "",
		"http://registry.example/v2/":    "plain HTTP",
		"http://192.168.1.1/v2/":         "plain HTTP",
		"http://10.0.0.1:5000/v2/":       "plain HTTP",
		"https://10.0.0.1:5000/v2/":      "",
		"https://169.254.169.254/latest": "link-local",
		"https://[fe80::1]/":             "link-local",
		"https://[::ffff:169.254.1.1]/":  "link-local",
	} {
		req := httptest.NewRequest(http.MethodGet, target, nil)
		_, err := guard{pass, false}.RoundTrip(req)
		if want == "" && err != nil {
			t.Errorf("%s: %v", target, err)
		} else if want != "" {
			wantError(t, err, want)
		}
		if _, err := (guard{pass, true}).RoundTrip(req); err != nil && want != "link-local" {
			t.Errorf("%s, insecure: %v", target, err)
		}
	}
	from, _ := http.NewRequest(http.MethodGet, "https://registry.example/", nil)
	to, _ := http.NewRequest(http.MethodGet, "http://registry.example/", nil)
	wantError(t, checkRedirect(to, []*http.Request{from}), "redirect from TLS")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestMount counts uploads: a blob in another repository of the same registry
// needs none.
func TestMount(t *testing.T) {
	t.Parallel()
	host := dockerRegistry(t)
	c := testImage(1000, 50_000)
	c.write(t, host+"/from:1", Options{})
	from, err := Open(t.Context(), host+"/from:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	d, err := Create(t.Context(), host+"/to:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, desc := range c.order {
		if isManifest(desc.MediaType) {
			continue
		}
		if there, err := d.Has(t.Context(), desc); there || err != nil {
			t.Fatalf("there before: %v, %v", there, err)
		}
		if done, err := d.(Mounter).Mount(t.Context(), desc, from); !done || err != nil {
			t.Fatalf("mounted: %v, %v", done, err)
		}
		if there, err := d.Has(t.Context(), desc); !there || err != nil {
			t.Fatalf("there after: %v, %v", there, err)
		}
	}
	missing := newContent().add(types.OCILayer, []byte("nowhere"))
	if done, err := d.(Mounter).Mount(t.Context(), missing, from); done || err != nil {
		t.Errorf("mounted what is not there: %v, %v", done, err)
	}
	dir := t.TempDir()
	c.write(t, "oci:"+dir, Options{})
	layout, err := Open(t.Context(), "oci:"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer layout.Close()
	if done, err := d.(Mounter).Mount(t.Context(), c.order[0], layout); done || err != nil {
		t.Errorf("mounted from a layout: %v, %v", done, err)
	}
}

// TestManyDownloadsAtOnce reads all layers at once, each twice.
func TestManyDownloadsAtOnce(t *testing.T) {
	t.Parallel()
	host := dockerRegistry(t)
	c := testImage(1, 10, 100, 1000, 10_000, 100_000)
	c.write(t, host+"/app:1", Options{})
	o := impatient(t)
	s, err := Open(t.Context(), host+"/app:1", o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	var wg sync.WaitGroup
	for _, desc := range append(head.Layers, head.Layers...) {
		wg.Go(func() {
			b, err := s.Blob(t.Context(), desc)
			if err != nil {
				t.Error(err)
				return
			}
			defer b.Close()
			if _, err := readBlob(b, desc); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	noLeftovers(t, o)
}

// TestNobodyThere: that is told at once, not after many tries.
func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, err = Open(t.Context(), l.Addr().String()+"/app:1", Options{})
	wantError(t, err, l.Addr().String()+"/app:1: ", "connection refused")
	if strings.Contains(err.Error(), "tried") {
		t.Errorf("tried again: %v", err)
	}
}
