// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package ima has the kernel's own integrity subsystem judge what bless wrote:
// Documentation/ABI/testing/ima_policy and security/integrity of each kernel
// that package vm boots. Debian's kernels have no trusted keyring for IMA, so
// root can fill the keyrings _ima and _evm from user space.
package ima

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/testima"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"github.com/sbom-bless/sbom-bless/xattr"
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
		Host: func(t vm.TB, c *vm.Config) {
			bringKeys(t, c)
			if c.Kernel == "6.1" {
				c.Modules = append(c.Modules, "sha512_generic") // built into the later ones
			}
		},
	}
	vm.Test(t, vm.Some("6.1", "7.3"), config, func(t *testing.T, k vm.Kernel) {
		rules := []string{
			"appraise func=BPRM_CHECK fowner=7777 appraise_type=imasig",
			"appraise func=BPRM_CHECK fowner=7778",
		}
		if hasSigV3(k) {
			rules = append(rules, "appraise func=BPRM_CHECK fowner=7779 appraise_type=sigv3")
		}
		list := signers(t, k)
		trust(t, "_ima", list...)
		policy(t, rules...)
		for _, s := range list {
			t.Run(s.Kind, func(t *testing.T) { appraisal(t, k, s) })
		}
	})
}

func appraisal(t *testing.T, k vm.Kernel, s *signer) {
	// layer gives a layer with one program, blessed.
	layer := func(t *testing.T, uid int, ima func(content []byte) []byte, name string) []byte {
		return bless(t, archive(t, uid, name), func(_ *xattr.Entry, content []byte) map[string][]byte {
			if ima == nil {
				return nil
			}
			return map[string][]byte{xattr.IMA: ima(content)}
		})
	}
	// placed gives the path of a program from a blessed layer.
	placed := func(t *testing.T, uid int, ima func(content []byte) []byte, name string) string {
		return filepath.Join(unpacked(t, layer(t, uid, ima, name)), name)
	}
	v2 := func(h xattr.Hash) func([]byte) []byte {
		return func(content []byte) []byte { return s.ima(t, h, content, 2) }
	}
	v3 := func(content []byte) []byte { return s.ima(t, xattr.SHA256, content, 3) }
	for _, h := range []xattr.Hash{xattr.SHA256, xattr.SHA384, xattr.SHA512} {
		t.Run("a program signed over its "+h.String()+" runs", func(t *testing.T) {
			runs(t, placed(t, wantsSignature, v2(h), "signed"))
		})
	}
	t.Run("a program changed after its signature was judged is refused", func(t *testing.T) {
		path := placed(t, wantsSignature, v2(xattr.SHA256), "changed")
		runs(t, path)
		add(t, path)
		refused(t, path)
	})
	t.Run("a program changed before its first run is refused", func(t *testing.T) {
		path := placed(t, wantsSignature, v2(xattr.SHA256), "changed")
		add(t, path)
		refused(t, path)
	})
	t.Run("a layer changed after it was blessed gives a program that is refused", func(t *testing.T) {
		l := layer(t, wantsSignature, v2(xattr.SHA256), "changed")
		refused(t, filepath.Join(unpacked(t, bytes.Replace(l, program("changed"), program("CHANGED"), 1)), "changed"))
	})
	t.Run("a program without a signature is refused", func(t *testing.T) {
		refused(t, placed(t, wantsSignature, nil, "unsigned"))
	})
	t.Run("a program with the signature of another is refused", func(t *testing.T) {
		other := v2(xattr.SHA256)(program("other"))
		refused(t, placed(t, wantsSignature, func([]byte) []byte { return other }, "swapped"))
	})
	t.Run("a program signed by a key that is not trusted is refused", func(t *testing.T) {
		other := stranger(t, s)
		refused(t, placed(t, wantsSignature, func(b []byte) []byte { return other.ima(t, xattr.SHA256, b, 2) }, "strange"))
	})
	t.Run("a digest is refused where a signature is required", func(t *testing.T) {
		refused(t, placed(t, wantsSignature, digest, "digest"))
	})
	t.Run("a digest is enough where the rule says so", func(t *testing.T) {
		runs(t, placed(t, takesDigest, digest, "digest"))
	})
	t.Run("a wrong digest is refused", func(t *testing.T) {
		refused(t, placed(t, takesDigest, func(b []byte) []byte { return digest(b[1:]) }, "wrong"))
	})
	t.Run("a signature of version 3 runs from kernel 7 on", func(t *testing.T) {
		if !hasSigV3(k) {
			refused(t, placed(t, wantsSignature, v3, "v3"))
			return
		}
		runs(t, placed(t, wantsV3, v3, "v3"))
		refused(t, placed(t, wantsV3, v2(xattr.SHA256), "v2"))
		path := placed(t, wantsV3, v3, "v3")
		add(t, path)
		refused(t, path)
	})
}

// digest is the value of security.ima that --hash-only gives.
func digest(content []byte) []byte { return testima.Digest(xattr.SHA256, content).IMA() }

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
