// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unpack makes a root filesystem of an image with umoci.
func unpack(t *testing.T, layout string) string {
	t.Helper()
	dir := filepath.Join(workdir(t), "bundle")
	run(t, "umoci", "unpack", "--image", layout+":"+tag, dir)
	return filepath.Join(dir, "rootfs")
}

// verified runs evmctl on many files at a time and returns how many it found right.
func verified(t *testing.T, der string, verb []string, list []string) int {
	t.Helper()
	n := 0
	for chunk := range slices.Chunk(list, 1000) {
		stdout, stderr, err := try(t, "evmctl", slices.Concat(verb, []string{"--key", der}, chunk)...)
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

var imaVerify = []string{"ima_verify"}

// sample takes every n-th file so that about 200 are left.
func sample(list []string) []string {
	var some []string
	for i := 0; i < len(list); i += max(1, len(list)/200) {
		some = append(some, list[i])
	}
	return some
}

func TestEvmctlAcceptsEveryFileThatUmociUnpacked(t *testing.T) {
	for name, blessed := range map[string]func() (image, error){"ECDSA P-256": ecdsa, "RSA-2048": rsa} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			im := must[image](t)(blessed())
			root := unpack(t, im.layout)
			checkAttributes(t, root)
			list := files(t, root)
			if n := verified(t, im.prefix+".der", imaVerify, list); n != len(list) {
				t.Errorf("evmctl accepts %d of %d files", n, len(list))
			}
		})
	}
}

func TestEvmctlRefusesAFileWithOneChangedByte(t *testing.T) {
	im := must[image](t)(ecdsa())
	root := unpack(t, im.layout)
	path := filepath.Join(root, "usr/bin/bash")
	if n := verified(t, im.prefix+".der", imaVerify, []string{path}); n != 1 {
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
	im := must[image](t)(ecdsa())
	out := filepath.Join(t.TempDir(), "evm")
	must[string](t)(sbomBless("bless", "oci:"+im.source+":"+tag, "-t", "oci:"+out+":"+tag, "--key", im.prefix+".key", "--evm", "--no-cache", "--quiet"))
	root := unpack(t, out)
	// ping-like files with capabilities and setuid programs are what portable signatures are for.
	list := append(sample(files(t, root)), filepath.Join(root, "usr/bin/passwd"), filepath.Join(root, "etc/shadow"))
	verify := []string{"verify", "--portable"}
	if n := verified(t, im.prefix+".der", verify, list); n != len(list) {
		t.Errorf("evmctl accepts %d of %d files", n, len(list))
	}
	path := filepath.Join(root, "usr/bin/passwd")
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := try(t, "evmctl", "verify", "--portable", "--key", im.prefix+".der", path); err == nil {
		t.Errorf("evmctl accepts the file after chmod: %s", stderr)
	}
}

func TestHashOnlyAttributesAreThoseOfEvmctl(t *testing.T) {
	source := must[string](t)(debian())
	for _, hash := range []string{"sha256", "sha512"} {
		out := filepath.Join(t.TempDir(), hash)
		must[string](t)(sbomBless("bless", "oci:"+source+":"+tag, "-t", "oci:"+out+":"+tag, "--hash-only", "--hash", hash, "--bpf-files", "none", "--no-cache", "--quiet"))
		root := unpack(t, out)
		for _, path := range sample(files(t, root)) {
			want := must[[]byte](t)(hex.DecodeString(run(t, "evmctl", "ima_hash", "-a", hash, "-n", path)))
			if got := attribute(t, path, "security.ima"); !bytes.Equal(got, want) {
				t.Errorf("%s: %x, evmctl says %x", path, got, want)
			}
		}
	}
}
