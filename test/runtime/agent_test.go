// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
)

// The test binary is the agent too.
func TestMain(m *testing.M) {
	if os.Getenv("STAGE") == "agent" {
		fmt.Fprintln(os.Stderr, "agent:", runAgent())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// report is a line of the agent's output.
type report struct {
	Loaded  bool
	Adopted bool
	Event   *enforce.Event
}

func runAgent() error {
	e, err := enforce.Load(enforce.Options{Pins: enforce.DefaultPins, State: enforce.DefaultState})
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(report{Loaded: true, Adopted: e.Adopted}); err != nil {
		return err
	}
	return e.Events(time.Time{}, func(ev enforce.Event) error { return out.Encode(report{Event: &ev}) })
}

type agent struct {
	cmd     *exec.Cmd
	adopted bool

	mu     sync.Mutex
	events []enforce.Event
}

// startAgent starts an agent and returns when the verifier is in force.
func startAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{cmd: exec.Command("/proc/self/exe")}
	a.cmd.Env = append(os.Environ(), "STAGE=agent")
	a.cmd.Stderr = os.Stderr
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	next := func() (r report, err error) {
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		return r, err
	}
	first, err := next()
	if err != nil || !first.Loaded {
		t.Fatalf("the agent does not start: %v", err)
	}
	a.adopted = first.Adopted
	go func() {
		for {
			r, err := next()
			if err != nil {
				return
			}
			a.mu.Lock()
			a.events = append(a.events, *r.Event)
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
	a.cmd.Wait()
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

func sum(b []byte) [32]byte { return sha256.Sum256(b) }
