// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"strings"
	"testing"
)

func TestReferencesThatAreUnderstood(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for in, want := range map[string]string{
		"app":                                          "docker.io/library/app:latest",
		"app:1":                                        "docker.io/library/app:1",
		"me/app@" + digest:                             "docker.io/me/app@" + digest,
		"registry.example/app":                         "registry.example/app:latest",
		"localhost:5000/a/b/c:1":                       "localhost:5000/a/b/c:1",
		"docker://registry.example/app:1":              "registry.example/app:1",
		"registry.example/app:1@" + digest:             "registry.example/app@" + digest,
		"docker:5000/app:1":                            "docker:5000/app:1", // a host of that name
		"docker-daemon:app":                            "docker-daemon:app:latest",
		"docker-daemon:a.example/b:1":                  "docker-daemon:a.example/b:1",
		"docker-daemon:" + digest:                      "docker-daemon:" + digest,
		"docker-archive:a.tar":                         "docker-archive:a.tar",
		"docker-archive:/x/a.tar:app":                  "docker-archive:/x/a.tar:app:latest",
		"docker-archive:a.tar:docker.io/library/app:2": "docker-archive:a.tar:app:2",
		"oci:dir":                                      "oci:dir",
		"oci:/x/dir:v1":                                "oci:/x/dir:v1",
		"oci:dir:registry.example/app:1":               "oci:dir:registry.example/app:1",
		"oci:dir@" + digest:                            "oci:dir@" + digest,
		"oci:a@b":                                      "oci:a@b",
		"oci:../a b/c":                                 "oci:../a b/c",
		"oci-archive:a.tar:v1":                         "oci-archive:a.tar:v1",
		"oci-archive:a.tar@" + digest:                  "oci-archive:a.tar@" + digest,
	} {
		r, err := parseReference(in, false)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if r.String() != want {
			t.Errorf("%s is understood as %s, want %s", in, r, want)
		}
	}
}

func TestReferencesThatAreNot(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for in, want := range map[string]string{
		"":                           "is empty",
		"Registry.Example/App":       "hint: repository names are lower case",
		"registry.example/app:":      "registry.example/app:",
		"registry.example/app:a b":   "a b",
		"./layout":                   "hint: oci:./layout",
		"/var/app.tar":               "docker-archive:/var/app.tar",
		"https://registry.example/a": "hint: write registry.example/a",
		"dir:/x":                     "unknown place",
		"containers-storage:app":     "unknown place",
		"oci-layout:x":               "hint: oci:x",
		"oci:":                       "names no path",
		"oci::v1":                    "names no path",
		"oci:dir:":                   "is not a tag",
		"oci:dir:-x":                 "is not a tag",
		"oci:dir:a b":                "is not a tag",
		"oci:dir@sha256:abc":         "is not sha256: and 64",
		"oci:dir@sha256:" + strings.Repeat("AB", 32): "is not sha256: and 64",
		"oci:dir:v1@" + digest:                       "hint: oci:dir@" + digest,
		"docker-archive:":                            "names no file",
		"docker-archive::app":                        "names no file",
		"docker-archive:a.tar:":                      "",
		"docker-archive:a.tar:app@" + digest:         "by tag, not by digest",
		"docker-daemon:":                             "names no image",
		"docker-daemon:App":                          "lower case",
	} {
		_, err := parseReference(in, false)
		wantError(t, err, want)
	}
	for _, ref := range []string{"app@" + digest, "oci:dir@" + digest, "oci-archive:a.tar@" + digest, "docker-daemon:" + digest} {
		_, err := Create(t.Context(), ref, Options{})
		wantError(t, err, "a destination has a tag")
	}
}

// FuzzReference: what is understood is printed so that it is understood alike.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"app", "a.b/c:1", "docker://a/b", "oci:d:t", "oci-archive:f@sha256:" + strings.Repeat("0", 64), "docker-archive:f:a:1", "docker-daemon:a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseReference(s, false)
		if err != nil {
			return
		}
		again, err := parseReference(r.String(), false)
		if err != nil {
			t.Fatalf("%q is printed as %q: %v", s, r, err)
		}
		if again.String() != r.String() || again.place != r.place || again.path != r.path || again.tag != r.tag || again.digest != r.digest {
			t.Fatalf("%q is printed as %q, which is understood as %q", s, r, again)
		}
	})
}
