// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ima

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/testima"
	"golang.org/x/sys/unix"
)

// program is a static ELF executable of 132 bytes that does exit(0), and then
// extra, which the kernel does not map.
func program(extra string) []byte {
	code := []byte{
		0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
		0x31, 0xff, //        xor edi, edi
		0x0f, 0x05, //        syscall
	}
	const base, headers = 0x400000, 64 + 56
	le := binary.LittleEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = le.AppendUint16(b, 2)    // e_type: ET_EXEC
	b = le.AppendUint16(b, 0x3e) // e_machine: EM_X86_64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+headers) // e_entry
	b = le.AppendUint64(b, 64)           // e_phoff
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} { // sizes; one program header
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // p_type: PT_LOAD
	b = le.AppendUint32(b, 5) // p_flags: r-x
	for _, v := range []uint64{0, base, base, uint64(headers + len(code)), uint64(headers + len(code)), 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(append(b, code...), extra...)
}

// unpack extracts a tar as a container runtime does: content, owner, mode,
// then the extended attributes of the SCHILY.xattr records.
func unpack(dir string, src io.Reader) error {
	tr := tar.NewReader(src)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpackEntry(dir, h, tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func unpackEntry(dir string, h *tar.Header, src io.Reader) error {
	path := filepath.Join(dir, h.Name)
	switch h.Typeflag {
	case tar.TypeDir:
		return os.Mkdir(path, 0o755)
	case tar.TypeLink:
		return os.Link(filepath.Join(dir, h.Linkname), path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, src); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Chown(path, h.Uid, h.Gid); err != nil {
		return err
	}
	if err := unix.Chmod(path, uint32(h.Mode)); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if err := unix.Setxattr(path, name, []byte(h.PAXRecords[key]), 0); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// archive makes a tar of programs, one for each name, as a layer would have it.
func archive(t *testing.T, uid int, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		content := program(name)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Uid: uid, Gid: uid, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// trust is testima.Trust.
func trust(t *testing.T, keyring string, signers ...*signer) int {
	t.Helper()
	var list []*testima.Signer
	for _, s := range signers {
		list = append(list, s.Signer)
	}
	ring, err := testima.Trust(keyring, list...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func policy(t *testing.T, rules ...string) {
	t.Helper()
	if err := testima.Policy(rules...); err != nil {
		t.Fatal(err)
	}
}

func runs(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.Command(path).CombinedOutput(); err != nil {
		t.Errorf("%s does not run: %v %s", filepath.Base(path), err, out)
	}
}

func refused(t *testing.T, path string) {
	t.Helper()
	if err := exec.Command(path).Run(); !errors.Is(err, unix.EACCES) {
		t.Errorf("%s: %v, want EACCES", filepath.Base(path), err)
	}
}
