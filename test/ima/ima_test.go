// SPDX-License-Identifier: Apache-2.0

// Package ima has the kernel's own integrity subsystem judge what bless wrote:
// Documentation/ABI/testing/ima_policy and security/integrity of each kernel
// that package vm boots. Debian's kernels have no trusted keyring for IMA, so
// root can fill the keyrings _ima and _evm from user space.
package ima

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// The owner of a file picks the rule that judges it.
const (
	wantsSignature = 7777 // appraise_type=imasig
	takesDigest    = 7778 // no appraise_type: a digest or a signature
	wantsV3        = 7779 // appraise_type=sigv3, for ordinary files from 7.x
)

// hasSigV3 tells whether the kernel takes signatures of version 3 on files
// without fs-verity.
func hasSigV3(k vm.Kernel) bool { return strings.HasPrefix(string(k), "7.") }

func TestAppraisal(t *testing.T) {
	config := vm.Config{
		Append: "ima_appraise=enforce",
		Host: func(_ vm.TB, c *vm.Config) {
			if c.Kernel == "6.1" {
				c.Modules = append(c.Modules, "sha512_generic") // built into the later ones
			}
		},
	}
	vm.Test(t, nil, config, func(t *testing.T, k vm.Kernel) {
		rules := []string{
			"appraise func=BPRM_CHECK fowner=7777 appraise_type=imasig",
			"appraise func=BPRM_CHECK fowner=7778",
		}
		if hasSigV3(k) {
			rules = append(rules, "appraise func=BPRM_CHECK fowner=7779 appraise_type=sigv3")
		}
		var signers []*signer
		for _, kind := range kinds(k) {
			signers = append(signers, newSigner(t, kind))
		}
		trust(t, "_ima", signers...)
		policy(t, rules...)
		for _, s := range signers {
			t.Run(s.kind, func(t *testing.T) { appraisal(t, k, s) })
		}
	})
}

// kinds are the keys that the kernel can use. Debian's 6.1 has no ECDSA.
func kinds(k vm.Kernel) []string {
	if k == "6.1" {
		return []string{"rsa-2048", "rsa-4096"}
	}
	return []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096"}
}

func appraisal(t *testing.T, k vm.Kernel, s *signer) {
	// blessed gives the directory of an unpacked layer.
	blessed := func(t *testing.T, uid int, set func(content []byte) []byte, names ...string) string {
		return unpacked(t, bless(t, archive(t, uid, names...), set))
	}
	v2 := func(h crypto.Hash) func([]byte) []byte {
		return func(content []byte) []byte { return s.ima(t, h, content, 2) }
	}
	v3 := func(content []byte) []byte { return s.ima(t, crypto.SHA256, content, 3) }
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		t.Run("a program signed over its "+h.String()+" runs", func(t *testing.T) {
			runs(t, filepath.Join(blessed(t, wantsSignature, v2(h), "signed"), "signed"))
		})
	}
	t.Run("a program changed after its signature was judged is refused", func(t *testing.T) {
		path := filepath.Join(blessed(t, wantsSignature, v2(crypto.SHA256), "changed"), "changed")
		runs(t, path)
		add(t, path)
		refused(t, path)
	})
	t.Run("a program changed before its first run is refused", func(t *testing.T) {
		path := filepath.Join(blessed(t, wantsSignature, v2(crypto.SHA256), "changed"), "changed")
		add(t, path)
		refused(t, path)
	})
	t.Run("a layer changed after it was blessed gives a program that is refused", func(t *testing.T) {
		layer := bless(t, archive(t, wantsSignature, "changed"), v2(crypto.SHA256))
		refused(t, filepath.Join(unpacked(t, bytes.Replace(layer, program("changed"), program("CHANGED"), 1)), "changed"))
	})
	t.Run("a program without a signature is refused", func(t *testing.T) {
		refused(t, filepath.Join(blessed(t, wantsSignature, nil, "unsigned"), "unsigned"))
	})
	t.Run("a program with the signature of another is refused", func(t *testing.T) {
		other := v2(crypto.SHA256)(program("other"))
		refused(t, filepath.Join(blessed(t, wantsSignature, func([]byte) []byte { return other }, "swapped"), "swapped"))
	})
	t.Run("a program signed by a key that is not trusted is refused", func(t *testing.T) {
		stranger := newSigner(t, s.kind)
		refused(t, filepath.Join(blessed(t, wantsSignature, func(b []byte) []byte { return stranger.ima(t, crypto.SHA256, b, 2) }, "strange"), "strange"))
	})
	t.Run("a digest is refused where a signature is required", func(t *testing.T) {
		refused(t, filepath.Join(blessed(t, wantsSignature, digest, "digest"), "digest"))
	})
	t.Run("a digest is enough where the rule says so", func(t *testing.T) {
		runs(t, filepath.Join(blessed(t, takesDigest, digest, "digest"), "digest"))
	})
	t.Run("a wrong digest is refused", func(t *testing.T) {
		refused(t, filepath.Join(blessed(t, takesDigest, func(b []byte) []byte { return digest(b[1:]) }, "wrong"), "wrong"))
	})
	t.Run("a signature of version 3 runs from kernel 7 on", func(t *testing.T) {
		if !hasSigV3(k) {
			refused(t, filepath.Join(blessed(t, wantsSignature, v3, "v3"), "v3"))
			return
		}
		runs(t, filepath.Join(blessed(t, wantsV3, v3, "v3"), "v3"))
		refused(t, filepath.Join(blessed(t, wantsV3, v2(crypto.SHA256), "v2"), "v2"))
		path := filepath.Join(blessed(t, wantsV3, v3, "v3"), "v3")
		add(t, path)
		refused(t, path)
	})
}

// digest is the value of security.ima that --hash-only gives.
func digest(content []byte) []byte {
	sum := sha256.Sum256(content)
	return append([]byte{4, 4}, sum[:]...)
}

func unpacked(t *testing.T, layer []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := unpack(dir, bytes.NewReader(layer)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// add makes a program longer: it would still run.
func add(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("."); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&0o111 == 0 {
		t.Fatalf("%s cannot be tried: mode %o, %v", path, st.Mode, err)
	}
}
