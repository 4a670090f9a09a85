// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/policy"
)

// trial is a policy that was put in force until somebody confirms it, and the one
// before it. It is kept in the state directory, for an agent that is killed
// meanwhile.
type trial struct {
	// Before is the text to go back to, Tried the one that is, or was, in force.
	Before []byte `json:"before"`
	Tried  []byte `json:"tried"`
	// Until it holds unconfirmed; zero: it was rolled back.
	Until time.Time `json:"until,omitzero"`
}

func trialPath(state string) string { return filepath.Join(state, "trial.json") }

// PolicyInForce is where the agent keeps a copy of the policy in force, for hooks
// that find no agent.
func PolicyInForce(state string) string { return filepath.Join(state, "policy.yaml") }

// Start puts the policy file in force, or what an unfinished trial of it says, and
// applies it to the containers that an agent before this one knew. A bad file leaves
// in force what was, if an agent ran since boot, and its trial goes on.
func (a *Agent) Start(ctx context.Context) error {
	a.reload.Lock() // a deadline that passes meanwhile waits
	defer a.reload.Unlock()
	if err := a.Glass(); err != nil {
		a.problem("", err) // what follows puts it right
	}
	var t trial
	err := readJSON(trialPath(a.o.State), &t)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	text, unread := os.ReadFile(a.o.Policy)
	a.tried = text
	switch {
	case unread != nil:
		err = fmt.Errorf("policy: %w", unread)
	case err == nil:
		err = a.start(ctx, text, t)
	}
	if err == nil {
		return nil
	}
	text, e := os.ReadFile(PolicyInForce(a.o.State))
	if errors.Is(e, fs.ErrNotExist) {
		return err
	}
	if e == nil {
		e = a.start(ctx, text, t)
	}
	if e != nil {
		return errors.Join(err, e)
	}
	a.notify(Notice{Operation: "policy", Action: "refused", Message: "refused, the one before stays in force: " + firstLine(err)})
	return nil
}

func (a *Agent) start(ctx context.Context, text []byte, t trial) error {
	if !bytes.Equal(t.Tried, text) {
		if err := a.take(ctx, text, true); err != nil {
			return err
		}
		return a.endTrial()
	}
	left := time.Until(t.Until)
	if left > 0 {
		a.await(left)
		return a.take(ctx, text, true)
	}
	if err := a.take(ctx, t.Before, true); err != nil {
		return err
	}
	a.notify(Notice{Operation: "policy", Action: "rolled-back", Message: a.o.Policy + " was not confirmed in time: the policy before it stays in force"})
	t.Until = time.Time{}
	return writeJSON(trialPath(a.o.State), t)
}

// Reload puts the policy file in force, for all containers or, when there is an
// error, for none. With confirm, the policy before it comes back after that
// time unless Confirm is called.
func (a *Agent) Reload(ctx context.Context, confirm time.Duration) error {
	if confirm < 0 {
		return fmt.Errorf("%s is no time to confirm a policy in\nhint: a time above zero, such as 60s", confirm)
	}
	text, err := os.ReadFile(a.o.Policy)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	a.reload.Lock()
	defer a.reload.Unlock()
	a.tried = text
	a.mu.Lock()
	before := a.force.text
	if a.confirm != nil { // an earlier trial: what was before that is what was confirmed last
		var t trial
		if err := readJSON(trialPath(a.o.State), &t); err == nil {
			before = t.Before
		}
	}
	a.mu.Unlock()
	earlier, err := os.ReadFile(trialPath(a.o.State))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if confirm > 0 {
		if err := writeJSON(trialPath(a.o.State), trial{Before: before, Tried: text, Until: time.Now().Add(confirm)}); err != nil {
			return err
		}
	}
	if err := a.take(ctx, text, false); err != nil {
		a.notify(Notice{Operation: "policy", Action: "refused", Message: "refused, nothing changed: " + firstLine(err)})
		switch {
		case confirm > 0 && earlier != nil: // its deadline stands
			err = errors.Join(err, writeFile(trialPath(a.o.State), earlier))
		case confirm > 0:
			err = errors.Join(err, os.Remove(trialPath(a.o.State)))
		}
		return err
	}
	if confirm > 0 {
		a.await(confirm)
		return nil
	}
	return a.endTrial()
}

// Follow puts the policy file in force if it is another than was last tried. A file that was refused
// is not tried again until it changes.
func (a *Agent) Follow(ctx context.Context) error {
	text, err := os.ReadFile(a.o.Policy)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	a.reload.Lock()
	same := bytes.Equal(text, a.tried)
	a.reload.Unlock()
	if same {
		return nil
	}
	return a.Reload(ctx, 0)
}

// ErrNothingToConfirm says that no policy is on trial.
var ErrNothingToConfirm = errors.New("no policy awaits confirmation")

// Confirm keeps the policy in force that is on trial.
func (a *Agent) Confirm() error {
	a.reload.Lock()
	defer a.reload.Unlock()
	a.mu.Lock()
	pending := a.confirm != nil
	a.mu.Unlock()
	if !pending {
		return ErrNothingToConfirm
	}
	a.notify(Notice{Operation: "policy", Action: "confirmed", Message: a.o.Policy + " was confirmed"})
	return a.endTrial()
}

// endTrial forgets a trial, if there is one.
func (a *Agent) endTrial() error {
	a.mu.Lock()
	if a.confirm != nil {
		a.confirm.Stop()
		a.confirm = nil
	}
	a.mu.Unlock()
	if err := os.Remove(trialPath(a.o.State)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// rollBackAgain is the time after which a policy is rolled back that could not be.
const rollBackAgain = 10 * time.Second

// await rolls the policy back when the time is over.
func (a *Agent) await(left time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.confirm != nil {
		a.confirm.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		a.reload.Lock()
		defer a.reload.Unlock()
		a.mu.Lock()
		current := a.confirm == timer
		a.mu.Unlock()
		if !current { // confirmed, or tried anew, at the last moment
			return
		}
		if err := a.rollBack(); err != nil {
			timer.Reset(rollBackAgain)
			a.notify(Notice{Operation: "policy", Action: "refused", Message: "roll back: " + err.Error()})
		}
	})
	a.confirm = timer
}

func (a *Agent) rollBack() error {
	var t trial
	if err := readJSON(trialPath(a.o.State), &t); err != nil {
		return err
	}
	if err := a.take(context.Background(), t.Before, true); err != nil {
		return err
	}
	a.mu.Lock()
	a.confirm = nil
	a.mu.Unlock()
	a.notify(Notice{Operation: "policy", Action: "rolled-back", Message: a.o.Policy + " was not confirmed in time: the policy before it is in force again"})
	t.Until = time.Time{}
	return writeJSON(trialPath(a.o.State), t)
}

// take makes a policy the one in force, if it can be for every container, and its copy can
// be kept for hooks. With each, as at the start of an agent, a container that cannot have it
// is told of, and keeps what it has until Sweep tries again; without a copy it is in force, and
// there is an error.
func (a *Agent) take(ctx context.Context, text []byte, each bool) error {
	p, err := policy.Parse(a.o.Policy, text)
	if err != nil {
		return err
	}
	ready, err := a.o.Prepare(ctx, p)
	if err != nil {
		return fmt.Errorf("%s: %w", a.o.Policy, err)
	}
	next := &inForce{text: text, rules: p, ready: ready}
	staged, unstaged := stageFile(PolicyInForce(a.o.State), text)
	if unstaged != nil && !each {
		return unstaged
	}
	err = a.switchTo(ctx, next, each, func() error {
		if unstaged != nil {
			return unstaged
		}
		return os.Rename(staged, PolicyInForce(a.o.State))
	})
	if err != nil && staged != "" {
		return errors.Join(err, os.Remove(staged))
	} else if err != nil {
		return err
	}
	a.notify(Notice{Operation: "policy", Action: "applied", Message: fmt.Sprintf("%s is in force: %d matches, for the rest %s", a.o.Policy, len(p.Matches), p.Default.Mode)})
	return nil
}

// switchTo decides anew for every container, then makes all of it so, and keeps it. A container
// that comes meanwhile waits for the end of it.
func (a *Agent) switchTo(ctx context.Context, next *inForce, each bool, keep func() error) error {
	type change struct {
		c         Container
		then, now decision
	}
	var changes []change
	decided := map[string]bool{}
	for {
		a.mu.Lock()
		var containers []Container
		for key, r := range a.records {
			if !decided[key] {
				containers = append(containers, r.Container)
			}
		}
		if len(containers) == 0 {
			break // with the lock: none comes until all is changed
		}
		before := a.force
		a.mu.Unlock()
		var of []change
		for _, c := range containers {
			decided[c.key()] = true
			if c.refresh() {
				of = append(of, change{c: c})
			} else {
				a.later(&c)
			}
		}
		var deciding errgroup.Group
		deciding.SetLimit(16) // lists are fetched, from who may not answer
		for i := range of {
			deciding.Go(func() error {
				ch := &of[i]
				ch.now = next.decide(ctx, &ch.c)
				if before != nil {
					ch.then = before.decide(ctx, &ch.c)
				}
				return ctx.Err()
			})
		}
		if err := deciding.Wait(); err != nil {
			return err
		}
		changes = append(changes, of...)
	}
	defer a.mu.Unlock()
	if err := next.ready.Use(); err != nil { // changes nothing, then
		return fmt.Errorf("keys: %w", err)
	}
	before := a.force
	a.force = next
	back := func(err error, changed []change) error {
		errs := []error{err, before.ready.Use()}
		a.force = before
		for i := range changed {
			if _, err := a.apply(&changed[i].c, &changed[i].then, Running); err != nil && changed[i].c.refresh() {
				errs = append(errs, fmt.Errorf("container %s: back: %w", changed[i].c.Name, err))
			}
		}
		return errors.Join(errs...)
	}
	for i := range changes {
		_, err := a.apply(&changes[i].c, &changes[i].now, Running)
		if err == nil || !changes[i].c.refresh() {
			continue
		}
		err = fmt.Errorf("container %s: %w", changes[i].c.Name, err)
		if !each {
			return back(err, changes[:i+1]) // the last may be half changed
		}
		a.behind[changes[i].c.key()] = true
		a.notify(Notice{Operation: "container", Container: changes[i].c.Name, Action: "unchanged", Message: err.Error()})
	}
	if err := keep(); err != nil {
		if !each {
			return back(err, changes)
		}
		return err
	}
	return a.keepPods()
}

// broken tells whether the glass is broken.
func (a *Agent) broken() bool {
	if a.o.BreakGlass == "" {
		return false
	}
	_, err := os.Lstat(a.o.BreakGlass)
	return err == nil
}

// Glass looks at the break-glass file, and applies and reports it when it came or went. It
// asks nobody for a list and waits for no change of policy, and a container that fails
// keeps none of the others: Sweep tries that again.
func (a *Agent) Glass() error {
	now := a.broken()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.glass == now {
		return nil
	}
	a.glass = now
	var errs []error
	for key, r := range a.records {
		if !r.Enforce {
			continue
		}
		err := a.o.Verifier.SetEnforce(r.Domain, !now)
		if err == nil {
			continue
		}
		a.behind[key] = true
		if r.Container.refresh() {
			errs = append(errs, fmt.Errorf("break-glass: container %s: %w", r.Container.Name, err))
		}
	}
	errs = append(errs, a.keepPods())
	a.glassNotice(now) // who hears it can rely on it
	return errors.Join(errs...)
}

func (a *Agent) glassNotice(broken bool) {
	n := Notice{Operation: "break-glass", Action: "closed", Message: "the policy holds again: " + a.o.BreakGlass + " is gone"}
	if broken {
		n.Action, n.Message = "broken", "nothing is denied while there is "+a.o.BreakGlass+glassReason(a.o.BreakGlass)
	}
	a.notify(n)
}

// glassReason is what whoever broke it wrote down, in one line.
func glassReason(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 200)
	n, _ := f.Read(b)
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	if line == "" {
		return ""
	}
	return fmt.Sprintf(": %q", line)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
