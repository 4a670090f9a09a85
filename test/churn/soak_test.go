// SPDX-License-Identifier: Apache-2.0

//go:build linux

package churn

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

const (
	round     = 40 * time.Second // of churn
	disturbed = 15 * time.Second // its first part, in which agents are killed
	// What nobody said to be gone is forgotten within a minute (enforce.Enforcer.Sweep).
	patience = 100 * time.Second

	memoryGrowth = 8 << 10 // KiB, of what the kernel keeps
	agentMemory  = 96 << 10
	workers      = 2
)

// TestSoak is one round; `make soak` makes it an hour of them: $SBOM_BLESS_SOAK
// is how long.
func TestSoak(t *testing.T) {
	duration := time.Duration(0)
	if s := os.Getenv("SBOM_BLESS_SOAK"); s != "" {
		var err error
		if duration, err = time.ParseDuration(s); err != nil {
			t.Fatalf("SBOM_BLESS_SOAK: %v", err)
		}
	}
	config := vm.Config{
		Env: []string{"SBOM_BLESS_SOAK=" + duration.String()}, Timeout: duration + 10*time.Minute, Host: bringImage, Memory: 1536,
	}
	kernels := []vm.Kernel{"6.12"}
	if duration > 0 {
		kernels = nil // by $SBOM_BLESS_KERNEL, or all
	}
	vm.Test(t, kernels, config, func(t *testing.T, k vm.Kernel) { soak(t, duration) })
}

func soak(t *testing.T, duration time.Duration) {
	files, err := makeImage()
	if err != nil {
		t.Fatal(err)
	}
	s := &soaker{t: t, files: files}
	s.start()
	defer func() { s.agent.Process.Kill() }()
	if s.e, err = enforce.Open(options); err != nil {
		t.Fatal(err)
	}
	defer s.e.Close()
	s.churn(3*time.Second, false) // so that nothing is there for the first time later
	before, memoryBefore := s.quiet(nil)

	for n, end := 1, time.Now().Add(duration); n == 1 || time.Now().Before(end); n++ {
		s.churn(round, true)
		after, memory := s.quiet(before)
		t.Logf("round %d: %d containers, %d agents; the kernel keeps %+d KiB, the agent takes %d KiB",
			n, s.containers.Load(), s.agents, memory-memoryBefore, s.agentMemory())
		if left := after.beyond(before); len(left) > 0 {
			t.Fatalf("round %d left something behind: %v more than %v", n, left, before)
		}
		if memory-memoryBefore > memoryGrowth {
			t.Fatalf("round %d: the kernel keeps %d KiB more", n, memory-memoryBefore)
		}
		if kib := s.agentMemory(); kib > agentMemory {
			t.Fatalf("round %d: the agent takes %d KiB", n, kib)
		}
		s.count()
		if t.Failed() {
			return
		}
	}

	t.Run("a container that nobody forgets would be found", func(t *testing.T) {
		c, err := newContainer()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.e.Add(c.domain(), s.set(9)); err != nil {
			t.Fatal(err)
		}
		if err := c.remove(); err != nil {
			t.Fatal(err)
		}
		after, err := look()
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range []string{"entries of domains", "entries of sets", "maps set", "files in " + enforce.DefaultState + "/domains"} {
			if after[what] != before[what]+1 {
				t.Errorf("%s: %d, before %d", what, after[what], before[what])
			}
		}
	})
}

// soaker runs containers beside an agent.
type soaker struct {
	t          *testing.T
	files      []enforce.File
	e          *enforce.Enforcer
	agent      *exec.Cmd
	agents     int
	containers atomic.Uint64
}

// start starts an agent and waits until it is ready.
func (s *soaker) start() {
	s.t.Helper()
	s.agent = exec.Command("/proc/self/exe")
	s.agent.Env = append(os.Environ(), "STAGE=agent")
	s.agent.Stderr = os.Stderr
	out, err := s.agent.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.agent.Start(); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		s.t.Fatal("the agent does not start: ", s.agent.Wait())
	}
	s.agents++
}

// agent is what `enforce run` does.
func agent() error {
	e, err := enforce.Load(options)
	if err != nil {
		return err
	}
	if err := e.Canary(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- e.Events(time.Time{}, func(enforce.Event) error { return nil }) }()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	if _, err := os.Stdout.Write([]byte("\n")); err != nil {
		return err
	}
	for {
		select {
		case <-ended:
			return e.Close()
		case err := <-failed:
			return err
		case <-time.After(3 * time.Second):
			if err := errors.Join(e.Canary(), e.Sweep()); err != nil {
				return err
			}
		}
	}
}

// churn runs containers for a time; disturbed: agents are killed and upgraded
// meanwhile, and some containers end without anybody saying so.
func (s *soaker) churn(d time.Duration, disturb bool) {
	s.t.Helper()
	started := time.Now()
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for range workers {
		wg.Go(func() {
			for time.Since(started) < d {
				if err := s.one(disturb && time.Since(started) < disturbed); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for n := 0; disturb && time.Since(started) < disturbed; n++ {
		time.Sleep(2 * time.Second)
		if n%2 == 1 {
			s.replace(syscall.SIGKILL)
			continue
		}
		s.end(syscall.SIGKILL)
		s.start()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		s.t.Fatal(err)
	}
}

func (s *soaker) end(signal os.Signal) {
	s.t.Helper()
	if err := s.agent.Process.Signal(signal); err != nil {
		s.t.Fatalf("an agent ended by itself: %v", err)
	}
	s.agent.Wait()
}

// replace has an agent take over from one of another version: to it, programs
// under another name are.
func (s *soaker) replace(signal os.Signal) {
	s.t.Helper()
	s.end(signal)
	name, err := programsDir()
	if err == nil {
		err = os.Rename(name, enforce.DefaultPins+"/older")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

func (s *soaker) set(image int) enforce.Set {
	return enforce.Set{Name: fmt.Sprintf("registry.example/app%d@sha256:%064x", image, image), Files: s.files}
}

// one lets a container live and end.
func (s *soaker) one(silently bool) error {
	c, err := newContainer()
	if err != nil {
		return err
	}
	d := c.domain()
	if d.ID, err = s.e.Add(d, s.set(rand.IntN(3))); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if err := c.try(); err != nil {
		return err
	}
	s.containers.Add(1)
	if silently && rand.IntN(4) == 0 {
		return c.remove()
	}
	known, err := s.e.Domains()
	if err != nil {
		return err
	}
	for _, k := range known {
		if k.ID == d.ID {
			return errors.Join(s.e.Remove(k), c.remove())
		}
	}
	return fmt.Errorf("%s is not known", c.name)
}

// quiet looks at what is there when no container is: when that is no more than
// is wanted, or does not become so.
func (s *soaker) quiet(want traces) (traces, int) {
	s.t.Helper()
	// It holds a program of the version that it was opened with.
	err := s.e.Close()
	if err == nil {
		s.e, err = enforce.Open(options)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var now traces
	for end := time.Now().Add(patience); ; time.Sleep(time.Second) {
		last := now
		if now, err = look(); err != nil {
			s.t.Fatal(err)
		}
		if want != nil && len(now.beyond(want)) == 0 || want == nil && maps.Equal(now, last) || time.Now().After(end) {
			break
		}
	}
	memory, err := kernelMemory()
	if err != nil {
		s.t.Fatal(err)
	}
	return now, memory
}

// count checks that every attempt was denied for its reason, and nothing else.
func (s *soaker) count() {
	s.t.Helper()
	counters, err := s.e.Counters()
	if err != nil {
		s.t.Fatal(err)
	}
	n := s.containers.Load()
	if counters["writable-layer"] != n {
		s.t.Errorf("%d denials for %d dropped programs", counters["writable-layer"], n)
	}
	if counters["not-listed"] < n {
		s.t.Errorf("%d denials for %d programs that are not listed", counters["not-listed"], n)
	}
	for name, value := range counters {
		switch name {
		case "writable-layer", "not-listed", "judged-good", "hashed", "repeated":
		default:
			if value != 0 {
				s.t.Errorf("%s: %d", name, value)
			}
		}
	}
}

// agentMemory is what the agent has in memory, in KiB.
func (s *soaker) agentMemory() int {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.agent.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		s.t.Fatal(err)
	}
	return resident * os.Getpagesize() >> 10
}
