// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// ecdsaRoot and rsaRoot are the files of the images, as umoci unpacks them. Tests
// only read them.
var (
	ecdsaRoot = sync.OnceValues(func() (string, error) { return unpack(ecdsa()) })
	rsaRoot   = sync.OnceValues(func() (string, error) { return unpack(rsa()) })
)

func unpack(im image, err error) (string, error) {
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(im.layout), "bundle")
	out, err := exec.Command("umoci", "unpack", "--image", im.layout+":"+tag, dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("umoci unpack: %w: %s", err, out)
	}
	return filepath.Join(dir, "rootfs"), nil
}

// verified has evmctl judge many files at a time and returns how many it found right.
func verified(t *testing.T, der string, list []string) int {
	t.Helper()
	n := 0
	for chunk := range slices.Chunk(list, 1000) {
		stdout, stderr, err := try(t, "evmctl", append([]string{"ima_verify", "--key", der}, chunk...)...)
		out := stdout + stderr
		n += strings.Count(out, "verification is OK")
		if err != nil {
			for _, line := range strings.Split(out, "\n") {
				if !strings.HasSuffix(line, "verification is OK") && line != "" {
					t.Logf("evmctl: %s", line)
				}
			}
			t.Errorf("evmctl: %v", err)
		}
	}
	return n
}

// sample takes every so many files so that about n are left.
func sample(list []string, n int) []string {
	var some []string
	for i := 0; i < len(list); i += max(1, len(list)/n) {
		some = append(some, list[i])
	}
	return some
}

func TestEvmctlAcceptsEveryFileThatUmociUnpacked(t *testing.T) {
	need(t, "umoci")
	for _, c := range []struct {
		name    string
		blessed func() (image, error)
		root    func() (string, error)
	}{{"ECDSA P-256", ecdsa, ecdsaRoot}, {"RSA-2048", rsa, rsaRoot}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			im, root := must[image](t)(c.blessed()), must[string](t)(c.root())
			checkAttributes(t, root)
			list := files(t, root)
			if n := verified(t, im.prefix+".der", list); n != len(list) {
				t.Errorf("evmctl accepts %d of %d files", n, len(list))
			}
		})
	}
}

// copied is a copy of a file of the image, attributes included, for a test to damage.
func copied(t *testing.T, root, name string) string {
	t.Helper()
	path := filepath.Join(workdir(t), "copy")
	run(t, "cp", "-a", filepath.Join(root, name), path)
	// attr's xattr.conf has cp leave this one out.
	if evm := attribute(t, filepath.Join(root, name), "security.evm"); evm != nil {
		if err := syscall.Setxattr(path, "security.evm", evm, 0); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestEvmctlRefusesAFileWithOneChangedByte(t *testing.T) {
	need(t, "umoci")
	im, root := must[image](t)(ecdsa()), must[string](t)(ecdsaRoot())
	path := copied(t, root, "usr/bin/bash")
	if n := verified(t, im.prefix+".der", []string{path}); n != 1 {
		t.Fatal("evmctl does not accept the file before the change")
	}
	f := must[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
	defer f.Close()
	b := make([]byte, 1)
	must[int](t)(f.ReadAt(b, 100000))
	b[0] ^= 1
	must[int](t)(f.WriteAt(b, 100000))
	if _, stderr, err := try(t, "evmctl", "ima_verify", "--key", im.prefix+".der", path); err == nil {
		t.Errorf("evmctl accepts the changed file: %s", stderr)
	}
}

func TestEvmctlAcceptsPortableSignaturesAndRefusesThemAfterChmod(t *testing.T) {
	need(t, "umoci")
	im, root := must[image](t)(rsa()), must[string](t)(rsaRoot())
	verify := func(path string) error {
		_, _, err := try(t, "evmctl", "verify", "--portable", "--key", im.prefix+".der", path)
		return err
	}
	// Owner, group and mode are what these sign: so setuid, setgid and shadowed files above all.
	list := append(sample(files(t, root), 100), filepath.Join(root, "usr/bin/passwd"), filepath.Join(root, "usr/bin/chage"), filepath.Join(root, "etc/shadow"))
	for _, path := range list {
		if err := verify(path); err != nil {
			t.Errorf("evmctl refuses %s: %v", path, err)
		}
	}
	path := copied(t, root, "usr/bin/passwd")
	if err := verify(path); err != nil {
		t.Fatalf("evmctl refuses the copy before chmod: %v", err)
	}
	// chmod(2) keeps the attribute; the kernel would refuse it from here on.
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := verify(path); err == nil {
		t.Error("evmctl accepts the file after chmod")
	}
}

func TestHashOnlyAttributesAreThoseOfEvmctl(t *testing.T) {
	need(t, "umoci")
	im := image{layout: filepath.Join(t.TempDir(), "hashed")}
	must[string](t)(sbomBless("bless", "oci:"+must[string](t)(debian())+":"+tag, "-t", im.ref(),
		"--hash-only", "--hash", "sha512", "--bpf-files", "none", "--no-attestations", "--no-cache", "--quiet"))
	root := must[string](t)(unpack(im, nil))
	for _, path := range sample(files(t, root), 100) {
		want := must[[]byte](t)(hex.DecodeString(run(t, "evmctl", "ima_hash", "-a", "sha512", "-n", path)))
		if got := attribute(t, path, "security.ima"); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, evmctl says %x", path, got, want)
		}
	}
}
