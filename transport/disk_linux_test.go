// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// TestFullDisk writes to a file system of one megabyte.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("needs root to mount a small file system\nhint: sudo -E go test")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	small, big := testImage(1000), testImage(3_000_000)
	small.write(t, "oci:"+dir+"/l:small", Options{})
	source := t.TempDir()
	big.write(t, "oci:"+source, Options{})
	host := memoryRegistry(t)
	big.write(t, host+"/app:1", Options{})
	big.write(t, "docker-archive:"+source+"/d.tar", Options{})
	run(t, "gzip", "gzip", source+"/d.tar")

	for _, ref := range []string{"oci:" + dir + "/l:big", "oci:" + dir + "/new", "oci-archive:" + dir + "/a.tar", "docker-archive:" + dir + "/d.tar"} {
		d, err := Create(t.Context(), ref, Options{TempDir: source})
		if err != nil {
			t.Fatal(err)
		}
		if err = big.put(t.Context(), d); err == nil {
			_, err = d.Commit(t.Context(), big.root)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: error is %v", ref, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	onlyBlobs(t, dir+"/l")
	same(t, read(t, "oci:"+dir+"/l:small", Options{}), small)

	s, err := Open(t.Context(), host+"/app:1", Options{TempDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head, _ := parseHead(big.bytes[big.root.Digest], "")
	_, err = s.Blob(t.Context(), head.Layers[0])
	wantError(t, err, "blob "+head.Layers[0].Digest.String(), "no space left on device", "hint: TMPDIR")
	_, err = Open(t.Context(), "docker-archive:"+source+"/d.tar.gz", Options{TempDir: dir})
	wantError(t, err, "no space left on device", "hint: TMPDIR")
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
