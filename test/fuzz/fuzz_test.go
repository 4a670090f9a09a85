// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package fuzz does random sequences of file operations in labelled containers
// and compares what comes of them with a model of what must hold: no unlisted
// byte is ever executable, no guarded or judged file changes, every denial is
// reported or counted, and what is always allowed is not denied.
//
// In the guest the test is the observer, outside of every container. In each
// container a small player (player/player.c) does the steps, which a sequence's
// seed makes: ops_test.go has their kinds, gen_test.go draws them, model_test.go
// has what must hold, shrink_test.go shortens what breaks it.
package fuzz

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

const (
	envSeed = "SBOM_BLESS_FUZZ_SEED" // run this sequence alone
	envSoak = "SBOM_BLESS_SOAK"      // how long to fuzz, from a random seed on

	enough   = 5 // different findings
	duration = time.Minute
	unarmed  = 5 * time.Minute // for the sequences that nothing is denied in
)

// TestFuzz takes the seeds 1, 2, 3, … for a minute; `make soak` takes others for hours.
func TestFuzz(t *testing.T) {
	// One CPU: where an emulator gives them turns, two tasks that wait for each other cost a turn each time.
	config := vm.Config{Timeout: 10 * time.Minute, Host: bringPlayer, CPUs: 1}
	kernels := vm.Some("7.3")
	for _, name := range []string{envSeed, envSoak} {
		config.Env = append(config.Env, name+"="+os.Getenv(name))
	}
	if s := os.Getenv(envSoak); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("%s: %v", envSoak, err)
		}
		config.Timeout += d
		kernels = nil // by $SBOM_BLESS_KERNEL, or all
	}
	if os.Getenv(envSeed) != "" {
		kernels = nil
	}
	vm.Test(t, kernels, config, testFuzz)
}

// bringPlayer compiles it.
func bringPlayer(t vm.TB, c *vm.Config) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "player")
	out, err := exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-nostdlib", "-ffreestanding", "-mgeneral-regs-only", "-fno-stack-protector",
		"-fcf-protection=none", "-fno-pie", "-no-pie", "-Wl,-z,noexecstack", "-o", binary, "player/player.c").CombinedOutput()
	if err != nil {
		t.Fatalf("player: %v: %s", err, out)
	}
	c.Files[image+"/bin/player"] = binary
}

func testFuzz(t *testing.T, k vm.Kernel) {
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	if s := os.Getenv(envSeed); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
		p := newPlan(seed)
		out := w.try(t, p, map[string]bool{})
		t.Log(out.text(p))
		return
	}
	t.Run("sequences", func(t *testing.T) {
		first, long := uint64(1), duration
		if s := os.Getenv(envSoak); s != "" {
			first = rand.Uint64()
			long, _ = time.ParseDuration(s)
		}
		found := map[string]bool{}
		for seed, end := first, time.Now().Add(long); time.Now().Before(end) && len(found) < enough; seed++ {
			w.try(t, newPlan(seed), found)
		}
		t.Log(w.tries)
	})
	// What the model is worth: where nothing is denied it must find breaches.
	t.Run("without denials", func(t *testing.T) {
		found := map[string]uint64{}
		for seed, end := uint64(1), time.Now().Add(unarmed); time.Now().Before(end) && len(found) < 2; seed++ {
			p := newPlan(seed)
			p.rules.Enforce = false
			out, err := w.run(p, terms{verifier: true, strict: true})
			if err != nil {
				t.Fatal(err)
			}
			if v := out.violation; v != nil && found[v.invariant] == 0 {
				found[v.invariant] = seed
				t.Logf("seed %d: %s", seed, v)
			}
		}
		for _, invariant := range []string{unlistedCode, changedFile} {
			if found[invariant] == 0 {
				t.Errorf("no sequence breaks %q although nothing is denied", invariant)
			}
		}
	})
}

// world is the verifier, and what was tried in it.
type world struct {
	e      *enforce.Enforcer
	set    enforce.Set
	events atomic.Uint64
	tries  tries
}

type tries struct{ sequences, steps, calls, denials, programs, looks int }

func (t tries) String() string {
	return fmt.Sprintf("%d sequences, %d steps, %d calls; %d denials; %d programs ran; the model was checked %d times",
		t.sequences, t.steps, t.calls, t.denials, t.programs, t.looks)
}

func newWorld() (*world, error) {
	set, err := makeImage()
	if err != nil {
		return nil, err
	}
	e, err := enforce.Load(enforce.Options{Pins: enforce.DefaultPins, State: enforce.DefaultState})
	if err != nil {
		return nil, err
	}
	w := &world{e: e, set: set}
	go func() {
		err := e.Events(time.Time{}, func(enforce.Event) error { w.events.Add(1); return nil })
		fmt.Fprintln(os.Stderr, "events end:", err)
	}()
	// One container is there all the time, so that the list is.
	c, err := newContainer("")
	if err == nil {
		_, err = e.Add(enforce.Domain{Name: "keeper", Cgroup: c.cgroup, Root: c.root}, set)
	}
	return w, err
}

// terms say how a sequence is run.
type terms struct {
	verifier bool // else the container is none that the verifier knows
	strict   bool // judge an audited container as if its denials were meant
	careful  bool // check the model after each step
}

// outcome is what came of a sequence.
type outcome struct {
	results   [][]int64 // of the steps done; nil: its actor was not there
	violation *violation
	at        int // the step after which it was seen
}

// count is what the verifier says that it did.
type count struct{ reasons, allowed, repeated, lost uint64 }

func (w *world) count() (count, error) {
	counters, err := w.e.Counters()
	if err != nil {
		return count{}, err
	}
	var n count
	for name, value := range counters {
		switch name {
		case "judged-good":
			n.allowed = value
		case "repeated":
			n.repeated = value
		case "lost-events":
			n.lost = value
		case "hashed", "inodes-full":
		case "skipped-records":
			if value != 0 {
				return n, fmt.Errorf("%d records of another version", value)
			}
		default:
			n.reasons += value
		}
	}
	return n, nil
}

// run does a sequence in a new container.
func (w *world) run(p plan, how terms) (out outcome, err error) {
	c, err := newContainer(p.options)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, c.remove()) }()
	before, err := w.count()
	if err != nil {
		return out, err
	}
	if how.verifier {
		d := enforce.Domain{Name: filepath.Base(c.dir), Cgroup: c.cgroup, Root: c.root, Rules: p.rules}
		if d.ID, err = w.e.Add(d, w.set); err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, w.forget(d)) }()
	}
	player, err := startPlayer(c.root, c.cgroup, p.actors)
	if err != nil {
		return out, err
	}
	s := &session{w: w, p: p, how: how, player: player, last: before, alive: [mostActors]bool{true}, kept: keep(p, c)}
	defer player.end()
	if out, err = s.play(); err != nil || out.violation != nil || !how.verifier {
		return out, err
	}
	out.violation, err = s.checkEvents()
	return out, err
}

// forget has the verifier forget a container whose tasks were killed.
func (w *world) forget(d enforce.Domain) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		domains, err := w.e.Domains()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(domains, func(other enforce.Domain) bool { return other.ID == d.ID })
		if i < 0 {
			return fmt.Errorf("%s is not known", d.Name)
		}
		if err = w.e.Remove(domains[i]); !errors.Is(err, enforce.ErrInUse) || time.Now().After(end) {
			return err
		}
	}
}

// session is a sequence while it is done.
type session struct {
	w      *world
	p      plan
	how    terms
	player *player
	alive  [mostActors]bool
	kept   kept
	last   count // before the step
	start  uint64
	denied bool // something was, so that what follows differs from a run without the verifier
	// It mounted an overlay: what is denied of that one's own work below need not fail a call.
	layered bool
	// An actor has memory executable by itself, and without rule jit nothing more is mapped for it.
	implied bool
}

func (s *session) play() (out outcome, err error) {
	for _, name := range s.p.judged {
		if _, err := s.player.play(0, []call{{nr: callRun, arg: []any{cwd, name, 0, runVfork}}}); err != nil {
			return out, err
		}
	}
	n, err := s.w.count()
	if err != nil {
		return out, err
	}
	s.last, s.start = n, n.reasons
	for i, st := range s.p.steps {
		out.at = i
		var results []int64
		if s.possible(st) {
			if results, err = s.player.play(st.actor, st.calls); err != nil {
				return out, fmt.Errorf("seed %d, step %d: %s: %w", s.p.seed, i, st.kind, err)
			}
		}
		out.results = append(out.results, results)
		if results == nil {
			continue
		}
		s.note(st, results)
		end := i == len(s.p.steps)-1
		out.violation, err = s.check(i, st, results, st.look || end || s.how.careful, end || s.how.careful)
		if out.violation != nil || err != nil {
			return out, err
		}
	}
	return out, nil
}

// possible tells whether the step's actor is there, and the one that it would spawn is not.
func (s *session) possible(st step) bool {
	return s.alive[st.actor] && !(st.calls[0].nr == callSpawn && s.alive[st.calls[0].arg[0].(int)])
}

// note counts, and knows the actors.
func (s *session) note(st step, results []int64) {
	if st.calls[0].nr == callSpawn && results[0] > 0 {
		s.alive[st.calls[0].arg[0].(int)] = true
	}
	s.layered = s.layered || st.kind == "overlay" && results[0] == 0
	s.implied = s.implied || st.kind == "have memory executable by itself"
	if !s.how.verifier || s.how.careful {
		return
	}
	s.w.tries.steps++
	s.w.tries.calls += len(results)
	for i, r := range results {
		if st.calls[i].nr == callRun && r == 0 {
			s.w.tries.programs++
		}
	}
}

// check compares what the step did with the model.
func (s *session) check(i int, st step, results []int64, look, whole bool) (*violation, error) {
	if !s.how.verifier {
		return nil, nil
	}
	before := s.last
	var err error
	if s.last, err = s.w.count(); err != nil {
		return nil, err
	}
	reasons := s.last.reasons - before.reasons
	refused := slices.Contains(results, -1) // EPERM
	audit := !s.p.rules.Enforce
	if refused && reasons > 0 && !audit {
		s.w.tries.denials++
	}
	v := s.checkCode(st, results)
	if v == nil && look {
		s.w.tries.looks++
		v, err = checkMemory(s.player.pid, s.p.rules.JIT, whole)
		if v == nil && err == nil {
			v = s.kept.check(whole)
		}
	}
	if err != nil {
		return nil, err
	}
	if v != nil {
		if audit && !s.how.strict && s.last.reasons > s.start {
			return nil, nil // reported, as it should be
		}
		return v, nil
	}
	if refused && !s.denied && (audit || reasons == 0 || st.must) {
		same, err := s.alsoWithout(i)
		if err != nil {
			return nil, err
		}
		switch {
		case same:
		case audit:
			return &violation{falseDenial, "an audited container was denied something: " + st.kind}, nil
		case reasons == 0:
			return &violation{silentDenial, "EPERM that is not counted, and not the kernel's own: " + st.kind}, nil
		}
	}
	if refused && st.must && reasons > 0 && !audit && !(s.implied && !s.p.rules.JIT) {
		return &violation{falseDenial, st.kind}, nil
	}
	if reasons > 0 && !audit && !s.layered && !slices.ContainsFunc(results, func(r int64) bool { return r < 0 || r >= 1000 }) {
		return &violation{silentDenial, "counted as denied, but every call succeeded: " + st.kind}, nil
	}
	s.denied = s.denied || reasons > 0 && !audit
	return nil, nil
}

// checkCode tells by what programs did whether one ran that is not listed.
func (s *session) checkCode(st step, results []int64) *violation {
	for i, c := range st.calls {
		ran := c.nr == callRun || c.nr == callJump && !s.p.rules.JIT
		if ran && results[i] == evil {
			return &violation{unlistedCode, "the code that exits 42 ran: " + c.line()}
		}
	}
	return nil
}

// alsoWithout tells whether the last call that step i had refused is refused
// without the verifier, too. Nothing was denied before, so all is the same.
func (s *session) alsoWithout(i int) (bool, error) {
	p := s.p
	p.steps = p.steps[:i+1]
	out, err := s.w.run(p, terms{})
	return err == nil && len(out.results) == i+1 && slices.Contains(out.results[i], -1), err
}

// checkEvents compares what the verifier counted with what it reported.
func (s *session) checkEvents() (*violation, error) {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		events := s.w.events.Load()
		n, err := s.w.count()
		if err != nil {
			return nil, err
		}
		want := n.reasons + n.allowed - n.repeated - n.lost
		if events == want {
			return nil, nil
		}
		if time.Now().After(end) {
			return &violation{silentDenial, fmt.Sprintf("%d events, %d of them counted", events, want)}, nil
		}
	}
}

// text is the sequence with its results, for people.
func (o outcome) text(p plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d; rules %+v; overlay options %q; judged before: %v\n", p.seed, p.rules, p.options, p.judged)
	for i, st := range p.steps {
		if i >= len(o.results) {
			break
		}
		fmt.Fprintf(&b, "%3d %s", i, st.kind)
		if o.results[i] == nil {
			fmt.Fprintf(&b, ": actor %d cannot\n", st.actor)
			continue
		}
		b.WriteByte('\n')
		for j, line := range strings.Split(strings.TrimSuffix(st.lines(), "\n"), "\n") {
			fmt.Fprintf(&b, "      %s = %s\n", line, result(o.results[i][j]))
		}
	}
	if o.violation != nil {
		fmt.Fprintf(&b, "after step %d: %s\n", o.at, o.violation)
	}
	return b.String()
}
