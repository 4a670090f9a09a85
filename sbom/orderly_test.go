// SPDX-License-Identifier: Apache-2.0

package sbom_test

import (
	"archive/tar"
	"crypto/md5"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/sbom"
)

// packaged are the files of one package of each of four kinds.
func packaged() []testimage.Entry {
	prog := "\x7fELF program"
	file := func(name, content string) testimage.Entry { return testimage.File(name, 0o644, []byte(content)) }
	return []testimage.Entry{
		file("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nNAME=\"Debian GNU/Linux\"\n"),
		file("usr/bin/prog", prog),
		file("var/lib/dpkg/status.d/prog", "Package: prog\nVersion: 1.0\nArchitecture: amd64\nMaintainer: S O <s@example.test>\nDescription: x\n"),
		file("var/lib/dpkg/status.d/prog.md5sums", fmt.Sprintf("%x  usr/bin/prog\n", md5.Sum([]byte(prog)))),
		file("usr/lib/python3/dist-packages/demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"),
		file("usr/lib/python3/dist-packages/demo-1.0.dist-info/RECORD", "demo/__init__.py,,\ndemo-1.0.dist-info/METADATA,,\n"),
		file("usr/lib/python3/dist-packages/demo/__init__.py", "x=1\n"),
		file("app/node_modules/left/package.json", `{"name":"left","version":"1.3.0","license":"MIT"}`),
		file("usr/lib/ruby/gems/3.1.0/specifications/gemx-1.0.gemspec", "Gem::Specification.new do |s|\n  s.name = \"gemx\".freeze\n  s.version = \"1.0\"\n  s.files = [\"lib/gemx.rb\".freeze]\nend\n"),
	}
}

// directories are the entries for all parents.
func directories(files []testimage.Entry) (dirs []testimage.Entry) {
	seen := map[string]bool{}
	for _, f := range files {
		for d := path.Dir(f.Name); d != "."; d = path.Dir(d) {
			seen[d] = true
		}
	}
	for d := range seen {
		dirs = append(dirs, testimage.Dir(d+"/"))
	}
	slices.SortFunc(dirs, func(a, b testimage.Entry) int { return strings.Compare(a.Name, b.Name) })
	return dirs
}

// found are the packages that Scan finds in layers of these entries, and the file that each of them is read from.
func found(t *testing.T, layers ...[]testimage.Entry) []string {
	t.Helper()
	var im testimage.Image
	for _, entries := range layers {
		im.Layers = append(im.Layers, testimage.Layer{Tar: testimage.Tar(entries...), Compression: "gzip"})
	}
	dir := t.TempDir()
	if err := im.Build().WriteLayout(dir, "t"); err != nil {
		t.Fatal(err)
	}
	l, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := l.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifests.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := scan(img, len(layers), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files, err := readTree(img, map[string][]byte{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := inv.Document(files, sbom.Options{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}, DiffIDs: config.RootFS.DiffIDs})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range doc.Packages {
		all = append(all, p.Type+" "+p.Name+" "+p.Version)
	}
	slices.Sort(all)
	return all
}

// The same files are the same packages, however the tar that brings them was written.
func TestPackagesDoNotDependOnHowTheTarIsWritten(t *testing.T) {
	files := packaged()
	dirs := directories(files)
	dotted := slices.Clone(files)
	for i := range dotted {
		dotted[i].Name = "./" + dotted[i].Name
	}
	repeated := []testimage.Entry{ // of what files have, other things that do not count
		testimage.File("usr/bin", 0o755, []byte("once a file")), testimage.Dir("usr/bin/"), testimage.Symlink("usr/bin/prog", "elsewhere"), testimage.Dir("app/node_modules/left/package.json/"),
		testimage.File("app/node_modules/left/package.json/package.json", 0o644, []byte(`{"name":"right","version":"0.1.0"}`)),
		testimage.File("var/lib/dpkg/status.d/prog", 0o644, []byte("Package: prog\nVersion: 0.9\nArchitecture: amd64\n")),
	}
	want := []string{"deb prog 1.0", "gem gemx 1.0", "npm left 1.3.0", "pypi demo 1.0"}
	for _, c := range []struct {
		name   string
		layers [][]testimage.Entry
	}{
		{"with directories", [][]testimage.Entry{append(slices.Clone(dirs), files...)}},
		{"without directories", [][]testimage.Entry{files}},
		{"names with a dot in front", [][]testimage.Entry{dotted}},
		{"directories in a lower layer", [][]testimage.Entry{dirs, files}},
		{"directories behind the files", [][]testimage.Entry{append(slices.Clone(files), dirs...)}},
		{"names that stood for other things before", [][]testimage.Entry{append(repeated, files...)}},
		{"a whiteout below what becomes a file", [][]testimage.Entry{{testimage.Dir("foo/"), testimage.File("foo/bar", 0o644, nil)},
			append([]testimage.Entry{testimage.Whiteout("foo/bar"), testimage.File("foo", 0o644, []byte("file"))}, files...)}},
		{"a whiteout below what becomes a link", [][]testimage.Entry{{testimage.Dir("foo/"), testimage.File("foo/bar", 0o644, nil), testimage.Dir("baz/")},
			append([]testimage.Entry{testimage.Whiteout("foo/bar"), testimage.Symlink("foo", "baz")}, files...)}},
		{"a global header", [][]testimage.Entry{append([]testimage.Entry{testimage.Raw(testimage.Header("pax_global_header", tar.TypeXGlobalHeader, 17), testimage.Pad([]byte("17 comment=a b c\n")))}, files...)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(want, found(t, c.layers...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
