// SPDX-License-Identifier: Apache-2.0

//go:build linux

package containerd

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// event is what the test reads of a line of `sbom-bless enforce run`.
type event struct{ Container, Image, Action, Operation, Reason, Message, Path string }

// is tells whether an event has the fields of another that are not empty.
func (e event) is(want event) bool {
	fits := func(want, got string) bool { return want == "" || want == got }
	return fits(want.Container, e.Container) && fits(want.Action, e.Action) && fits(want.Operation, e.Operation) &&
		fits(want.Reason, e.Reason) && fits(want.Path, e.Path) && fits(want.Image, e.Image) && strings.Contains(e.Message, want.Message)
}

// agent is a running `sbom-bless enforce run`.
type agent struct {
	cmd     *exec.Cmd
	adopted bool

	mu     sync.Mutex
	events []event
	errors []string // what it wrote to stderr
}

// enforce runs a command of the product.
func enforce(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(product, append([]string{"enforce"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("enforce %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// startAgent starts an agent and returns when the verifier is in force.
func startAgent(t *testing.T, args ...string) *agent {
	t.Helper()
	a := &agent{cmd: exec.Command(product, append([]string{"enforce", "run"}, args...)...)}
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := a.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	said, err := lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(said, "verifier ") {
		t.Fatalf("the agent does not start: %q %v", said, err)
	}
	go func() { // what goes wrong later
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			a.mu.Lock()
			a.errors = append(a.errors, line)
			a.mu.Unlock()
		}
	}()
	a.adopted = strings.HasPrefix(said, "verifier adopted")
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			var e event
			if json.NewDecoder(bytes.NewReader(lines.Bytes())).Decode(&e) != nil {
				continue // cut off by the kill
			}
			a.mu.Lock()
			a.events = append(a.events, e)
			a.mu.Unlock()
		}
	}()
	return a
}

func (a *agent) kill(t *testing.T) {
	t.Helper()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = a.cmd.Wait() // says that it was killed
}

// said waits for a denial.
func (a *agent) said(container, operation, reason string) bool {
	return a.saw(event{Container: container, Action: "denied", Operation: operation, Reason: reason})
}

// saw waits for an event with these fields, where they are not empty.
func (a *agent) saw(want event) bool {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if a.has(want) {
			return true
		}
	}
	return false
}

// has tells whether such an event came already.
func (a *agent) has(want event) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.events, func(e event) bool { return e.is(want) })
}

// must is saw, and fails without.
func (a *agent) must(t *testing.T, want event) {
	t.Helper()
	if !a.saw(want) {
		a.mu.Lock()
		defer a.mu.Unlock()
		var had []string
		for _, e := range a.events[max(0, len(a.events)-40):] {
			had = append(had, fmt.Sprintf("%+v", e))
		}
		t.Errorf("no event %+v\nthe last were:\n%s\nstderr: %v", want, strings.Join(had, "\n"), a.errors)
	}
}

// forget drops the events so far.
func (a *agent) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = nil
}

// messages are what was denied.
func (a *agent) messages() (list []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if e.Action == "denied" {
			list = append(list, e.Message)
		}
	}
	return list
}
