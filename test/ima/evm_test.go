// SPDX-License-Identifier: Apache-2.0

package ima

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// capability is a security.capability of revision 2 with CAP_NET_BIND_SERVICE
// permitted (struct vfs_cap_data in linux/capability.h).
var capability = []byte{0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// EVM protects owner, mode and the other security attributes of a file, and a
// portable signature over them travels in a layer.
func TestEVM(t *testing.T) {
	vm.Test(t, nil, vm.Config{Append: "ima_appraise=enforce"}, func(t *testing.T, k vm.Kernel) {
		var signers []*signer
		for _, kind := range kinds(k) {
			signers = append(signers, newSigner(t, kind))
		}
		trust(t, "_ima", signers...)
		trust(t, "_evm", signers...)
		// EVM_INIT_X509 and EVM_SETUP_COMPLETE: signatures, no HMAC.
		if err := os.WriteFile("/sys/kernel/security/evm", []byte("0x80000002"), 0); err != nil {
			t.Fatal(err)
		}
		policy(t, "appraise func=BPRM_CHECK fowner=7777 appraise_type=imasig")
		for _, s := range signers {
			t.Run(s.kind, func(t *testing.T) { evm(t, s, newSigner(t, s.kind)) })
		}
	})
}

func evm(t *testing.T, s, stranger *signer) {
	header := tar.Header{Name: "program", Mode: 0o755, Uid: wantsSignature, Gid: 50}
	content := program("evm")
	// place unpacks a layer that was blessed as signed, and changed after it.
	place := func(t *testing.T, by *signer, attrs map[string][]byte, change func(h *tar.Header)) string {
		t.Helper()
		h := header
		layer := by.blessWithEVM(t, h, content, attrs)
		if change != nil {
			layer = rewrite(t, layer, change)
		}
		return filepath.Join(unpacked(t, layer), "program")
	}
	t.Run("a program as it was signed runs", func(t *testing.T) {
		runs(t, place(t, s, nil, nil))
	})
	t.Run("a program with a capability runs", func(t *testing.T) {
		runs(t, place(t, s, map[string][]byte{"security.capability": capability}, nil))
	})
	for name, change := range map[string]func(h *tar.Header){
		"a program with another group is refused":        func(h *tar.Header) { h.Gid = 51 },
		"a program with another mode is refused":         func(h *tar.Header) { h.Mode = 0o4755 },
		"a program with a capability more is refused":    func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.security.capability"] = string(capability) },
		"a program without its EVM signature is refused": func(h *tar.Header) { delete(h.PAXRecords, "SCHILY.xattr.security.evm") },
	} {
		t.Run(name, func(t *testing.T) { refused(t, place(t, s, nil, change)) })
	}
	t.Run("a program signed by a key that is not trusted is refused", func(t *testing.T) {
		refused(t, place(t, stranger, nil, nil))
	})
	t.Run("the kernel keeps mode and owner as they were signed", func(t *testing.T) {
		path := place(t, s, nil, nil)
		if err := unix.Chmod(path, 0o4755); !errors.Is(err, unix.EPERM) {
			t.Errorf("chmod: %v, want EPERM", err)
		}
		if err := os.Chown(path, 0, 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("chown: %v, want EPERM", err)
		}
		runs(t, path)
	})
}

// rewrite makes a tar of one entry again, with its header changed.
func rewrite(t *testing.T, layer []byte, change func(h *tar.Header)) []byte {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(layer))
	h, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	var content bytes.Buffer
	if _, err := content.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	records := h.PAXRecords
	*h = tar.Header{Name: h.Name, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, Size: h.Size, PAXRecords: records}
	change(h)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
