// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/vm"
)

const tableFile = "../../docs/attacks.md"

const tableHead = `# Attacks

What was tried against the verifier, on Debian's cloud kernels. In each cell: the operation that was
denied and the reason in the event (see [enforce.md](enforce.md)). Every attack works in the same
container without the verifier, and a file of the image still runs after it. A dash: the kernel
itself refuses the attack, as said there. [mechanisms.md](mechanisms.md) orders the attacks by kind
and names the hook that decides about each.

These tables are made by the tests that try them: ` + "`SBOM_BLESS_ALL=1 SBOM_BLESS_UPDATE=1 go test ./test/attack`" + `.
Last made from NOTHING.

`

const othersTitle = "## The same attacks, judged by others\n"

const othersHead = othersTitle + `
The same files in the same containers on the same kernel, without our verifier.

- *IMA appraisal* is the kernel's own. It demands a signature (` + "`appraise_type=imasig`" + `)
  of everything that is executed, or mapped executable, on any filesystem. Every file that the image
  lists has one.
- *fapolicyd* is 2.0 of Debian's unstable suite with ` + "`integrity=sha256`" + ` and the known-libs
  rules. It trusts the files that the image lists.

Neither claims to deny all of this. *denied*: what the attack asks for was refused. **works**: it was
not. For changes of a listed file under IMA that means: the file is changed, and refused when it is
next executed. A dash: the attack cannot be tried, because the kernel refuses it anyway or because a
step before it was denied.

`

// checkTable compares what the guests printed with the first table in docs, or
// writes it when $SBOM_BLESS_UPDATE says so.
func checkTable(t *testing.T, outputs map[vm.Kernel][]byte) {
	if t.Failed() {
		return
	}
	if !slices.Equal(vm.Kernels, kernelsOf(outputs)) {
		checkColumns(t, outputs)
		return
	}
	if table := table(outputs, vm.Kernels, attacks); table != "" {
		checkDocs(t, func(have string) string {
			_, others, _ := strings.Cut(have, othersTitle)
			if others != "" {
				others = "\n" + othersTitle + others
			}
			return tableHead + table + others
		})
	}
}

// checkColumns compares the columns of some kernels.
func checkColumns(t *testing.T, outputs map[vm.Kernel][]byte) {
	seen := table(outputs, vm.Kernels, attacks)
	docs, err := os.ReadFile(tableFile)
	if err != nil {
		t.Error(err)
	}
	docs, _, _ = bytes.Cut(docs, []byte(othersTitle))
	have := map[string][]string{} // the cells of an attack
	for line := range strings.Lines(string(docs)) {
		if cells := strings.Split(line, " | "); len(cells) > len(vm.Kernels) {
			have[cells[0]] = cells[1:]
		}
	}
	for line := range strings.Lines(seen) {
		cells := strings.Split(line, " | ")
		if len(cells) <= len(vm.Kernels) {
			continue // the rule below the head
		}
		for i, k := range vm.Kernels {
			if _, ran := outputs[k]; ran && (len(have[cells[0]]) <= i || have[cells[0]][i] != cells[1+i]) {
				t.Errorf("%s does not have what was seen on %s: %s", tableFile, k, line)
			}
		}
	}
}

// checkOthers does the same with the second table.
func checkOthers(t *testing.T, outputs *outputs) {
	var columns []vm.Kernel
	for _, name := range []string{imaColumn, fapolicydColumn} {
		for _, k := range othersKernels {
			columns = append(columns, vm.Kernel(name+" "+string(k)))
		}
	}
	all := outputs.all()
	if t.Failed() || len(all) != len(columns) {
		return
	}
	tried := slices.DeleteFunc(slices.Clone(attacks), func(a *attack) bool { return a.ours })
	if table := table(all, columns, tried); table != "" {
		checkDocs(t, func(have string) string {
			first, _, _ := strings.Cut(have, "\n"+othersTitle)
			return first + "\n" + othersHead + table
		})
	}
}

// table is the rows that the guests printed; "" when some were not tried.
func table(outputs map[vm.Kernel][]byte, columns []vm.Kernel, attacks []*attack) string {
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
	var b strings.Builder
	fmt.Fprint(&b, "| attack |")
	for _, k := range columns {
		fmt.Fprintf(&b, " %s |", k)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, a := range attacks {
		if cells[a.name] == nil {
			return "" // picked with -run
		}
		fmt.Fprintf(&b, "| %s |", a.name)
		for _, k := range columns {
			fmt.Fprintf(&b, " %s |", strings.TrimPrefix(cells[a.name][k], "denied "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// madeFrom is the line that says what the tables were made from, which differs each time.
var madeFrom = regexp.MustCompile(`(?m)^Last made from .*$`)

// checkDocs compares the file with what it should be, given what it is.
func checkDocs(t *testing.T, want func(have string) string) {
	have, err := os.ReadFile(tableFile)
	if err != nil {
		t.Error(err)
		return
	}
	text := want(string(have))
	made := string(madeFrom.Find(have))
	if os.Getenv("SBOM_BLESS_UPDATE") != "" {
		commit, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output()
		if err != nil {
			t.Errorf("git describe: %v", err)
		}
		made = fmt.Sprintf("Last made from commit %s, %s.", bytes.TrimSpace(commit), time.Now().UTC().Format(time.DateOnly))
	}
	text = madeFrom.ReplaceAllString(text, made)
	if os.Getenv("SBOM_BLESS_UPDATE") != "" {
		if err := os.WriteFile(tableFile, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
		return
	}
	if text != string(have) {
		t.Errorf("%s is not what was seen; SBOM_BLESS_UPDATE=1 rewrites it. Seen:\n%s", tableFile, text)
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
