// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// TestHeader holds the list of hooks that bless.bpf.c begins with to those that there are.
func TestHeader(t *testing.T) {
	source, err := os.ReadFile("bpf/bless.bpf.c")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := loadBless()
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(string(source), "A hook filters")
	listed := map[string]bool{}
	for _, name := range regexp.MustCompile(`\b[a-z]+(_[a-z]+)+\b|\bbpf\b`).FindAllString(header, -1) {
		listed[name] = true
	}
	found := map[string]bool{}
	for name, p := range spec.Programs {
		if p.Type == ebpf.LSM && !listed[p.AttachTo] {
			t.Errorf("%s is on hook %s, which the header does not list", name, p.AttachTo)
		}
		found[p.AttachTo] = true
		if !strings.HasPrefix(name, prefix) {
			t.Errorf("program %s does not start with %s", name, prefix)
		}
	}
	for name := range listed {
		if found[name] {
			continue
		}
		t.Errorf("the header lists %s, which no program is on", name)
	}
}
