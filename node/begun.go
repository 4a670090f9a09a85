// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Confinement is what the kernel holds a container's processes to, beside the verifier.
type Confinement struct {
	// Seccomp is "none", "strict" or "filter", NoNewPrivs the flag of that name: each of the
	// process that is held to least.
	Seccomp    string `json:"seccomp"`
	NoNewPrivs bool   `json:"noNewPrivs"`
}

var seccompModes = map[string]string{"0": "none", "1": "strict", "2": "filter"} // proc(5)

// ConfinementOf looks at the processes in a cgroup and below it. It gives nil while none of them
// has executed anything of the container: a runtime's setup process gets its seccomp profile last.
func ConfinementOf(cgroup string) *Confinement {
	var c *Confinement
	for _, pid := range processes(cgroup) {
		if !begun(pid) {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it ended
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(status)) {
			if name, value, ok := strings.Cut(line, ":"); ok {
				fields[name] = strings.TrimSpace(value)
			}
		}
		seccomp, nnp := fields["Seccomp"], fields["NoNewPrivs"] == "1"
		if seccompModes[seccomp] == "" {
			continue // the kernel has none
		}
		if c == nil {
			c = &Confinement{Seccomp: seccompModes[seccomp], NoNewPrivs: nnp}
		}
		c.NoNewPrivs = c.NoNewPrivs && nnp
		if seccomp == "0" {
			c.Seccomp = "none"
		}
	}
	return c
}

// begun tells whether a process executes a file that is on one of its own mounts. The executable
// of a runtime's setup process is on one of the host's, or on none (memfd).
func begun(pid int) bool {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/exe", pid), 0, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return false
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return false
	}
	id := fmt.Sprintf("%d ", st.Mnt_id)
	for line := range strings.Lines(string(mounts)) {
		if strings.HasPrefix(line, id) {
			return true
		}
	}
	return false
}

// Times of a container that was admitted a moment ago.
const (
	settling = 10 * time.Second // in which tasks of it may come by no fork of its own (CRIU)
	waiting  = time.Minute      // for its first program; later the minute's Sweep labels as well
)

// beginning is such a container.
type beginning struct {
	since time.Time
	seen  bool // its confinement was
}

// Begin looks at the containers that were admitted a moment ago: it has the tasks labelled that
// came into their cgroups without an execve, as CRIU restores them, and reports those that
// are enforced and have no seccomp profile.
func (a *Agent) Begin() error {
	a.mu.Lock()
	now := time.Now()
	cgroups := map[string]string{}
	label := false
	for key, b := range a.beginning {
		r := a.records[key]
		if r == nil || b.seen && now.Sub(b.since) > settling {
			delete(a.beginning, key)
			continue
		}
		cgroups[key] = r.Container.Cgroup
		label = label || now.Sub(b.since) < waiting
	}
	a.mu.Unlock()
	found := map[string]*Confinement{}
	for key, cgroup := range cgroups {
		if c := ConfinementOf(cgroup); c != nil {
			found[key] = c
		}
	}
	var err error
	if label { // after the look: what was seen is labelled
		err = a.o.Verifier.Label()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, c := range found {
		r, b := a.records[key], a.beginning[key]
		if r == nil || b == nil || b.seen {
			continue
		}
		b.seen = true
		if r.Enforce && c.Seccomp == "none" {
			a.notify(Notice{
				Operation: "container", Action: "reported", Reason: ReasonNoSeccomp, Container: r.Container.Name, Image: r.Container.image(), Domain: r.Domain,
				PID:     r.Container.PID,
				Message: fmt.Sprintf("reported: container %s of %s is enforced, but runs without a seccomp profile", r.Container.Name, r.Container.image()),
			})
		}
	}
	return err
}

// begins has Begin look at a container; the caller has the lock.
func (a *Agent) begins(key string) { a.beginning[key] = &beginning{since: time.Now()} }
