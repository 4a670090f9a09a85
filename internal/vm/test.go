// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// EnvKernel names the variable that picks kernels: "7.3", or "6.1,7.3".
const EnvKernel = "SBOM_BLESS_KERNEL"

// EnvAll names the variable by which `make test-all` asks for the tests that `make test` leaves out.
const EnvAll = "SBOM_BLESS_ALL"

// OnlyInAll skips such a test unless it was asked for.
func OnlyInAll(t *testing.T) {
	t.Helper()
	if Guest() == "" && os.Getenv(EnvAll) == "" {
		t.Skip("not part of make test: make test-all runs it")
	}
}

// Some gives the kernels that a test takes for each change; make test-all takes all.
func Some(kernels ...Kernel) []Kernel {
	if os.Getenv(EnvAll) != "" || os.Getenv(EnvKernel) != "" {
		return nil
	}
	return kernels
}

// Guest tells the kernel's name inside a guest, and "" on the host.
func Guest() Kernel { return Kernel(os.Getenv(EnvGuest)) }

// Test runs body in a guest of each kernel.
//
// The test function that calls it runs twice: on the host, where Test boots
// the kernels with the package's test binary, and in the guest, where Test
// calls body. So Test should be all that the function does; what the host has
// to prepare goes to c.Host. kernels nil means all of [Kernels]. A failed,
// skipped or silent subtest of the guest is that on the host too, under
// TestName/KERNEL/..., and so -run TestName/7.3/sub picks one. The guest starts in /, without the
// package's testdata unless c.Files brings it.
//
// It is skipped with -short.
func Test(t *testing.T, kernels []Kernel, c Config, body func(t *testing.T, k Kernel)) {
	t.Helper()
	if k := Guest(); k != "" {
		body(t, k)
		return
	}
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	kernels, err := choose(kernels)
	if err != nil {
		t.Fatal(err)
	}
	binary := compileTest(t)
	for _, k := range kernels {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			c := c
			c.Kernel, c.Program = k, binary
			files := map[string]string{}
			maps.Copy(files, c.Files)
			c.Files = files
			c.Args = append([]string{"-test.v=test2json", "-test.run=" + guestPattern(t.Name())}, c.Args...)
			if c.Host != nil {
				c.Host(t, &c)
			}
			r, err := Run(context.Background(), c)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("the machine was on for %v, and kept processors busy for %v", r.Time.Round(time.Second), r.Processor.Round(time.Second))
			root, err := results(r.Output)
			if err != nil {
				t.Fatalf("%v\n%s", err, tail(r.Output))
			}
			// The kernel stands for the test function itself.
			top := root
			for range strings.Count(t.Name(), "/") {
				if len(top.sub) != 1 {
					t.Fatalf("the guest ran no test (exit status %d):\n%s", r.Exit, tail(r.Output))
				}
				top = top.sub[0]
			}
			top.replay(t)
			if r.Exit != 0 && !t.Failed() {
				t.Errorf("exit status %d:\n%s", r.Exit, tail(r.Output))
			}
		})
	}
}

// choose gives the kernels that the user picked of those that a test wants. None is an
// error: a test that ran nowhere has not passed.
func choose(wanted []Kernel) ([]Kernel, error) {
	if wanted == nil {
		wanted = Kernels
	}
	pick := os.Getenv(EnvKernel)
	if pick == "" {
		return wanted, nil
	}
	var chosen []Kernel
	for name := range strings.SplitSeq(pick, ",") {
		k := Kernel(name)
		if !slices.Contains(Kernels, k) {
			return nil, fmt.Errorf("%s: %q is not one of %v", EnvKernel, k, Kernels)
		}
		if slices.Contains(wanted, k) {
			chosen = append(chosen, k)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%s=%s: this test takes %v, none of these\nhint: leave the variable out, or pick other tests with -run", EnvKernel, pick, wanted)
	}
	return chosen, nil
}

// guestPattern is the -run pattern for the guest: the functions that led to
// the host's test name (all of it but the kernel), then what the host's own
// pattern says below the kernel.
func guestPattern(name string) string {
	path := strings.Split(name, "/")
	path = path[:len(path)-1]
	for i, p := range path {
		path[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	given := strings.Split(flag.Lookup("test.run").Value.String(), "/")
	if below := len(path) + 1; len(given) > below {
		path = append(path, given[below:]...)
	}
	return strings.Join(path, "/")
}

// compileTest links the package's tests statically, because the running binary may need
// a libc or be built with -race, and without debug information, because guests hash it.
func compileTest(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "test")
	if err := goStatic("test", "-c", "-ldflags=-s -w", "-o", binary, "."); err != nil {
		t.Fatal(err)
	}
	return binary
}

// result is a test of the guest.
type result struct {
	name    string // the last part
	outcome string // pass, fail, skip; empty when it did not end
	output  []string
	sub     []*result
}

// results reads the output of a test binary that ran with -test.v=test2json.
func results(output []byte) (*result, error) {
	cmd := exec.Command("go", "tool", "test2json")
	cmd.Stdin = bytes.NewReader(output)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool test2json: %w", err)
	}
	root := new(result)
	for line := range bytes.Lines(out) {
		var e struct{ Action, Test, Output string }
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("go tool test2json: %w", err)
		}
		r := root.find(e.Test)
		switch e.Action {
		case "pass", "fail", "skip":
			r.outcome = e.Action
		case "output":
			if !framing.MatchString(e.Output) {
				r.output = append(r.output, strings.TrimRight(e.Output, "\n"))
			}
		}
	}
	return root, nil
}

// framing is what the testing package prints around a test's own words.
var framing = regexp.MustCompile(`^(=== |\s*--- (PASS|FAIL|SKIP): |PASS$|FAIL$)`)

func (r *result) find(name string) *result {
	if name == "" {
		return r
	}
	first, rest, _ := strings.Cut(name, "/")
	for _, s := range r.sub {
		if s.name == first {
			return s.find(rest)
		}
	}
	s := &result{name: first}
	r.sub = append(r.sub, s)
	return s.find(rest)
}

// replay makes t what r was.
func (r *result) replay(t *testing.T) {
	for _, s := range r.sub {
		t.Run(s.name, s.replay)
	}
	text := strings.TrimRight(strings.Join(r.output, "\n"), "\n")
	if text != "" {
		t.Log("in the guest:\n" + text)
	}
	switch r.outcome {
	case "pass":
	case "skip":
		t.SkipNow()
	case "fail":
		t.Fail()
	default:
		t.Error("did not end in the guest")
	}
}
