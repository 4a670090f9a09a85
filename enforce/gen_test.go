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
	cc, err := exec.LookPath("clang-14")
	if err != nil {
		t.Fatalf("%v\nhint: apt-get install clang-14; hack/dev.sh starts a container that has it", err)
	}
	t.Setenv("BPF2GO_CC", cc)
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
