// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// adopt puts the layers of c by files of the destination's own, the rest as
// usual.
func (c *content) adopt(t *testing.T, d Destination) {
	t.Helper()
	head, err := parseHead(c.bytes[c.root.Digest], "")
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range head.Layers {
		f, err := d.(Adopter).NewFile()
		if err != nil {
			t.Fatal(err)
		}
		raw := c.bytes[desc.Digest]
		for _, part := range [][]byte{raw[:len(raw)/3], raw[len(raw)/3:]} {
			if _, err := f.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.(Adopter).Adopt(desc, f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := c.put(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestAdoptedBlobsAreAsOthers(t *testing.T) {
	t.Parallel()
	c := testImage(20_000_000) // more than one writeback
	dir := t.TempDir()
	d, err := Create(t.Context(), "oci:"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c.adopt(t, d)
	if _, err := d.Commit(t.Context(), c.root); err != nil {
		t.Fatal(err)
	}
	same(t, read(t, "oci:"+dir, Options{}), c)
	other := t.TempDir()
	c.write(t, "oci:"+other, Options{})
	for desc := range c.bytes {
		a, errA := os.Stat(filepath.Join(dir, blobPath(desc)))
		b, errB := os.Stat(filepath.Join(other, blobPath(desc)))
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if a.Mode() != b.Mode() {
			t.Errorf("blob %s has the mode %s, one that was put %s", desc, a.Mode(), b.Mode())
		}
	}
	onlyBlobs(t, dir)
}

func TestAdoptedBlobsGoWithARunThatFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	d, err := Create(t.Context(), "oci:"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	testImage(1000).adopt(t, d)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestAFileOfAnotherSizeIsNotAdopted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := Create(t.Context(), "oci:"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, err := d.(Adopter).NewFile()
	if err != nil {
		t.Fatal(err)
	}
	desc := testImage(1000).root
	f.Write(make([]byte, desc.Size-1))
	wantError(t, d.(Adopter).Adopt(desc, f), "blob "+desc.Digest.String(), "the descriptor says")
	if err := f.Close(); err != nil { // still ours
		t.Error(err)
	}
	if there, err := d.Has(t.Context(), desc); there || err != nil {
		t.Errorf("it is there: %v", err)
	}
}

func TestFilesOfKilledRunsGoAfterADay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	testImage(1000).write(t, "oci:"+dir, Options{})
	old, young := filepath.Join(dir, tempPrefix+"1"), filepath.Join(dir, tempPrefix+"2")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, before, before); err != nil {
		t.Fatal(err)
	}
	testImage(1000).write(t, "oci:"+dir, Options{})
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old one is still there: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("a run at work lost its file: %v", err)
	}
}
