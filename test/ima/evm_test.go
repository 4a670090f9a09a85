// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ima

import (
	"archive/tar"
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"github.com/sbom-bless/sbom-bless/xattr"
	"golang.org/x/sys/unix"
)

// capability is a security.capability of revision 2 with CAP_NET_BIND_SERVICE
// permitted (struct vfs_cap_data in linux/capability.h).
const capability = "\x00\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// EVM protects owner, mode and the other security attributes of a file, and a
// portable signature over them travels in a layer.
func TestEVM(t *testing.T) {
	vm.Test(t, vm.Some("6.1", "7.3"), vm.Config{Append: "ima_appraise=enforce", Host: bringKeys}, func(t *testing.T, k vm.Kernel) {
		list := signers(t, k)
		trust(t, "_ima", list...)
		trust(t, "_evm", list...)
		enableEVM(t)
		policy(t, "appraise func=BPRM_CHECK fowner=7777 appraise_type=imasig")
		for _, s := range list {
			t.Run(s.Kind, func(t *testing.T) { evm(t, s) })
		}
	})
}

// enableEVM writes EVM_INIT_X509 and EVM_SETUP_COMPLETE: signatures, no HMAC.
func enableEVM(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/sys/kernel/security/evm", []byte("0x80000002"), 0); err != nil {
		t.Fatal(err)
	}
}

func evm(t *testing.T, s *signer) {
	// place unpacks a layer that was blessed as by signs, and changed after it.
	place := func(t *testing.T, by *signer, records map[string]string, change func(h *tar.Header)) string {
		t.Helper()
		layer := rewrite(t, archive(t, wantsSignature, "program"), func(h *tar.Header) { h.PAXRecords = records })
		layer = bless(t, layer, func(e *xattr.Entry, content []byte) map[string][]byte { return by.withEVM(t, e, content) })
		if change != nil {
			layer = rewrite(t, layer, change)
		}
		return filepath.Join(unpacked(t, layer), "program")
	}
	t.Run("a program as it was signed runs", func(t *testing.T) {
		runs(t, place(t, s, nil, nil))
	})
	t.Run("a program with a capability runs", func(t *testing.T) {
		runs(t, place(t, s, map[string]string{"SCHILY.xattr.security.capability": capability}, nil))
	})
	for name, change := range map[string]func(h *tar.Header){
		"a program with another group is refused":        func(h *tar.Header) { h.Gid = 51 },
		"a program with another mode is refused":         func(h *tar.Header) { h.Mode = 0o4755 },
		"a program with a capability more is refused":    func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.security.capability"] = capability },
		"a program without its EVM signature is refused": func(h *tar.Header) { delete(h.PAXRecords, "SCHILY.xattr.security.evm") },
	} {
		t.Run(name, func(t *testing.T) { refused(t, place(t, s, nil, change)) })
	}
	t.Run("a program signed by a key that is not trusted is refused", func(t *testing.T) {
		refused(t, place(t, stranger(t, s), nil, nil))
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

// withEVM gives the attributes of a file that bless --evm gives.
func (s *signer) withEVM(t *testing.T, e *xattr.Entry, content []byte) map[string][]byte {
	t.Helper()
	attrs := map[string][]byte{xattr.IMA: s.ima(t, xattr.SHA256, content, 2)}
	maps.Copy(attrs, e.Xattrs)
	evm, err := s.EVM(attrs, uint32(e.UID), uint32(e.GID), unix.S_IFREG|uint16(e.Mode))
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{xattr.IMA: attrs[xattr.IMA], xattr.EVM: evm}
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
