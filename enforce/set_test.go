// SPDX-License-Identifier: Apache-2.0

package enforce_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/enforce"
)

// The list is what sha256sum prints, in text and in binary mode.
func TestParseSetOfSha256sum(t *testing.T) {
	dir := t.TempDir()
	var want []enforce.File
	for _, name := range []string{"a", "name with  spaces", "line\nfeed", `back\slash`} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		want = append(want, enforce.File{Path: path, SHA256: sha256.Sum256([]byte(name))})
	}
	for _, mode := range []string{"--text", "--binary"} {
		out, err := exec.Command("sha256sum", mode, want[0].Path, want[1].Path, want[2].Path, want[3].Path).Output()
		if err != nil {
			t.Fatalf("sha256sum: %v (Debian package coreutils)", err)
		}
		set, err := enforce.ParseSet("x", bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(enforce.Set{Name: "x", Files: want}, set); diff != "" {
			t.Errorf("%s: %s", mode, diff)
		}
	}
}

// What is written is read back, whatever names the image's author chose.
func TestSetWithOddNames(t *testing.T) {
	set := enforce.Set{Name: "x"}
	for _, path := range []string{"/a\nb", "/tab\tdeb evil 1", `/back\slash\n`, "/\r", "/\xff", "/ "} {
		set.Files = append(set.Files, enforce.File{Path: path, SHA256: sha256.Sum256([]byte(path)), Package: "deb good 1"})
	}
	var b bytes.Buffer
	if err := set.Write(&b); err != nil {
		t.Fatal(err)
	}
	read, err := enforce.ParseSet("x", &b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(set, read); diff != "" {
		t.Error(diff)
	}
}

func TestParseSetRefuses(t *testing.T) {
	sum := strings.Repeat("0", 64)
	for name, text := range map[string]string{
		"no path":                sum,
		"an empty path":          sum + "  ",
		"one space":              sum + " /x",
		"a digest too short":     sum[2:] + "  /x",
		"a digest too long":      sum + "00  /x",
		"no hexadecimal":         strings.Repeat("g", 64) + "  /x",
		"another digest's lines": "SHA256 (/x) = " + sum,
	} {
		if set, err := enforce.ParseSet("x", strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", name, set)
		}
	}
}

func FuzzParseSet(f *testing.F) {
	sum := strings.Repeat("0", 64)
	f.Add(sum + "  /bin/sh\n")
	f.Add(sum + " */bin/sh\tdeb dash 0.5\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := enforce.ParseSet("x", strings.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := set.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := enforce.ParseSet("x", &b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(set, again); diff != "" {
			t.Error(diff)
		}
	})
}
