// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ima

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/testima"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"github.com/sbom-bless/sbom-bless/xattr"
)

type signer struct{ *testima.Signer }

const keyDir = "/keys"

// bringKeys makes keys of each kind on the host, where it is quicker: those
// that the guest is to trust, and a stranger of each kind.
func bringKeys(t vm.TB, c *vm.Config) {
	t.Helper()
	dir := t.TempDir()
	for _, kind := range testima.Kinds(c.Kernel) {
		for _, name := range []string{kind, "stranger-" + kind} {
			if err := testima.MakeKey(filepath.Join(dir, name), kind); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	c.Files[keyDir] = dir
}

// load reads what bringKeys brought, in the guest.
func load(t *testing.T, name, kind string) *signer {
	t.Helper()
	s, err := testima.Load(filepath.Join(keyDir, name), kind)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{s}
}

// signers are those that the guest is to trust.
func signers(t *testing.T, k vm.Kernel) []*signer {
	t.Helper()
	var list []*signer
	for _, kind := range testima.Kinds(k) {
		list = append(list, load(t, kind, kind))
	}
	return list
}

func stranger(t *testing.T, s *signer) *signer {
	t.Helper()
	return load(t, "stranger-"+s.Kind, s.Kind)
}

// ima gives the value of security.ima for a content.
func (s *signer) ima(t *testing.T, h xattr.Hash, content []byte, version int) []byte {
	t.Helper()
	value, err := s.IMA(testima.Digest(h, content), version)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// bless sets on each regular file of a layer what attrs says, by the edits of
// package xattr.
func bless(t *testing.T, layer []byte, attrs func(e *xattr.Entry, content []byte) map[string][]byte) []byte {
	t.Helper()
	b := &blesser{attrs: attrs}
	s := xattr.NewScanner(b)
	if _, err := s.Write(layer); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var out []byte
	at := int64(0)
	for _, e := range b.edits {
		out = append(append(out, layer[at:e.Off]...), e.New...)
		at = e.Off + e.Len
	}
	return append(out, layer[at:]...)
}

type blesser struct {
	attrs   func(e *xattr.Entry, content []byte) map[string][]byte
	entry   *xattr.Entry
	content bytes.Buffer
	edits   []xattr.Edit
}

func (b *blesser) Entry(e *xattr.Entry) error {
	b.entry = e
	b.content.Reset()
	return nil
}

func (b *blesser) Content(p []byte) error {
	b.content.Write(p)
	return nil
}

func (b *blesser) End() error {
	edit, set, err := b.entry.Set(b.attrs(b.entry, b.content.Bytes()))
	if set {
		b.edits = append(b.edits, edit)
	}
	return err
}
