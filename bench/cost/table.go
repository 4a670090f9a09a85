// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// result is what one operation took in one phase, in instructions, or in nanoseconds of
// wall time, and how long it waited while the processor had nothing to do, in nanoseconds.
type result struct {
	phase, op    string
	cost, waited float64
}

// results are those of a boot, or of several of the same kernel: each begins
// with phase "none", which the others of that boot are compared with.
type results []result

// parse reads what a guest printed: a line for each batch. The median counts.
func parse(r io.Reader) (results, error) {
	var out results
	type batch struct{ cost, waited float64 }
	batches := map[[2]string][]batch{}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var phase, op string
		var b batch
		if n, _ := fmt.Sscanf(lines.Text(), "COST %s %s %f %f", &phase, &op, &b.cost, &b.waited); n != 4 {
			continue
		}
		key := [2]string{phase, op}
		if batches[key] == nil {
			out = append(out, result{phase: phase, op: op})
		}
		batches[key] = append(batches[key], b)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no results")
	}
	for i, r := range out {
		all := batches[[2]string{r.phase, r.op}]
		slices.SortFunc(all, func(a, b batch) int { return cmp.Compare(a.cost, b.cost) })
		out[i].cost, out[i].waited = all[len(all)/2].cost, all[len(all)/2].waited
	}
	return out, nil
}

var titles = map[string]string{
	"exec": "fork, execve, wait of /usr/bin/true", "mmap": "mmap PROT_EXEC, munmap", "read4k": "open, read 4 KiB, close",
	"read64k": "open, read 64 KiB, close", "stat": "stat", "write": "write 4 KiB", "create": "create, write 4 KiB, close, unlink",
	"first": "first fork, execve, wait of a program", "refused": "fork, execve, wait of a program of 1 MiB that is in no list",
}

// printTable prints, for each phase after a "none", what it adds to each
// operation.
func printTable(w io.Writer, b boot, all results) {
	unit := "instructions"
	if b.scenario == "wall" {
		unit = "wall time, ns,"
	}
	fmt.Fprintf(w, "\n### Kernel %s\n\n| operation | in force | %s without | with | added | waits, ms |\n|---|---|---|---|---|---|\n", b.kernel, unit)
	none := map[string]float64{}
	for _, r := range all {
		if r.phase == "none" {
			none[r.op] = r.cost
			continue
		}
		base := none[r.op]
		fmt.Fprintf(w, "| %s | %s | %.0f | %.0f | %+.0f, %+.2f %% | %.2f |\n", titles[r.op], strings.ReplaceAll(r.phase, "_", " "), base, r.cost, r.cost-base, 100*(r.cost/base-1), r.waited/1e6)
	}
}
