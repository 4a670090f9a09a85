// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fuzz

import (
	"fmt"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// try runs a sequence; if it breaks an invariant, it says so, and how few
// steps are enough for that. What is found already is said once.
func (w *world) try(t *testing.T, p plan, found map[string]bool) outcome {
	t.Helper()
	out, err := w.run(p, terms{verifier: true})
	w.tries.sequences++
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", p.seed, err, out.text(p))
	}
	if out.violation == nil {
		return out
	}
	short, shortOut, err := w.shrink(p, out)
	if err != nil {
		t.Fatalf("seed %d: %v", p.seed, err)
	}
	what := out.violation.invariant
	for _, s := range short.steps {
		what += ", " + s.kind
	}
	if !found[what] {
		t.Errorf("%s\nreplay: %s=%d go test -run TestFuzz ./test/fuzz\nthe sequence up to there:\n%s\nas short as it breaks the same:\n%s",
			out.violation, envSeed, p.seed, out.text(p), shortOut.text(short))
	}
	found[what] = true
	return out
}

// shrink drops steps while what is left still breaks the same invariant.
func (w *world) shrink(p plan, out outcome) (plan, outcome, error) {
	p.steps = p.steps[:out.at+1]
	breaks := func(p plan) (outcome, bool, error) {
		o, err := w.run(p, terms{verifier: true, careful: true})
		return o, o.violation != nil && o.violation.invariant == out.violation.invariant, err
	}
	for size := max(1, len(p.steps)/2); ; {
		dropped := false
		for i := 0; i < len(p.steps); {
			q := p
			q.steps = slices.Delete(slices.Clone(p.steps), i, min(i+size, len(p.steps)))
			o, broken, err := breaks(q)
			if err != nil {
				return p, out, err
			}
			if broken {
				p, out, dropped = q, o, true
				p.steps = p.steps[:o.at+1]
			} else {
				i += size
			}
		}
		if size == 1 && !dropped {
			return p, out, nil
		}
		size = max(1, size/2)
	}
}

// result is what a call gave, as people know it.
func result(r int64) string {
	if r < 0 && r > -4096 {
		return unix.ErrnoName(syscall.Errno(-r))
	}
	if r > 1<<32 {
		return fmt.Sprintf("%#x", r)
	}
	return fmt.Sprint(r)
}
