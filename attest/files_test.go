// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/tree"
)

func TestFileListOfTree(t *testing.T) {
	sum := bytes.Repeat([]byte{7}, 32)
	fixture := func() *tree.Tree {
		tr, err := tree.Flatten([][]tree.File{{
			{Name: "bin", Type: '5', Mode: 0o755},
			{Name: "bin/a", Type: '0', Mode: 0o4755, UID: 1, GID: 2, SHA256: sum, Size: 9, Code: true},
			{Name: "bin/b", Type: '1', Link: "bin/a", Mode: 0o4755, UID: 1, GID: 2},
			{Name: "bin/c", Type: '2', Link: "a"},
			{Name: "etc/motd", Type: '0', Mode: 0o644, SHA256: sum},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	raw, err := attest.FileList(fixture(), map[string]int{"bin/a": 0}, []filelist.Package{{Type: "deb", Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := filelist.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	var got []filelist.File
	for i := range l.Len() {
		got = append(got, l.File(i))
	}
	want := []filelist.File{
		{Path: "bin/a", SHA256: [32]byte(sum), Mode: 0o4755, UID: 1, GID: 2, Flags: filelist.Code, Package: 0, Size: 9},
		{Path: "bin/b", SHA256: [32]byte(sum), Mode: 0o4755, UID: 1, GID: 2, Flags: filelist.Code | filelist.HardLink, Package: -1, Size: 9},
		{Path: "etc/motd", SHA256: [32]byte(sum), Mode: 0o644, Package: -1},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	if err := attest.CheckFiles(l, fixture()); err != nil {
		t.Error(err)
	}
	for want, edit := range map[string]func(t *tree.Tree){
		`"bin/a": SHA-256`: func(t *tree.Tree) { t.Lookup("bin/a").SHA256 = make([]byte, 32) },
		`"bin/a": 9 bytes in the file list, the file has 8`: func(t *tree.Tree) { t.Lookup("bin/a").Size = 8 },
		`"bin/a": mode 4755`: func(t *tree.Tree) { t.Lookup("bin/a").Mode = 0o755 },
		`"bin/b": mode 4755, owner 1:2 in the file list, the`: func(t *tree.Tree) { t.Lookup("bin/b").UID = 0 },
		`"bin/a": in the file list, not in the image`:         func(t *tree.Tree) { t.Lookup("bin/a").Type = '2' },
		`"etc/motd": in the file list, not in the image`:      func(t *tree.Tree) { t.Lookup("etc/motd").Type = '2' },
		`"bin/c": not in the file list`:                       func(t *tree.Tree) { t.Lookup("bin/c").Type = '0' },
		`"zz": not in the file list`: func(t *tree.Tree) {
			t.Files = append(t.Files, tree.Entry{File: tree.File{Name: "zz", Type: '0', SHA256: sum}})
		},
	} {
		tr := fixture()
		edit(tr)
		if err := attest.CheckFiles(l, tr); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if _, err := attest.FileList(&tree.Tree{Files: []tree.Entry{{File: tree.File{Name: "a", Type: '0'}}}}, nil, nil); err == nil {
		t.Error("a file without a digest was taken")
	}
}
