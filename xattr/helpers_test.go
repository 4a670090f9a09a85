// SPDX-License-Identifier: Apache-2.0

package xattr_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/xattr"
)

// file is what a reader says of an entry.
type file struct {
	Name, Link string
	Type       byte
	Size       int64
	Sum        string // of a regular file's content
}

// reader is a Handler that notes everything.
type reader struct {
	entries []*xattr.Entry
	files   []file
	sum     hash.Hash
	n       int64
	edit    func(*xattr.Entry) (xattr.Edit, bool, error)
	edits   []xattr.Edit
}

func (r *reader) Entry(e *xattr.Entry) error {
	if r.sum == nil {
		r.sum = sha256.New()
	}
	r.sum.Reset()
	r.n = 0
	r.entries = append(r.entries, e)
	if r.edit == nil {
		return nil
	}
	edit, ok, err := r.edit(e)
	if ok {
		r.edits = append(r.edits, edit)
	}
	return err
}

func (r *reader) Content(p []byte) error {
	r.n += int64(len(p))
	r.sum.Write(p)
	return nil
}

func (r *reader) End() error {
	e := r.entries[len(r.entries)-1]
	f := file{Name: e.Name, Type: e.Type, Size: r.n}
	switch e.Type {
	case '0':
		f.Sum = hex.EncodeToString(r.sum.Sum(nil))
	case '1', '2':
		f.Link = e.Linkname
	}
	r.files = append(r.files, f)
	return nil
}

// scan reads an archive in pieces of n bytes, 0 for all at once.
func scan(b []byte, n int, edit func(*xattr.Entry) (xattr.Edit, bool, error)) (*reader, error) {
	r := &reader{edit: edit}
	s := xattr.NewScanner(r)
	if n == 0 {
		n = max(len(b), 1)
	}
	for ; len(b) > 0; b = b[min(n, len(b)):] {
		if _, err := s.Write(b[:min(n, len(b))]); err != nil {
			return r, err
		}
	}
	return r, s.Close()
}

// apply makes the edits, which must be in order and apart.
func apply(t testing.TB, b []byte, edits []xattr.Edit) []byte {
	t.Helper()
	var out []byte
	at := int64(0)
	for _, e := range edits {
		if e.Off < at || e.Off+e.Len > int64(len(b)) {
			t.Fatalf("edit of %d bytes at %d, the last one ended at %d", e.Len, e.Off, at)
		}
		out = append(append(out, b[at:e.Off]...), e.New...)
		at = e.Off + e.Len
	}
	return append(out, b[at:]...)
}

// set gives every regular file of the archive the attributes attrs.
func set(t testing.TB, b []byte, attrs map[string][]byte) ([]byte, error) {
	t.Helper()
	r, err := scan(b, 0, func(e *xattr.Entry) (xattr.Edit, bool, error) {
		if e.Type != '0' {
			return xattr.Edit{}, false, nil
		}
		return e.Set(attrs)
	})
	if err != nil {
		return nil, err
	}
	return apply(t, b, r.edits), nil
}

// strip takes our attributes off every entry.
func strip(t testing.TB, b []byte) ([]byte, error) {
	t.Helper()
	r, err := scan(b, 0, func(e *xattr.Entry) (xattr.Edit, bool, error) {
		return e.StripEdit(xattr.IMA, xattr.Bless, xattr.EVM)
	})
	if err != nil {
		return nil, err
	}
	return apply(t, b, r.edits), nil
}

// corpus is testdata/tar and what archive/tar itself is tested with.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	for _, pattern := range []string{"testdata/tar/*.tar", filepath.Join(strings.TrimSpace(string(root)), "src/archive/tar/testdata/*.tar")} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			t.Fatalf("%s: no archives", pattern)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			key := filepath.Base(name)
			if filepath.Dir(name) != "testdata/tar" {
				key = "go/" + key
			}
			all[key] = b
		}
	}
	return all
}

// attributes are values of about the size of real ones.
func attributes() map[string][]byte {
	return map[string][]byte{
		xattr.IMA:   append([]byte{3, 2, 4, 1, 2, 3, 4, 0, 70}, bytes.Repeat([]byte{0, '\n', '=', 0xff, 'x'}, 14)...),
		xattr.Bless: bytes.Repeat([]byte("\x30\x81\x00\n"), 45),
	}
}
