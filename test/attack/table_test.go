// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/vm"
)

const tableFile = "../../docs/attacks.md"

const tableHead = `# Attacks

What was tried against the verifier, on Debian's cloud kernels. In each cell: the operation that was denied with EPERM and
the reason in the event (see [enforce.md](enforce.md)). Every attack works in the same container without the verifier, and a file of the
image still runs after it. A dash: the kernel itself refuses the attack, as said there.

This table is made by the test that tries them: ` + "`SBOM_BLESS_UPDATE=1 go test ./test/attack`" + `.

`

// checkTable compares what the guests printed with the table in docs, or
// writes it when $SBOM_BLESS_UPDATE says so.
func checkTable(t *testing.T, outputs map[vm.Kernel][]byte) {
	if t.Failed() || len(outputs) == 0 || !slices.Equal(vm.Kernels, kernelsOf(outputs)) {
		return // one kernel, or one attack, tried by hand
	}
	cells := map[string]map[vm.Kernel]string{}
	for k, out := range outputs {
		for line := range strings.Lines(string(out)) {
			_, line, _ = strings.Cut(line, "ROW\t") // behind the framing of go test
			if name, cell, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
				if cells[name] == nil {
					cells[name] = map[vm.Kernel]string{}
				}
				cells[name][k] = cell
			}
		}
	}
	var b bytes.Buffer
	b.WriteString(tableHead)
	fmt.Fprint(&b, "| attack |")
	for _, k := range vm.Kernels {
		fmt.Fprintf(&b, " %s |", k)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(vm.Kernels)) + "\n")
	for _, a := range attacks {
		if cells[a.name] == nil {
			return // picked with -run
		}
		fmt.Fprintf(&b, "| %s |", a.name)
		for _, k := range vm.Kernels {
			fmt.Fprintf(&b, " %s |", strings.TrimPrefix(cells[a.name][k], "denied "))
		}
		b.WriteByte('\n')
	}
	if os.Getenv("SBOM_BLESS_UPDATE") != "" {
		if err := os.WriteFile(tableFile, b.Bytes(), 0o644); err != nil {
			t.Error(err)
		}
		return
	}
	have, err := os.ReadFile(tableFile)
	if err != nil {
		t.Error(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Errorf("%s is not what was seen; SBOM_BLESS_UPDATE=1 rewrites it. Seen:\n%s", tableFile, b.Bytes())
	}
}

func kernelsOf(outputs map[vm.Kernel][]byte) (out []vm.Kernel) {
	for _, k := range vm.Kernels {
		if _, ok := outputs[k]; ok {
			out = append(out, k)
		}
	}
	return out
}
