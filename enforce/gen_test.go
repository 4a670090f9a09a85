// SPDX-License-Identifier: Apache-2.0

package enforce_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The committed programs are what their source compiles to.
func TestGenerated(t *testing.T) {
	version, err := exec.Command("clang", "--version").Output()
	if err != nil {
		t.Fatalf("clang: %v (Debian package clang)", err)
	}
	if !bytes.Contains(version, []byte("clang version 14.")) {
		t.Skipf("compiled with clang 14, which this is not: %s", version)
	}
	gen, err := os.ReadFile("gen.go")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	commands := strings.Split(string(gen), "//go:generate go run ")[1:]
	if len(commands) == 0 {
		t.Fatal("gen.go has no command")
	}
	for _, command := range commands {
		tool, args, _ := strings.Cut(strings.TrimSpace(command), " ")
		cmd := exec.Command("go", append([]string{"run", tool, "-output-dir", dir}, strings.Fields(args)...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, name := range []string{"bless_bpfel.go", "bless_bpfel.o", "trial_bpfel.go", "trial_bpfel.o"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s is not what its source in bpf gives: make generate", name)
		}
	}
}
