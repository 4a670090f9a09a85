// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/tree"
)

// Several versions of one package, as modules of Node.js: what both have is no change.
func TestComparePackagesOfSeveralVersions(t *testing.T) {
	of := func(versions ...string) (all []filelist.Package) {
		for _, v := range versions {
			all = append(all, filelist.Package{Type: "npm", Name: "semver", Version: v})
		}
		return all
	}
	for _, c := range []struct {
		from, to []string
		want     []PackageChange
	}{
		{[]string{"5", "6", "6"}, []string{"6", "5", "6"}, []PackageChange{}},
		{[]string{"5", "6"}, []string{"6", "7"}, []PackageChange{{Changed, "npm", "semver", "5", "7"}}},
		{[]string{"6"}, []string{"6", "6"}, []PackageChange{{Change: Added, Type: "npm", Name: "semver", To: "6"}}},
		{[]string{"5", "6", "7"}, []string{"8"}, []PackageChange{{Changed, "npm", "semver", "5", "8"},
			{Change: Removed, Type: "npm", Name: "semver", From: "6"}, {Change: Removed, Type: "npm", Name: "semver", From: "7"}}},
	} {
		if d := cmp.Diff(c.want, comparePackages(of(c.from...), of(c.to...))); d != "" {
			t.Errorf("%v to %v (-want +got):\n%s", c.from, c.to, d)
		}
	}
}

func TestCompareFiles(t *testing.T) {
	file := func(name string, typeflag byte, edit func(*tree.File)) tree.Entry {
		f := tree.File{Name: name, Type: typeflag, Mode: 0o755, SHA256: []byte{1}}
		if edit != nil {
			edit(&f)
		}
		return tree.Entry{File: f}
	}
	a := &contents{tree: &tree.Tree{Files: []tree.Entry{
		file("a", '0', nil), file("cap", '0', nil), file("dir", '5', nil), file("gone", '5', nil), file("link", '2', nil), file("twin", '0', nil), file("z", '0', nil),
	}}}
	b := &contents{tree: &tree.Tree{Files: []tree.Entry{
		file("a", '0', func(f *tree.File) { f.SHA256, f.UID = []byte{2}, 7 }),
		file("cap", '0', func(f *tree.File) { f.Xattrs = map[string][]byte{"security.capability": {1}} }),
		file("dir", '5', func(f *tree.File) { f.Mode = 0o777 }),
		file("link", '2', func(f *tree.File) { f.Mode = 0o777 }), // means nothing
		file("new", '5', nil),
		file("twin", '1', func(f *tree.File) { f.Link = "a" }), // the content is the same
	}}}
	got := map[string][]string{}
	for _, c := range compareFiles(a, b) {
		got[string(c.Change)+" "+c.Path] = c.What
	}
	want := map[string][]string{"changed a": {"content", "owner"}, "changed cap": {"attributes"}, "changed dir": {"mode"}, "removed z": nil}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
