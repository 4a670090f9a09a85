// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	sbomType = "application/vnd.example.sbom"
	vexType  = "application/vnd.example.vex"
)

// attested is an image with three manifests about it.
func attested() (*content, []v1.Descriptor) {
	c := testImage(1000)
	root := c.root
	return c, []v1.Descriptor{
		c.addReferrer(root, sbomType, "one"),
		c.addReferrer(root, sbomType, "two"),
		c.addReferrer(root, vexType, "three"),
	}
}

// check fails unless list is want, with types and annotations.
func checkReferrers(t *testing.T, list []v1.Descriptor, want ...v1.Descriptor) {
	t.Helper()
	if len(list) != len(want) {
		t.Fatalf("%d referrers, want %d: %+v", len(list), len(want), list)
	}
	for _, w := range want {
		i := slices.IndexFunc(list, func(d v1.Descriptor) bool { return d.Digest == w.Digest })
		if i < 0 {
			t.Fatalf("%s is not listed", w.Digest)
		}
		if d := list[i]; d.Size != w.Size || d.MediaType != types.OCIManifestSchema1 || d.ArtifactType == "" || d.Annotations["note"] == "" {
			t.Errorf("listed as %+v", d)
		}
	}
}

func TestReferrers(t *testing.T) {
	dir := t.TempDir()
	for name, ref := range map[string]string{
		"registry with the API":     memoryRegistry(t, ggcr.WithReferrersSupport(true)) + "/app:1",
		"registry with the tag":     memoryRegistry(t) + "/app:1",
		"docker-registry":           dockerRegistry(t) + "/app:1",
		"OCI layout":                "oci:" + dir + "/l:1",
		"OCI layout without a tag":  "oci:" + dir + "/m",
		"OCI archive":               "oci-archive:" + dir + "/a.tar:1",
		"OCI archive without a tag": "oci-archive:" + dir + "/b.tar",
	} {
		t.Run(name, func(t *testing.T) {
			c, refs := attested()
			d, err := Create(t.Context(), ref, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := c.put(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			ask := func(r Referrers, artifactType string) []v1.Descriptor {
				t.Helper()
				list, err := r.Referrers(t.Context(), c.root.Digest, artifactType)
				if err != nil {
					t.Fatal(err)
				}
				return list
			}
			checkReferrers(t, ask(d.(Referrers), ""), refs...)
			if _, err := d.Commit(t.Context(), c.root); err != nil {
				t.Fatal(err)
			}
			c.write(t, ref, Options{}) // again, to list nothing twice
			s, err := Open(t.Context(), ref, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.Root().Digest != c.root.Digest {
				t.Errorf("root is %s, want %s", s.Root().Digest, c.root.Digest)
			}
			r := s.(Referrers)
			checkReferrers(t, ask(r, ""), refs...)
			checkReferrers(t, ask(r, sbomType), refs[:2]...)
			checkReferrers(t, ask(r, vexType), refs[2])
			checkReferrers(t, ask(r, "application/vnd.example.other"))
			got := newContent()
			for _, desc := range ask(r, "") {
				if err := got.fetch(t.Context(), s, desc); err != nil {
					t.Error(err)
				}
			}
			none, err := r.Referrers(t.Context(), refs[0].Digest, "")
			if err != nil || len(none) > 0 {
				t.Errorf("referrers of a referrer: %v, %v", none, err)
			}
		})
	}
}

// TestOthersReadOurReferrers: go-containerregistry's client, which cosign uses,
// lists what we put, and we list what it puts.
func TestOthersReadOurReferrers(t *testing.T) {
	for kind, host := range map[string]string{"API": memoryRegistry(t, ggcr.WithReferrersSupport(true)), "tag": memoryRegistry(t), "docker-registry": dockerRegistry(t)} {
		t.Run(kind, func(t *testing.T) {
			c, refs := attested()
			c.write(t, host+"/app:1", Options{})
			subject, err := name.NewDigest(host + "/app@" + c.root.Digest.String())
			if err != nil {
				t.Fatal(err)
			}
			theirs := newContent()
			mine := theirs.addReferrer(c.root, sbomType, "from elsewhere")
			for _, desc := range theirs.order[:2] {
				err := remote.WriteLayer(subject.Context(), staticLayer{desc, theirs.bytes[desc.Digest]})
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := remote.Put(subject.Context().Digest(mine.Digest.String()), rawManifest(theirs.bytes[mine.Digest])); err != nil {
				t.Fatal(err)
			}
			x, err := remote.Referrers(subject)
			if err != nil {
				t.Fatal(err)
			}
			m, err := x.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			checkReferrers(t, m.Manifests, append(refs, mine)...)
			s, err := Open(t.Context(), host+"/app:1", Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			list, err := s.(Referrers).Referrers(t.Context(), c.root.Digest, "")
			if err != nil {
				t.Fatal(err)
			}
			checkReferrers(t, list, append(refs, mine)...)
		})
	}
}

type rawManifest []byte

func (m rawManifest) RawManifest() ([]byte, error)      { return m, nil }
func (rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// TestReferrersOfManyAtOnce: the fallback tag is read and written, so it is where
// concurrent writers would lose each other's.
func TestReferrersOfManyAtOnce(t *testing.T) {
	for kind, host := range map[string]string{"API": memoryRegistry(t, ggcr.WithReferrersSupport(true)), "tag": memoryRegistry(t)} {
		t.Run(kind, func(t *testing.T) {
			c := testImage(100)
			d, err := Create(t.Context(), host+"/app:1", Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := c.put(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var want []v1.Descriptor
			for i := range 12 {
				one := newContent()
				want = append(want, one.addReferrer(c.root, sbomType, fmt.Sprint(i)))
				wg.Go(func() {
					if err := one.put(t.Context(), d); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			list, err := d.(Store).Referrers(t.Context(), c.root.Digest, "")
			if err != nil {
				t.Fatal(err)
			}
			checkReferrers(t, list, want...)
		})
	}
}

// TestFallbackTagOverwritten: another process writes the tag between our reading
// and writing, once.
func TestFallbackTagOverwritten(t *testing.T) {
	c, refs := attested()
	tag := fallbackTag(c.root.Digest)
	f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
		registry.ServeHTTP(w, r)
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, tag) && n < 8 {
			empty, _ := newIndex().marshal()
			other := httptest.NewRequest(http.MethodPut, r.URL.Path, bytes.NewReader(empty))
			other.Header.Set("Content-Type", string(types.OCIImageIndex))
			registry.ServeHTTP(httptest.NewRecorder(), other)
		}
	})
	o := impatient(t)
	o.patience.tries = 10
	c.write(t, f.host+"/app:1", o)
	s, err := Open(t.Context(), f.host+"/app:1", o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.(Referrers).Referrers(t.Context(), c.root.Digest, "")
	if err != nil {
		t.Fatal(err)
	}
	// What the other process took away is gone; the last one put is there.
	if !slices.ContainsFunc(list, func(d v1.Descriptor) bool { return d.Digest == refs[2].Digest }) {
		t.Errorf("the last referrer is lost: %v", list)
	}
}

// TestImmutableTags: a registry that lets nobody write a tag twice gets the list of referrers once. What it then
// refuses is told from other failures.
func TestImmutableTags(t *testing.T) {
	c, refs := attested()
	written := map[string]bool{}
	f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
		if _, tag, _ := strings.Cut(r.URL.Path, "/manifests/"); r.Method == http.MethodPut && tag != "" && !strings.HasPrefix(tag, "sha256:") {
			if written[tag] {
				w.WriteHeader(http.StatusConflict)
				return
			}
			written[tag] = true
		}
		registry.ServeHTTP(w, r)
	})
	d, err := Create(t.Context(), f.host+"/app:1", impatient(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var manifests []Manifest
	for _, desc := range c.order {
		switch {
		case !isManifest(desc.MediaType):
			if err := d.PutBlob(t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.bytes[desc.Digest])), nil }); err != nil {
				t.Fatal(err)
			}
		case desc.Digest == c.root.Digest:
			if err := d.PutManifest(t.Context(), desc, c.bytes[desc.Digest]); err != nil {
				t.Fatal(err)
			}
		default:
			manifests = append(manifests, Manifest{desc, c.bytes[desc.Digest]})
		}
	}
	if err := PutReferrers(t.Context(), d, manifests); err != nil {
		t.Fatal(err)
	}
	list, err := d.(Store).Referrers(t.Context(), c.root.Digest, "")
	if err != nil {
		t.Fatal(err)
	}
	checkReferrers(t, list, refs...)
	one := newContent()
	one.addReferrer(c.root, sbomType, "another one, later")
	if err := one.put(t.Context(), d); !errors.Is(err, ErrNoReferrers) {
		t.Errorf("a list that cannot grow: %v", err)
	}
}

// TestRegistryWithoutArtifacts refuses manifests of a config that it does not know.
func TestRegistryWithoutArtifacts(t *testing.T) {
	c, _ := attested()
	f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodPut && bytes.Contains(body, []byte(types.OCIEmptyJSON)) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		registry.ServeHTTP(w, r)
	})
	d, err := Create(t.Context(), f.host+"/app:1", impatient(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := c.put(t.Context(), d); !errors.Is(err, ErrNoReferrers) {
		t.Errorf("%v", err)
	}
}

// TestStaleFallbackTag: a registry goes on to show what a tag was for a while, or for good.
func TestStaleFallbackTag(t *testing.T) {
	for name, reads := range map[string]int{"for a while": 4, "for good": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			c, refs := attested()
			var stale atomic.Int32
			f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, fallbackTag(c.root.Digest)) && int(stale.Add(1)) <= reads {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				registry.ServeHTTP(w, r)
			})
			o := impatient(t)
			o.patience.tries, o.patience.pause = 5, 10*time.Millisecond
			d, err := Create(t.Context(), f.host+"/app:1", o)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			begun := time.Now()
			err = c.put(t.Context(), d)
			if name == "for good" {
				wantError(t, err, "it still shows what was there before", "cache")
				if took := time.Since(begun); took < 75*time.Millisecond { // half of 10, 20, 40 and 80
					t.Errorf("gave up after %s", took)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			list, err := d.(Store).Referrers(t.Context(), c.root.Digest, "")
			if err != nil {
				t.Fatal(err)
			}
			checkReferrers(t, list, refs...)
		})
	}
}

func TestReferrersInPages(t *testing.T) {
	c, refs := attested()
	endless := false
	f := meddle(t, func(w http.ResponseWriter, r *http.Request, n int, registry http.Handler) {
		if kind(r) != "GET referrers" {
			registry.ServeHTTP(w, r)
			return
		}
		page := 0
		fmt.Sscan(r.URL.Query().Get("page"), &page)
		if page < len(refs)-1 || endless {
			w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, page+1))
		}
		w.Header().Set("Content-Type", string(types.OCIImageIndex))
		head, _ := parseHead(c.bytes[refs[page%3].Digest], "")
		json.NewEncoder(w).Encode(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{head.referrer(refs[page%3])}})
	})
	c.write(t, f.host+"/app:1", impatient(t))
	s, err := Open(t.Context(), f.host+"/app:1", impatient(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.(Referrers).Referrers(t.Context(), c.root.Digest, "")
	if err != nil {
		t.Fatal(err)
	}
	checkReferrers(t, list, refs...)
	endless = true
	_, err = s.(Referrers).Referrers(t.Context(), c.root.Digest, "")
	wantError(t, err, "referrers of "+c.root.Digest.String(), "more than 100 pages")
}

// TestReferrersThatRegclientWrote: an index under the fallback tag, in a layout.
func TestReferrersUnderATagInALayout(t *testing.T) {
	dir := t.TempDir()
	c, refs := attested()
	one := newContent()
	one.root, one.bytes = c.root, c.bytes
	for _, desc := range c.order {
		if !slices.ContainsFunc(refs, func(r v1.Descriptor) bool { return r.Digest == desc.Digest }) {
			one.order = append(one.order, desc)
		}
	}
	one.write(t, "oci:"+dir+":1", Options{})
	list := newContent()
	x := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, r := range refs {
		head, _ := parseHead(c.bytes[r.Digest], "")
		x.Manifests = append(x.Manifests, head.referrer(r))
	}
	list.root = list.addJSON(x.MediaType, x)
	list.write(t, "oci:"+dir+":"+fallbackTag(c.root.Digest), Options{})
	s, err := Open(t.Context(), "oci:"+dir, Options{}) // one image, so no tag is needed
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.(Referrers).Referrers(t.Context(), c.root.Digest, "")
	if err != nil {
		t.Fatal(err)
	}
	checkReferrers(t, got, refs...)
}

// TestStockToolsReadATagBesideReferrers: entries about an image do not hide it.
func TestStockToolsReadATagBesideReferrers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "l")
	c, _ := attested()
	c.write(t, "oci:"+dir+":1", Options{})
	out := t.TempDir()
	skopeoCopy(t, "oci:"+dir+":1", "oci:"+out+":1", "--preserve-digests")
	if got := read(t, "oci:"+out+":1", Options{}); got.root.Digest != c.root.Digest {
		t.Errorf("skopeo copied %s, want %s", got.root.Digest, c.root.Digest)
	}
	run(t, "umoci", "umoci", "unpack", "--rootless", "--image", dir+":1", t.TempDir()+"/bundle")
}

// TestDockerHasNoReferrers: they are refused, not dropped.
func TestDockerHasNoReferrers(t *testing.T) {
	c, _ := attested()
	d, err := Create(t.Context(), "docker-archive:"+t.TempDir()+"/d.tar", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	wantError(t, c.put(t.Context(), d), "docker save has no form for manifests about images")
	if _, ok := d.(Referrers); ok {
		t.Error("claims to list referrers")
	}
}

// TestAttestationsInAnIndex: BuildKit's attestation manifests have a subject and
// are children of the index. The index lists them; index.json need not.
func TestAttestationsInAnIndex(t *testing.T) {
	dir := t.TempDir()
	c := newContent()
	image := c.addImage(1, "amd64", 100)
	about := c.addReferrer(image, "application/vnd.docker.attestation.manifest.v1+json", "provenance")
	about.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	c.root = c.addJSON(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{image, about}})
	c.write(t, "oci:"+dir, Options{})
	if x := indexOf(t, dir); len(x.Manifests) != 1 {
		t.Errorf("index.json lists %d manifests, want 1", len(x.Manifests))
	}
	same(t, read(t, "oci:"+dir, Options{}), c)
}
