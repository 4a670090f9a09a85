// SPDX-License-Identifier: Apache-2.0

package bless_test

import (
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/sbom-bless/sbom-bless/bless"
)

// smallDisk mounts a file system of one megabyte.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root to mount a small file system\nhint: sudo -E go test")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	return dir
}

// A disk that is full where the image passes ends the run and keeps nothing.
func TestFullDiskLeavesNothing(t *testing.T) {
	signer, _ := newSigner(t)
	source := lay(t, caseNamed(t, "large-file")) // 32 MiB when packed
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")

	for _, tc := range []struct {
		name string
		run  func(t *testing.T, small string) error
		left string // what may stay: empty directories
	}{
		{"of the destination", func(t *testing.T, small string) error {
			_, err := blessRef(source, "oci:"+small+"/out", signer, bless.Options{})
			return err
		}, ""},
		{"of the cache, the destination a registry", func(t *testing.T, small string) error {
			return withCache(t, source, host+"/app:1", small)
		}, "blobs layers packages"},
		{"of temporary files", func(t *testing.T, small string) error {
			_, err := blessRef(source, host+"/app:1", signer, bless.Options{TempDir: small})
			return err
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			small := smallDisk(t)
			if err := tc.run(t, small); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("error %v, want one of no space", err)
			}
			var names []string
			left, err := os.ReadDir(small)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				names = append(names, e.Name())
			}
			if got := strings.Join(names, " "); got != tc.left {
				t.Errorf("left behind: %q", got)
			}
			if files, _ := filepath.Glob(small + "/*/*/sbom-bless*"); len(files) > 0 {
				t.Errorf("left behind: %v", files)
			}
		})
	}
}

// A cache that cannot be written ends no run; it tells what kept it from remembering.
func TestFullDiskOfTheCache(t *testing.T) {
	small := smallDisk(t)
	signer, _ := newSigner(t)
	cache, err := bless.OpenCache(small)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blessRef(lay(t, caseNamed(t, "large-file")), "oci:"+t.TempDir(), signer, bless.Options{Cache: cache}); err != nil {
		t.Error(err)
	}
	if err := cache.Err(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the cache says %v", err)
	}
}

func withCache(t *testing.T, source, dest, dir string) error {
	t.Helper()
	signer, _ := newSigner(t)
	cache, err := bless.OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = blessRef(source, dest, signer, bless.Options{Cache: cache})
	return err
}
