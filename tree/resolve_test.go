// SPDX-License-Identifier: Apache-2.0

package tree_test

import (
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/tree"
)

func TestResolve(t *testing.T) {
	tr, err := tree.Flatten([][]tree.File{layer("usr/lib/x=1 usr/lib/y->x lib->usr/lib abs->/usr/lib up->usr/../usr/lib loop->loop a/b/c->../../lib long->" + strings.Repeat("../", 1000) + "usr/long2 usr/long2->" + strings.Repeat("../", 1000) + "usr")})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/usr/lib/x":          "usr/lib/x",
		"lib/x":               "usr/lib/x",
		"/lib/./x":            "usr/lib/x",
		"abs/x":               "usr/lib/x",
		"up/x":                "usr/lib/x",
		"a/b/c/x":             "usr/lib/x",
		"lib/y":               "usr/lib/y",
		"lib":                 "lib",
		"lib/":                "lib",
		"usr/../../usr/lib/x": "usr/lib/x",
		"loop/x":              "",
		"usr/long2/lib/x":     "usr/lib/x",
		"long/lib/x":          "", // by links of more than PATH_MAX bytes
		"lib/z":               "",
		"":                    "",
		"/":                   "",
	} {
		got := ""
		if e := tr.Resolve(path); e != nil {
			got = e.Name
		}
		if got != want {
			t.Errorf("%q resolves to %q, want %q", path, got, want)
		}
	}
}
