// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// confined is a container whose only process is a sleep without a seccomp profile, or with this test's
// own.
func (r *rig) confined(name string) Container {
	r.t.Helper()
	c := r.container(name, "blessed")
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	c.PID = cmd.Process.Pid
	if err := os.WriteFile(c.Cgroup+"/cgroup.procs", []byte(strconv.Itoa(c.PID)), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// An enforced container without a seccomp profile is an event, once; one that is only audited is
// none until it is enforced. Tasks are labelled at each start, and while a container begins.
func TestBegin(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: audit\n")
	c := r.confined("a")
	own := ConfinementOf(c.Cgroup)
	if own == nil {
		t.Fatal("a program that runs is not seen")
	}
	if own.Seccomp != "none" {
		t.Skip("this test runs with a seccomp profile itself")
	}
	begin := func() (reported int) {
		t.Helper()
		if err := r.Begin(); err != nil {
			t.Fatal(err)
		}
		for _, n := range r.notices {
			if n.Reason == ReasonNoSeccomp {
				reported++
			}
		}
		return reported
	}
	if err := r.Admit(t.Context(), c, Starting); err != nil {
		t.Fatal(err)
	}
	if n := begin(); n != 0 {
		t.Errorf("%d events of an audited container", n)
	}
	r.write("keys: [k]\nmode: enforce\n")
	if err := r.Reload(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n := begin(); n != 1 {
			t.Errorf("%d events", n)
		}
	}
	before := r.kernel.labels
	if err := r.Admit(t.Context(), c, Running); err != nil || r.kernel.labels != before+1 {
		t.Errorf("a start labels nobody: %v", err)
	}
	if begin(); r.kernel.labels != before+2 {
		t.Error("a container that begins has its tasks labelled once only")
	}
}

// A process that executes nothing of its own mounts is the runtime's, and has no profile yet.
func TestBegun(t *testing.T) {
	if !begun(os.Getpid()) {
		t.Error("this test executes no file")
	}
	if begun(1 << 30) {
		t.Error("a process that is not there does")
	}
}
