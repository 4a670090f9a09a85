// SPDX-License-Identifier: Apache-2.0

package tree_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/tree"
)

// layer reads entries written one per word: "d:usr", "usr/bin/env=1" (a file
// whose SHA256 is "1"), "a->b" (symbolic link), "a=>b" (hard link).
func layer(words string) []tree.File {
	var files []tree.File
	for w := range strings.FieldsSeq(words) {
		var f tree.File
		if name, ok := strings.CutPrefix(w, "d:"); ok {
			f = tree.File{Name: name, Type: '5', Mode: 0o755}
		} else if name, link, ok := strings.Cut(w, "->"); ok {
			f = tree.File{Name: name, Type: '2', Link: link}
		} else if name, link, ok := strings.Cut(w, "=>"); ok {
			f = tree.File{Name: name, Type: '1', Link: link, Mode: 0o644}
		} else {
			name, sum, _ := strings.Cut(w, "=")
			f = tree.File{Name: name, Type: '0', Mode: 0o644, SHA256: []byte(sum), Size: 1}
		}
		files = append(files, f)
	}
	return files
}

// words writes a tree in the form that layer reads, with the layers of name and content behind each.
func words(t *tree.Tree) string {
	var b strings.Builder
	for _, e := range t.Files {
		switch e.Type {
		case '5':
			fmt.Fprintf(&b, "d:%s", e.Name)
		case '2':
			fmt.Fprintf(&b, "%s->%s", e.Name, e.Link)
		case '1':
			fmt.Fprintf(&b, "%s=>%s=%s", e.Name, e.Link, e.SHA256)
		default:
			fmt.Fprintf(&b, "%s=%s", e.Name, e.SHA256)
		}
		fmt.Fprintf(&b, "@%d", e.Layer)
		if e.Content != e.Layer {
			fmt.Fprintf(&b, "/%d", e.Content)
		}
		b.WriteByte(' ')
	}
	return strings.TrimSpace(b.String())
}

func TestFlatten(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers []string
		want   string
		warn   string
	}{
		{name: "no layers"},
		{name: "an empty layer", layers: []string{"", "a=1", ""}, want: "a=1@1"},
		{name: "names are normalised", layers: []string{"d:./ ./a=1 d:usr//bin/ usr/lib/../bin/x=2 /etc/y=3"}, want: "a=1@0 d:etc@0 etc/y=3@0 d:usr@0 d:usr/bin@0 usr/bin/x=2@0"},
		{name: "parents are implied", layers: []string{"a/b/c=1"}, want: "d:a@0 d:a/b@0 a/b/c=1@0"},
		{name: "an upper file replaces a lower one", layers: []string{"a=1 b=2", "a=3"}, want: "a=3@1 b=2@0"},
		{name: "a directory over a directory merges", layers: []string{"d:a a/x=1", "d:a a/y=2"}, want: "d:a@1 a/x=1@0 a/y=2@1"},
		{name: "a file over a directory removes what was below", layers: []string{"d:a a/x=1", "a=2"}, want: "a=2@1"},
		{name: "a directory over a file", layers: []string{"a=1", "d:a a/x=2"}, want: "d:a@1 a/x=2@1"},
		{name: "a symbolic link over a directory", layers: []string{"d:a a/x=1", "a->b"}, want: "a->b@1"},
		{name: "a directory over a symbolic link", layers: []string{"a->b", "d:a a/x=2"}, want: "d:a@1 a/x=2@1"},
		{name: "a whiteout hides a file", layers: []string{"a=1 b=2", ".wh.a"}, want: "b=2@0"},
		{name: "a whiteout hides a directory", layers: []string{"d:a a/x=1", ".wh.a"}, want: ""},
		{name: "a whiteout spares its own layer before it", layers: []string{"a=1", "a=2 .wh.a"}, want: "a=2@1"},
		{name: "a whiteout spares its own layer after it", layers: []string{"d:a a/x=1", ".wh.a a/y=2"}, want: "d:a@1 a/y=2@1"},
		{name: "a whiteout of nothing", layers: []string{"a=1", ".wh.b"}, want: "a=1@0"},
		{name: "a whited-out file comes again", layers: []string{"a=1", ".wh.a", "a=3"}, want: "a=3@2"},
		{name: "an opaque directory", layers: []string{"d:a a/x=1 a/d/y=1 b=1", "d:a a/.wh..wh..opq a/z=2"}, want: "d:a@1 a/z=2@1 b=1@0"},
		{name: "an opaque directory, marker last", layers: []string{"d:a a/x=1", "d:a a/z=2 a/.wh..wh..opq"}, want: "d:a@1 a/z=2@1"},
		{name: "an opaque root", layers: []string{"d:a a/x=1", "b=2 .wh..wh..opq"}, want: "b=2@1"},
		{name: "the last entry of a name counts", layers: []string{"a=1 a=2"}, want: "a=2@0", warn: "layer 1: a: entry repeated, the last one counts"},
		{name: "a repeated directory is no repetition", layers: []string{"d:a a/x=1 d:a"}, want: "d:a@0 a/x=1@0"},
		{name: "a hard link", layers: []string{"a=1 b=>a"}, want: "a=1@0 b=>a=1@0"},
		{name: "a hard link to a lower layer", layers: []string{"a=1", "b=>./a"}, want: "a=1@0 b=>a=1@1/0"},
		{name: "a hard link keeps the content when its target is replaced", layers: []string{"a=1 b=>a", "a=2"}, want: "a=2@1 b=>a=1@0"},
		{name: "a hard link keeps the content when its target is removed", layers: []string{"a=1 b=>a", ".wh.a"}, want: "b=>a=1@0"},
		{name: "a hard link before its target", layers: []string{"c=>b b=>a a=1"}, want: "a=1@0 b=>a=1@0 c=>b=1@0", warn: "hard link before its target"},
		{name: "a hard link before its target, replaced", layers: []string{"b=>a b=2 a=1"}, want: "a=1@0 b=2@0", warn: "hard link before its target"},
		{name: "a parent that is a link of the layer", layers: []string{"l->a l/x=1"}, want: "d:a@0 a/x=1@0 l->a@0"},
		{name: "a parent that is a link of a lower layer", layers: []string{"d:a d:b a/l->../b", "a/l/x=1"}, want: "d:a@0 d:a/l@1 a/l/x=1@1 d:b@0", warn: "layer 2: a/l/x: parent is a symbolic link of a lower layer: containerd, Docker and Podman put a directory in its place, umoci and others follow it"},
		{name: "a parent that is an absolute link", layers: []string{"d:a d:b a/l->/b/../../b a/l/x=1"}, want: "d:a@0 a/l->/b/../../b@0 d:b@0 b/x=1@0"},
		{name: "a merged usr, and files through the old name", layers: []string{"d:usr/lib usr/lib/a.so=1 lib->usr/lib", "d:lib lib/b.so=2 c=>lib/b.so"}, want: "c=>lib/b.so=2@1 d:lib@1 lib/b.so=2@1 d:usr@0 d:usr/lib@0 usr/lib/a.so=1@0"},
		{name: "a whiteout below a link of a lower layer", layers: []string{"d:a a/x=1 l->a", "l/.wh.x"}, want: "d:a@0 a/x=1@0 d:l@1", warn: "layer 2: l/.wh.x: parent is a symbolic link of a lower layer"},
		{name: "an opaque directory in place of a link of a lower layer", layers: []string{"d:a a/x=1 l->a", "d:l l/.wh..wh..opq l/y=2"}, want: "d:a@0 a/x=1@0 d:l@1 l/y=2@1"},
		{name: "a whiteout below a directory that the layer made a link before it", layers: []string{"d:foo foo/x=1 d:bar bar/x=2 bar/keep=3", "foo->bar foo/.wh.x"}, want: "d:bar@0 bar/keep=3@0 foo->bar@1"},
		{name: "a whiteout below a directory that the layer makes a link behind it", layers: []string{"d:foo foo/x=1 d:bar bar/x=2", "foo/.wh.x foo->bar"}, want: "d:bar@0 bar/x=2@0 foo->bar@1"},
		{name: "a whiteout below a directory that the layer makes a file", layers: []string{"d:foo foo/x=1", "foo/.wh.x foo=2"}, want: "foo=2@1"},
		{name: "what aufs kept for itself", layers: []string{"a=1 b=2", ".wh..wh.aufs=0 d:.wh..wh.plnk .wh..wh.plnk/97.4711=3 d:.wh..wh.orph a=>.wh..wh.plnk/97.4711 c=>.wh..wh.plnk/97.4711 .wh.b=>.wh..wh.aufs"}, want: "a=3@1 c=3@1"},
		{name: "a hard link through a symbolic link", layers: []string{"d:a a/x=1 l->a b=>l/x"}, want: "d:a@0 a/x=1@0 b=>l/x=1@0 l->a@0"},
		{name: "a hard link to a symbolic link", layers: []string{"a->x b=>a"}, want: "a->x@0 b->x@0", warn: "owner or mode"},
		{name: "names of other bytes are other names", layers: []string{"\xff=1 \xc3\xa9=2 e\xcc\x81=3 A=4 a=5"}, want: "A=4@0 a=5@0 e\xcc\x81=3@0 \xc3\xa9=2@0 \xff=1@0"},
		{name: "sorted by bytes of the whole path", layers: []string{"a/b=1 a.b=2 a0=3"}, want: "d:a@0 a.b=2@0 a/b=1@0 a0=3@0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var layers [][]tree.File
			for _, l := range c.layers {
				layers = append(layers, layer(l))
			}
			got, err := tree.Flatten(layers)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, words(got)); d != "" {
				t.Errorf("tree (-want +got):\n%s", d)
			}
			if w := strings.Join(got.Warnings, "\n"); !strings.Contains(w, c.warn) || c.warn == "" && w != "" {
				t.Errorf("warnings %q, want %q", w, c.warn)
			}
			for _, e := range got.Files {
				if l := got.Lookup(e.Name); l == nil || l.Name != e.Name {
					t.Errorf("lookup of %q finds %v", e.Name, l)
				}
			}
			if got.Lookup("absent") != nil {
				t.Error("lookup finds what is not there")
			}
		})
	}
}

func TestFlattenRefuses(t *testing.T) {
	up := strings.Repeat("../", 1000)
	for _, c := range []struct {
		name   string
		layers []string
		want   string
	}{
		{"a name that leads out", []string{"a=1", "a/../../b=1"}, `layer 2: a/../../b: name leads out of the root filesystem`},
		{"a parent that is a file", []string{"a=1", "a/x=1"}, "layer 2: a/x: parent a: a is a file of layer 1, not a directory"},
		{"symbolic links in a circle", []string{"l->m m->l l/x=1"}, "layer 1: l/x: parent l leads through more than 40 symbolic links"},
		{"symbolic links of many bytes", []string{"l->" + up + " m->" + up + "l l/x=1 m/x=1"}, "layer 1: m/x: parent m leads through symbolic links of more than 4095 bytes in all"},
		{"a symbolic link to a long name", []string{"l->" + strings.Repeat("l", 4096)}, "layer 1: l: symbolic link to " + strings.Repeat("l", 100) + "…" + strings.Repeat("l", 100) + ": target longer than 4095 bytes"},
		{"a hard link to nothing", []string{"a=1", "b=>c"}, "layer 2: b: hard link to c: no such file in this layer or below"},
		{"a hard link to a whited-out file", []string{"a=1", ".wh.a b=>a"}, "layer 2: b: hard link to a: no such file in this layer or below"},
		{"a hard link to itself", []string{"a=1", "a=>a"}, "layer 2: a: hard link to a: no such file in this layer or below"},
		{"hard links in a circle", []string{"a=>b b=>a"}, "layer 1: a: hard link to b: no such file in this layer or below"},
		{"a hard link to a directory", []string{"d:a b=>a"}, "layer 1: b: hard link to a: is a directory"},
		{"a hard link to the root", []string{"b=>."}, "layer 1: b: hard link to .: is a directory"},
		{"a hard link to nothing of aufs", []string{"d:.wh..wh.plnk b=>.wh..wh.plnk/1"}, "layer 1: b: hard link to .wh..wh.plnk/1: no such file in this layer or below"},
		{"a hard link to what aufs kept of a lower layer", []string{".wh..wh.plnk/1=1", "b=>.wh..wh.plnk/1"}, "layer 2: b: hard link to .wh..wh.plnk/1: no such file in this layer or below"},
		{"a hard link that leads out", []string{"b=>../x"}, `layer 1: b: hard link to ../x: name leads out of the root filesystem`},
		{"a root that is a file", []string{"./=1"}, "layer 1: .: the root is not a directory"},
		{"reserved whiteouts", []string{"a/.wh..wh.plnk"}, "layer 1: a/.wh..wh.plnk: reserved whiteout name"},
		{"a whiteout without a name", []string{"a/.wh."}, "layer 1: a/.wh.: reserved whiteout name"},
		{"a whiteout of the parent", []string{"a/.wh..."}, "layer 1: a/.wh...: reserved whiteout name"},
		{"an entry below a whiteout", []string{"d:.wh.a .wh.a/x=1"}, "layer 1: .wh.a/x: entry below a whiteout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var layers [][]tree.File
			for _, l := range c.layers {
				layers = append(layers, layer(l))
			}
			_, err := tree.Flatten(layers)
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
	if _, err := tree.Flatten([][]tree.File{{{Name: "a", Type: 'S'}}}); err == nil || !strings.Contains(err.Error(), "a: type 'S' of the entry is unknown") {
		t.Errorf("unknown type: %v", err)
	}
}

// TestManyLinksBeforeTheirTargets ends in time that grows with the layer, not with its square.
func TestManyLinksBeforeTheirTargets(t *testing.T) {
	const n = 50_000
	files := make([]tree.File, n+1)
	for i := range n {
		files[i] = tree.File{Name: strconv.Itoa(i), Type: '1', Link: strconv.Itoa(i + 1)}
	}
	files[n] = tree.File{Name: strconv.Itoa(n), Type: '0', Size: 7}
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { files[i], files[j] = files[j], files[i] })
	got, err := tree.Flatten([][]tree.File{files})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range got.Files {
		if !f.Regular() || f.Size != 7 {
			t.Fatalf("%+v", f)
		}
	}
}

// deep is a path of n bytes whose components are a byte each.
func deep(n int) string { return strings.Repeat("d/", n/2-1) + "ef" }

func TestFlattenBoundsWhatEntriesImply(t *testing.T) {
	var parents, links []tree.File
	for i := range 200 {
		parents = append(parents, tree.File{Name: strconv.Itoa(i) + "/" + deep(4000), Type: '0'})
	}
	links = append(links, tree.File{Name: "l", Type: '2', Link: deep(4000)})
	for i := range 20_000 {
		links = append(links, tree.File{Name: "l/" + strconv.Itoa(i), Type: '0'})
	}
	for name, files := range map[string][]tree.File{"missing parents": parents, "paths through a link": links} {
		t.Run(name, func(t *testing.T) {
			_, err := tree.Flatten([][]tree.File{nil, files})
			if err == nil || !strings.HasPrefix(err.Error(), "layer 2: ") || !strings.Contains(err.Error(), "too many parent directories without an entry, or too long paths") || len(err.Error()) > 500 {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestFlattenTakesLayersWithoutDirectories: two missing parents of each of many
// files, and a few files with paths as long as there are.
func TestFlattenTakesLayersWithoutDirectories(t *testing.T) {
	const n = 200_000
	var few, many []tree.File
	for i := range 3 {
		few = append(few, tree.File{Name: strconv.Itoa(i) + "/" + deep(4000), Type: '0'})
	}
	for i := range n {
		many = append(many, tree.File{Name: fmt.Sprintf("usr/share/maven-repo/org/example/artifact-%d/1.%d/artifact.jar", i, i), Type: '0'})
	}
	if _, err := tree.Flatten([][]tree.File{few}); err != nil {
		t.Error(err)
	}
	got, err := tree.Flatten([][]tree.File{many})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Files) != 3*n+5 {
		t.Errorf("%d files", len(got.Files))
	}
}

func TestWarningsAreFew(t *testing.T) {
	var same, other []tree.File
	for i := range 20_000 {
		same = append(same, tree.File{Name: "a", Type: '0'})
		other = append(other, tree.File{Name: strconv.Itoa(i / 2), Type: '0'})
	}
	got, err := tree.Flatten([][]tree.File{same, other})
	if err != nil {
		t.Fatal(err)
	}
	w := got.Warnings
	if len(w) != 101 || w[0] != "layer 1: a: entry repeated, the last one counts" || w[1] != "layer 2: 0: entry repeated, the last one counts" || w[100] != "9901 more warnings are left out" {
		t.Errorf("%d warnings: %q", len(w), w[:min(len(w), 102)])
	}
}

func TestShow(t *testing.T) {
	x := strings.Repeat("x", 100)
	for name, want := range map[string]string{
		"usr/bin/\u00e9":   "usr/bin/\u00e9",
		"":                 `""`,
		"a\nb\x1b[2J":      `"a\nb\x1b[2J"`,
		x + x:              x + x,
		x + "middle" + x:   x + "…" + x,
		"\n" + x + "y" + x: `"\n` + x[1:] + "…" + x + `"`,
	} {
		if got := tree.Show(name); got != want {
			t.Errorf("%q is shown as %s, want %s", name, got, want)
		}
	}
}

func BenchmarkFlatten(b *testing.B) {
	files := make([]tree.File, 100_000)
	for i := range files {
		files[i] = tree.File{Name: "usr/lib/" + strconv.Itoa(i/100) + "/" + strconv.Itoa(i), Type: '0'}
	}
	for b.Loop() {
		if _, err := tree.Flatten([][]tree.File{files, files}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCleanRefuses(t *testing.T) {
	for name, want := range map[string]string{
		"": "empty", "..": "leads out", "../a": "leads out", "/../a": "leads out", "a/../..": "leads out", "a\x00b": "NUL",
		strings.Repeat("a", 256): "255", strings.Repeat("a/", 2048) + "b": "4095",
	} {
		if p, err := tree.Clean(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.10q became %q: error %v, want %q", name, p, err, want)
		}
	}
	if _, err := tree.Clean(strings.Repeat("a/", 2047) + "b"); err != nil {
		t.Errorf("the longest path: %v", err)
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"./a", "a//b/", "/", "../x", "a/./../b", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, err := tree.Clean(name)
		if err != nil {
			return
		}
		if q, err := tree.Clean(p); err != nil || q != p {
			t.Errorf("%q became %q, and that %q, %v", name, p, q, err)
		}
		if strings.HasPrefix(p, "/") || strings.HasPrefix(p, "../") || strings.Contains(p, "//") {
			t.Errorf("%q became %q", name, p)
		}
	})
}
