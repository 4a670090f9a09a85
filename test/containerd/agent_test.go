// SPDX-License-Identifier: Apache-2.0

//go:build linux

package containerd

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// event is what the test reads of a line of `sbom-bless enforce run`.
type event struct{ Container, Action, Operation, Reason, Message string }

// agent is a running `sbom-bless enforce run`.
type agent struct {
	cmd     *exec.Cmd
	adopted bool

	mu     sync.Mutex
	events []event
}

// enforce runs a command of the product.
func enforce(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(product, append([]string{"enforce"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("enforce %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// startAgent starts an agent and returns when the verifier is in force.
func startAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{cmd: exec.Command(product, "enforce", "run")}
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
	said, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil || !strings.HasPrefix(said, "verifier ") {
		t.Fatalf("the agent does not start: %q %v", said, err)
	}
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

// said waits for an event.
func (a *agent) said(container, operation, reason string) bool {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		a.mu.Lock()
		for _, e := range a.events {
			if e.Container == container && e.Action == "denied" && e.Operation == operation && e.Reason == reason {
				a.mu.Unlock()
				return true
			}
		}
		a.mu.Unlock()
	}
	return false
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
