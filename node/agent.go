// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sbom-bless/sbom-bless/diagnose"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/policy"
)

// Options are what an agent is made of. All but BreakGlass, Own and Metrics is required.
type Options struct {
	Verifier Verifier
	// Prepare makes a policy ready. An error means that it is not taken.
	Prepare func(ctx context.Context, p *policy.Policy) (*Ready, error)
	// Policy is the file.
	Policy string
	// State is a directory on a tmpfs, Store one that survives reboots.
	State, Store string
	// BreakGlass is a file: while it is there, nothing is denied.
	BreakGlass string
	// Own is the cgroup of this process. If it runs in a container, that one is left alone: what has
	// the label of a container is not the agent for the verifier.
	Own string
	// Notify gets what there is to tell.
	Notify func(Notice)
	// Metrics count; nil: nobody does.
	Metrics *Metrics
}

// Agent decides under what each container runs.
type Agent struct {
	o      Options
	tally  *Tally
	recent diagnose.Recent

	mu      sync.Mutex // of what follows
	force   *inForce
	records map[string]*record
	behind  map[string]bool // containers that could not have the policy in force
	// beginning has the containers that Begin is to look at.
	beginning map[string]*beginning
	// alone has what was told of containers that are left alone. They have no record, so each scan
	// meets them as new.
	alone map[string]told
	// pods has the domains of closed pods by their cgroup; 0: it is being closed.
	pods    map[string]uint32
	glass   bool        // is broken: nothing is denied
	confirm *time.Timer // the policy in force awaits its confirmation

	reload sync.Mutex // one change of policy at a time
	tried  []byte     // the text of the policy file that was last tried; of reload
}

// New makes an agent that has read what one before it left. Start puts its
// policy in force.
func New(o Options) (*Agent, error) {
	a := &Agent{o: o, records: map[string]*record{}, behind: map[string]bool{}, beginning: map[string]*beginning{}, alone: map[string]told{}, pods: map[string]uint32{}}
	for _, dir := range []string{filepath.Join(o.State, "containers"), o.Store} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	if a.tally, err = OpenTally(o.Store); err != nil { // no reason to watch nothing
		a.problem("", fmt.Errorf("statistics begin anew: %w", err))
	}
	err = errors.Join(a.readRecords(), a.closedPods())
	if o.Metrics != nil {
		o.Metrics.agent.Store(a)
	}
	return a, err
}

// Refused says that the policy forbids a container to start.
type Refused struct {
	Container, Image string
	Because          *Unblessed
}

func (r *Refused) Error() string {
	return fmt.Sprintf("container %s of %s may not start: %s: %v", r.Container, r.Image, r.Because.Reason, r.Because)
}

// Stage is where in its life a container is admitted.
type Stage int

// A starting container can be refused. One that runs cannot; its processes are
// looked at if it may have run anything yet.
const (
	Starting Stage = iota
	Created
	Running
)

// Admit puts a container under what the policy says, or changes that. A
// *Refused error means that it must not start; any other one, that the verifier
// could not be told. One whose list does not come by the deadline of ctx is unblessed
// until Sweep gets the list.
func (a *Agent) Admit(ctx context.Context, c Container, stage Stage) error {
	if a.o.Own != "" && c.Cgroup == a.o.Own {
		return nil
	}
	for {
		a.mu.Lock()
		force := a.force
		a.known(&c)
		a.mu.Unlock()
		d := force.decide(ctx, &c)
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		if d.watch {
			// Others must not wait for it. Should it fail, so does what comes next.
			_ = a.o.Verifier.Prepare(enforce.Domain{Root: c.Root, Rules: d.rules}, d.set)
		}
		a.mu.Lock()
		if a.force != force { // meanwhile, the policy changed
			a.mu.Unlock()
			continue
		}
		domain, err := a.apply(&c, &d, stage)
		var refused *Refused
		if err != nil && !errors.As(err, &refused) && stage == Starting {
			err = a.failed(&c, &d, err)
		}
		a.mu.Unlock()
		if err == nil && stage == Running && domain != 0 {
			// Its tasks may be in the cgroup since it was made, and have executed nothing: CRIU's.
			err = a.o.Verifier.Label()
		}
		if err == nil && stage == Running && domain != 0 && d.watch {
			a.drift(ctx, &c, domain, &d, driftBudget)
		}
		if err != nil && !errors.As(err, &refused) {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
		return err
	}
}

// failed is a starting container that the verifier could not be told of. Where the policy
// wants no unblessed one it does not start, for nothing would watch it.
func (a *Agent) failed(c *Container, d *decision, why error) error {
	rules, _ := a.force.rules.For(c.match())
	if a.glass || !d.watch || unblessedAnswer(&rules, c) != policy.AnswerDeny {
		return why
	}
	n := d.without(policy.AnswerDeny)
	n.unblessed = &Unblessed{ReasonNotEnforced, why}
	a.tell(c, &n, 0)
	return &Refused{c.Name, c.image(), n.unblessed}
}

// apply makes a decision so, and tells of it. It gives the container's domain; 0 is
// none.
func (a *Agent) apply(c *Container, d *decision, stage Stage) (uint32, error) {
	enforced := d.watch && d.rules.Enforce
	if a.glass {
		n := d.reporting()
		d = &n
	}
	old := a.known(c)
	ino, err := inode(c.Cgroup)
	if err != nil {
		return 0, err
	}
	var alone *record // as it was until now
	if old != nil && old.Exempt {
		if !d.watch {
			return 0, nil
		}
		alone, old = old, nil
	}
	if earlier := a.records[c.key()]; earlier != nil && old == nil && alone == nil {
		if err := a.replace(earlier); err != nil {
			return 0, err
		}
	}
	if d.refuse && stage == Starting && old == nil {
		a.tell(c, d, 0)
		return 0, &Refused{c.Name, c.image(), d.unblessed}
	}
	if old == nil && !d.watch {
		a.tell(c, d, 0)
		if !a.inClosedPod(c) {
			return 0, nil
		}
		return 0, a.exempt(c, d, ino)
	}
	if c.Cgroup == cgroups {
		return 0, fmt.Errorf("process %d is in the cgroup of all processes of the host, which is no container's", c.PID)
	}
	if old != nil {
		c.RootAt = old.Container.RootAt
	}
	if c.RootAt == (place{}) {
		c.RootAt, _ = placeOf(c.Root) // of one that is not there, the verifier says so
	}
	r := &record{Container: *c, Inode: ino, Silent: !d.watch, Enforce: enforced, List: d.set.Digest, Files: len(d.set.Files)}
	if d.unblessed != nil {
		r.Reason = d.unblessed.Reason
	}
	if old != nil {
		r.Domain = old.Domain
		err = a.update(c, d, r.Domain)
	}
	if old == nil || errors.Is(err, errDomainGone) {
		r.Domain, err = a.add(c, d)
	}
	if errors.Is(err, enforce.ErrUnfit) && d.unblessed == nil && old == nil {
		return a.cannot(c, d, stage, err)
	}
	if err != nil {
		return 0, err
	}
	if alone != nil {
		if err := a.unexempt(alone); err != nil {
			return 0, err
		}
	}
	if old == nil || old.Silent != r.Silent || old.Reason != r.Reason {
		a.tell(c, d, r.Domain)
	}
	if old == nil || r.Enforce && !old.Enforce {
		a.begins(c.key())
	}
	a.tally.Image(d.set)
	if err := a.keep(r); err != nil || !d.refuse || stage != Starting {
		return r.Domain, err
	}
	return r.Domain, &Refused{c.Name, c.image(), d.unblessed} // known from before, as another
}

// cannot is a container that the verifier does not take as the policy wants it,
// because its root is no overlay or a mount is not there. The policy's word on
// unblessed containers holds for it.
func (a *Agent) cannot(c *Container, d *decision, stage Stage, why error) (uint32, error) {
	rules, _ := a.force.rules.For(c.match())
	n := d.without(unblessedAnswer(&rules, c))
	n.unblessed = &Unblessed{ReasonNotEnforced, why}
	n.rules.Soft, n.rules.Interpreters, n.rules.Mounts = true, false, nil
	return a.apply(c, &n, stage)
}

func (a *Agent) add(c *Container, d *decision) (uint32, error) {
	return a.o.Verifier.Add(enforce.Domain{Name: c.Name, Cgroup: c.Cgroup, Root: c.Root, Rules: d.rules}, d.set)
}

func (a *Agent) update(c *Container, d *decision, id uint32) error {
	domains, err := a.o.Verifier.Domains()
	if err != nil {
		return err
	}
	for _, known := range domains {
		if known.ID != id {
			continue
		}
		rules := d.rules
		if !d.watch { // it stays, and says nothing
			rules = enforce.Rules{Soft: true, JIT: true}
		}
		listed := len(d.set.Files) > 0 && rules.Trust.Listed()
		if reflect.DeepEqual(known.Rules, rules) && known.Image == d.set.Name && (known.SetID != 0) == listed && (!listed || known.List == d.set.Digest) {
			return nil // all that was judged stays judged
		}
		known.Rules, known.Root = rules, c.Root
		return a.o.Verifier.Update(known, d.set)
	}
	return errDomainGone
}

var errDomainGone = errors.New("the verifier does not know it")

// remove forgets a container whose tasks are gone.
func (a *Agent) remove(r *record) error {
	domains, err := a.o.Verifier.Domains()
	if err != nil {
		return err
	}
	for _, d := range domains {
		if d.ID != r.Domain {
			continue
		}
		if err = a.o.Verifier.Remove(d); errors.Is(err, enforce.ErrInUse) {
			err = nil // the verifier forgets it with its last task
		}
	}
	return errors.Join(err, a.drop(r.Container.key()))
}

// replace forgets an earlier life of a container. Where its cgroup lives on, so may its
// tasks: then the domain is left to the verifier, which knows when the last one ends.
func (a *Agent) replace(r *record) error {
	if ino, err := inode(r.Container.Cgroup); err == nil && ino == r.Inode {
		return a.drop(r.Container.key())
	}
	return a.remove(r)
}

// Gone tells that a container ended. It is left to Sweep if a task of it lives.
func (a *Agent) Gone(key string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.records[key]
	if r == nil {
		return nil
	}
	d := enforce.Domain{Cgroup: r.Container.Cgroup}
	if empty, err := d.Empty(); err != nil || !empty {
		return err
	}
	return a.remove(r)
}

// Sweep forgets what the verifier has forgotten, and tries again where a list could not be
// had, or a container not have the policy in force.
func (a *Agent) Sweep(ctx context.Context) error {
	a.mu.Lock()
	domains, err := a.o.Verifier.Domains()
	if err != nil {
		a.mu.Unlock()
		return err
	}
	known := map[uint32]bool{}
	for _, d := range domains {
		known[d.ID] = true
	}
	errs := []error{a.keepPods()}
	maps.DeleteFunc(a.alone, func(_ string, t told) bool {
		_, err := os.Stat(t.cgroup)
		return errors.Is(err, fs.ErrNotExist)
	})
	var again []Container
	for key, r := range a.records {
		switch {
		case !known[r.Domain]:
			errs = append(errs, a.drop(key))
		case r.Reason == ReasonUnreachable || a.behind[key]:
			delete(a.behind, key)
			again = append(again, r.Container)
		}
	}
	a.mu.Unlock()
	for _, c := range again {
		if !c.refresh() { // the root that a hook saw is gone
			a.later(&c)
			continue
		}
		if err := a.Admit(ctx, c, Running); err != nil {
			a.later(&c)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// later leaves a container to the next Sweep: it ended, or has not begun, or failed.
func (a *Agent) later(c *Container) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.records[c.key()] != nil {
		a.behind[c.key()] = true
	}
}

// Save writes what the agent counted.
func (a *Agent) Save() error { return a.tally.Save() }

// Known tells whether the verifier has the container already.
func (a *Agent) Known(c *Container) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.known(c)
	if r != nil && r.Container.content == nil { // records do not hold it
		r.Container.content, r.Container.manifest = c.content, c.manifest
	}
	return r != nil
}

// Warm fetches the list of a container that is about to be made.
func (a *Agent) Warm(ctx context.Context, c Container) {
	a.mu.Lock()
	force := a.force
	a.mu.Unlock()
	force.decide(ctx, &c)
}

// Event looks at an event of the verifier, says whose it is, and tells whether anybody wants to
// see it.
func (a *Agent) Event(e enforce.Event) (r diagnose.Record, wanted bool) {
	a.mu.Lock()
	var of *record
	for _, known := range a.records {
		if known.Domain == e.Domain {
			of = known
		}
	}
	silent := of != nil && of.Silent
	a.mu.Unlock()
	if e.Action == "allowed" {
		a.tally.Used(e)
	}
	r = diagnose.Record{Event: e}
	if of != nil {
		r.Namespace, r.Pod = of.Container.Namespace, of.Container.pod()
	}
	if !silent {
		a.o.Metrics.event(e, of)
		a.recent.Add(r)
	}
	return r, !silent
}

// Why explains the last denials that a query fits, and no more than a number of them.
func (a *Agent) Why(q diagnose.Query, limit int) ([]diagnose.Explanation, error) {
	var list []diagnose.Explanation
	for _, d := range a.recent.Last(q, limit) {
		var listing *enforce.Listing
		if d.Domain != 0 && d.Path != "" {
			var err error
			if listing, err = a.o.Verifier.Listing(d.Domain, d.Path, d.SHA256); err != nil {
				return nil, err
			}
		}
		list = append(list, diagnose.Explain(d, listing))
	}
	return list, nil
}

// tell reports what becomes of a container.
func (a *Agent) tell(c *Container, d *decision, domain uint32) {
	n := Notice{
		Operation: "container", Container: c.Name, Image: c.image(), Domain: domain, Mode: string(d.mode), PID: c.PID,
		Namespace: c.Namespace, Pod: c.pod(),
	}
	if d.watch {
		rules, _ := a.force.rules.For(c.match())
		n.Rules = &rules
	}
	switch {
	case d.unblessed == nil && !d.watch:
		n.Action, n.Message = "ignored", "the policy leaves it alone"
	case d.unblessed == nil && !d.rules.Trust.Listed():
		n.Action, n.Message = "listed", "may run the files that a key of the policy signed"
	case d.unblessed == nil:
		n.Action, n.Message = "listed", fmt.Sprintf("may run the %d files of its image", len(d.set.Files))
		if own := slices.IndexFunc(d.set.Files, func(f enforce.File) bool { return f.Image != "" }); own >= 0 {
			n.Message = fmt.Sprintf("may run the %d files of its image, and %d of those that the policy joins to it", own, len(d.set.Files)-own)
		}
	default:
		n.Reason = d.unblessed.Reason
		n.Action = map[policy.Answer]string{policy.AnswerAllow: "allowed", policy.AnswerAudit: "reported", policy.AnswerDeny: "denied"}[d.answer]
		n.Message = d.unblessed.Error()
	}
	n.Message = fmt.Sprintf("%s: container %s of %s: %s", n.Action, n.Container, n.Image, n.Message)
	if said := (told{c.Cgroup, n.Message}); d.watch {
		delete(a.alone, c.key())
	} else if a.alone[c.key()] == said {
		return
	} else {
		a.alone[c.key()] = said
	}
	a.notify(n)
}

// told is what was said of the container of a cgroup.
type told struct{ cgroup, message string }

func (a *Agent) notify(n Notice) {
	n.Time = time.Now().UTC()
	a.o.Metrics.notice(&n)
	a.recent.Add(n.record())
	a.o.Notify(n)
}

// problem reports what could not be done for a container.
func (a *Agent) problem(container string, err error) {
	var refused *Refused
	if errors.As(err, &refused) {
		return // told of already
	}
	a.notify(Notice{Operation: "container", Action: "failed", Container: container, Message: "failed: " + err.Error()})
}

// closed tells whether containers must not start while no agent answers.
func (a *Agent) closed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.force.rules.WithoutAgent == policy.AnswerDeny && !a.glass
}
