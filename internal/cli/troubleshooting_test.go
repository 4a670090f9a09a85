// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// TestTroubleshooting makes every message that docs/troubleshooting.md explains, and the document explains every message
// that is made here.
func TestTroubleshooting(t *testing.T) {
	doc, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^### `(.*)`$").FindAllStringSubmatch(string(doc), -1) {
		explained[m[1]] = true
	}
	workshop(t, "typical")
	said := func(args ...string) string {
		t.Helper()
		_, errs := command(t, args...)
		return errs
	}
	blessing := func(source, place string, more ...string) string {
		t.Helper()
		return said(append([]string{"bless", source, "-t", place, "--key", "bless.key", "--sbom", "none"}, more...)...)
	}
	for _, name := range []string{"index", "wrong-diffid", "foreign-ima", "many-entries", "encrypted"} {
		if code := testimage.Main([]string{name, name}, io.Discard, os.Stderr); code != 0 {
			t.Fatal("mkimage failed")
		}
	}
	padded := testimage.Image{Layers: []testimage.Layer{{
		Tar: testimage.Tar(testimage.File("a", 0o644, nil)), Compression: "gzip",
		Compressed: append(testimage.Compress(testimage.Tar(testimage.File("a", 0o644, nil)), "gzip"), 0),
	}}}
	if err := padded.Build().WriteLayout("padded", testimage.Tag); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "keygen", "--out", "other")
	mustRun(t, "keygen", "--out", "open")
	if err := os.Chmod("open.key", 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SBOM_BLESS_PASSWORD", "right")
	mustRun(t, "keygen", "--out", "locked")
	t.Setenv("SBOM_BLESS_PASSWORD", "")
	if s := blessing("oci:source", "oci:blessed"); !strings.Contains(s, "attested") {
		t.Fatal(s)
	}

	// answering is a registry that answers in its own way what it is asked to.
	answering := func(answer func(w http.ResponseWriter, r *http.Request, body []byte) bool) (host string) {
		inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if r.Body = io.NopCloser(bytes.NewReader(body)); !answer(w, r, body) {
				inner.ServeHTTP(w, r)
			}
		}))
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	refusing := func(code int, method, within string) string {
		return answering(func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			refuse := r.Method == method && bytes.Contains(append(body, r.URL.Path...), []byte(within))
			if refuse {
				w.WriteHeader(code)
			}
			return refuse
		})
	}
	whole := refusing(0, "none", "")
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that we end
	tls.StartTLS()
	t.Cleanup(tls.Close)

	for message, try := range map[string]func() string{
		"no key":           func() string { return said("bless", "oci:source", "-t", "oci:b") },
		"unknown flag --…": func() string { return said("bless", "--kye", "bless.key") },
		"… is set, and --… has no variable": func() string {
			t.Setenv("SBOM_BLESS_HASH_ONLY", "1")
			defer os.Unsetenv("SBOM_BLESS_HASH_ONLY")
			return said("verify", "oci:source", "--key", "bless.crt")
		},
		"others may access it (mode …)": func() string { return said("bless", "oci:source", "-t", "oci:b", "--key", "open.key") },
		"wrong passphrase": func() string {
			t.Setenv("SBOM_BLESS_PASSWORD", "wrong")
			defer os.Setenv("SBOM_BLESS_PASSWORD", "")
			return said("bless", "oci:source", "-t", "oci:b", "--key", "locked.key")
		},
		"its DiffID is …, the image config says …":       func() string { return blessing("oci:wrong-diffid", "oci:b") },
		"does not verify under this key":                 func() string { return blessing("oci:foreign-ima", "oci:b") },
		"its attributes take … bytes, more than the …":   func() string { return blessing("oci:source", "oci:b", "--max-xattr-size", "100") },
		"more than … entries":                            func() string { return blessing("oci:many-entries", "oci:b", "--max-entries", "1000") },
		"the layer is encrypted":                         func() string { return blessing("oci:encrypted", "oci:b") },
		"not found: …":                                   func() string { return blessing(whole+"/app:1", "oci:b") },
		"the certificate of the registry is not trusted": func() string { return blessing(strings.TrimPrefix(tls.URL, "https://")+"/app:1", "oci:b") },
		"401 Unauthorized": func() string {
			return blessing(refusing(http.StatusUnauthorized, http.MethodGet, "/v2/")+"/app:1", "oci:b")
		},
		"no attestations: … cannot hold them beside the image":   func() string { return blessing("oci:source", "docker-archive:app.tar:app:1") },
		"docker save has no form for an index":                   func() string { return blessing("oci:index", "docker-archive:index.tar") },
		"the image was never blessed":                            func() string { return said("verify", "oci:source", "--key", "bless.crt") },
		"security.ima: signed by another key: expected …, got …": func() string { return said("verify", "oci:blessed", "--key", "other.crt") },
		"the blessing is too old: expected not before …": func() string {
			return said("verify", "oci:blessed", "--key", "bless.crt", "--not-before", "2999-01-01")
		},
		"nothing is remembered for the next run: cache: …": func() string { return blessing("oci:source", "oci:b", "--cache", "bless.crt") },
		"bytes after the last gzip member that are no other member, which container runtimes do not read": func() string {
			return blessing("oci:padded", "oci:b")
		},
		"a registry that is a mirror, or closed for writing, takes no images": func() string {
			return blessing("oci:source", refusing(http.StatusMethodNotAllowed, http.MethodPost, "")+"/app:1")
		},
		"the registry does not take attestations beside an image": func() string {
			return blessing("oci:source", refusing(http.StatusBadRequest, http.MethodPut, `"subject"`)+"/app:1", "--no-cache")
		},
	} {
		if !explained[message] {
			t.Errorf("docs/troubleshooting.md does not explain %q", message)
		}
		delete(explained, message)
		pattern := strings.ReplaceAll(regexp.QuoteMeta(message), "…", ".+")
		if got := try(); !regexp.MustCompile(pattern).MatchString(got) {
			t.Errorf("%q is not said, but %q", message, got)
		}
	}
	for message := range explained {
		t.Errorf("docs/troubleshooting.md explains %q, which nothing says", message)
	}
}
