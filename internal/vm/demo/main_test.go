// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

// TestDemo holds what README.md shows of the demo's node to what it prints.
func TestDemo(t *testing.T) {
	vm.OnlyInAll(t)
	source, err := testimage.Real(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	t.Setenv("SBOM_BLESS_PASSWORD", "")
	for _, args := range [][]string{
		{"env", "CGO_ENABLED=0", "go", "build", "-o", in("sbom-bless"), "github.com/sbom-bless/sbom-bless"},
		{in("sbom-bless"), "keygen", "--out", in("key")},
		{in("sbom-bless"), "bless", "oci:" + source, "-t", "oci:" + in("blessed"), "--key", in("key.key"), "--attestation-out", in("attestations"), "--no-cache"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	var out bytes.Buffer
	err = demo(io.MultiWriter(&out, os.Stderr), in("sbom-bless"), in("blessed"), in("attestations"), in("key.crt"), "../../../hack/demo-node.sh")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	said := strings.NewReplacer("\x1b[1m", "", "\x1b[0m", "").Replace(out.String())
	_, said, _ = strings.Cut(said, "Without enforcement")
	_, said, found := strings.Cut(said, "\n\nWith enforcement")
	said, _, _ = strings.Cut(said, "\n\nWhat the kernel reports of it")
	if shown := "    " + strings.ReplaceAll("With enforcement"+said, "\n", "\n    ") + "\n"; !found || !strings.Contains(string(readme), shown) {
		t.Errorf("README.md does not show\n%s", shown)
	}
}
