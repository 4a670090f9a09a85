// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package attack tries to get code to run that the image did not bring, in
// containers made as a runtime makes them, on each of Debian's kernels. Every
// attack has three legs: without the verifier it works; with it the kernel says
// EPERM and the verifier reports the reason expected; and a file of the image
// still runs afterwards. An attack that could not be tried is a failure.
//
// The test binary is observer, runtime and attacker, told by $STAGE.
package attack

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

func TestMain(m *testing.M) {
	switch os.Getenv("STAGE") {
	case "runtime":
		fmt.Fprintln(os.Stderr, "runtime:", prepare()) // execs the attacker; returns only errors
		os.Exit(1)
	case "restored":
		os.Exit(restored())
	case "attacker":
		os.Exit(attacker(os.Getenv("ATTACK")))
	case "agent":
		os.Exit(agent())
	case "tamper":
		os.Exit(tamper())
	case "hold":
		os.Exit(holdAttacker(os.Getenv("ATTACK")))
	case "administrator":
		os.Exit(administrator())
	case "child":
		os.Exit(child())
	case "race":
		name, d, _ := strings.Cut(os.Getenv("ATTACK"), "\t")
		last, err := time.ParseDuration(d)
		must(err)
		os.Exit(racer(name, last))
	case "sealer":
		os.Exit(sealer())
	case "execve32":
		os.Exit(execve32(os.Args[1]))
	case "mapper":
		os.Exit(mapper())
	case "crash":
		os.Exit(crash())
	case "probe":
		os.Exit(printProbe())
	case noPath:
		os.Exit(emptyPath())
	}
	os.Exit(m.Run())
}

// outcome is what the attacker says.
type outcome struct {
	Untried string        `json:",omitempty"` // why it could not try
	Error   string        `json:",omitempty"`
	Errno   syscall.Errno `json:",omitempty"`
	Control string        `json:",omitempty"` // why the file of the image did not run
}

// guestFiles are the parts of a Debian image, taken from the host.
func guestFiles() map[string]string {
	files := map[string]string{}
	for in, from := range map[string]string{
		"/image/bin/dash":                           "/usr/bin/dash",
		"/image/lib64/ld-linux-x86-64.so.2":         "/lib64/ld-linux-x86-64.so.2",
		"/image/lib/x86_64-linux-gnu/libc.so.6":     "/lib/x86_64-linux-gnu/libc.so.6",
		"/image/usr/lib/x86_64-linux-gnu/libm.so.6": "/lib/x86_64-linux-gnu/libm.so.6",
	} {
		real, err := filepath.EvalSymlinks(from)
		if err != nil {
			panic(err)
		}
		files[in] = real
	}
	return files
}

// guestModules are what attacks need of the kernel.
var guestModules = []string{"af_alg", "binfmt_misc", "loop", "fuse", "sd_mod", "sg", "scsi_debug", "target_core_mod", "dm_mod"}

func TestAttacks(t *testing.T) {
	outputs := newOutputs()
	if vm.Guest() == "" {
		t.Cleanup(func() { checkTable(t, outputs.all()) })
	}
	vm.Test(t, vm.Some("6.12", "7.3"), vm.Config{
		Memory:  1536,
		Modules: guestModules,
		Timeout: 30 * time.Minute,
		Host: func(t vm.TB, c *vm.Config) {
			for in, from := range guestFiles() {
				c.Files[in] = from
			}
			c.Files[diskFile] = makeDisk(t)
			c.Output = outputs.of(c.Kernel)
		},
	}, testAttacks)
}

func testAttacks(t *testing.T, k vm.Kernel) {
	must(makeImage())
	worked := map[string]bool{}
	t.Run("baseline", func(t *testing.T) {
		for _, a := range attacks {
			t.Run(a.slug(), func(t *testing.T) {
				c := a.container(t)
				o := a.run(t, c)
				if o.Control != "" {
					t.Errorf("control: %s", o.Control)
				}
				if why, refused := a.refused[k]; refused {
					if o.Error == "" {
						t.Errorf("worked, but %s is said to refuse it: %s", k, why)
					}
					return
				}
				if o.Error != "" {
					t.Fatalf("does not work even without the verifier: %s", o.Error)
				}
				worked[a.name] = true
			})
		}
	})

	e, err := enforce.Load(enforce.Options{Pins: enforce.DefaultPins, State: enforce.DefaultState})
	if err != nil {
		t.Fatal(err)
	}
	set, err := imageSet()
	if err != nil {
		t.Fatal(err)
	}
	events := watch(t, e)
	t.Run("denied", func(t *testing.T) {
		for _, a := range attacks {
			t.Run(a.slug(), func(t *testing.T) {
				c := a.container(t)
				id := a.add(t, e, set, c)
				o := a.run(t, c)
				if o.Control != "" {
					t.Errorf("control: %s", o.Control)
				}
				if why, refused := a.refused[k]; refused {
					fmt.Printf("ROW\t%s\t- %s\n", a.name, why)
					return
				}
				if o.Error == "" {
					t.Fatalf("worked; events: %v", events.of(id))
				}
				if o.Errno != cmp.Or(a.errno, syscall.EPERM) {
					t.Fatalf("denied, but not by us: %s; events: %v", o.Error, events.of(id))
				}
				if a.anyDomain {
					id = 0
				}
				if !events.wait(id, a.op, a.reason) {
					t.Fatalf("no event %s %s; events: %v", a.op, a.reason, events.of(id))
				}
				if worked[a.name] {
					fmt.Printf("ROW\t%s\tdenied %s %s\n", a.name, a.op, a.reason)
				}
			})
		}
	})
	t.Run("permitted", func(t *testing.T) {
		for _, a := range permitted {
			t.Run(a.slug(), func(t *testing.T) {
				c := a.container(t)
				id := a.add(t, e, set, c)
				o := a.run(t, c)
				if o.Control != "" {
					t.Errorf("control: %s", o.Control)
				}
				// What has an operation leaves an event and goes on another way.
				if o.Error != "" || a.op == "" && len(events.of(id)) != 0 {
					t.Errorf("%q; events: %v", o.Error, events.of(id))
				}
			})
		}
	})
	testHashes(t, e, set, events)
	testDecoy(t, e, set, events)
}

// container makes the one that the attack is tried in, or against.
func (a *attack) container(t *testing.T) *container {
	t.Helper()
	c := a.layout.container(t)
	if a.audited {
		c.from = newContainer(t)
		c.from.data = c.root
	}
	return c
}

// add puts c under the list, with the attack's rules.
func (a *attack) add(t *testing.T, e *enforce.Enforcer, set enforce.Set, c *container) uint32 {
	t.Helper()
	rules := enforce.Rules{Enforce: true, Interpreters: true}
	if a.layout.volume {
		rules.Mounts = []string{"/run"}
	}
	if a.rules != nil {
		a.rules(&rules)
	}
	id, err := e.Add(enforce.Domain{Name: a.name, Cgroup: c.cgroup, Root: c.root, Rules: rules}, set)
	if err != nil {
		t.Fatal(err)
	}
	if c.from != nil {
		if _, err := e.Add(enforce.Domain{Name: a.name + " (from)", Cgroup: c.from.cgroup, Root: c.from.root}, set); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// run tries the attack in c, or against it.
func (a *attack) run(t *testing.T, c *container) outcome {
	t.Helper()
	o := a.outcome(t, c)
	if o.Untried != "" {
		t.Fatalf("could not try: %s", o.Untried)
	}
	return o
}

// outcome is what comes of a try.
func (a *attack) outcome(t *testing.T, c *container) outcome {
	t.Helper()
	var o outcome
	if a.prepare != nil {
		if err := tryIt(func() error { a.prepare(c); return nil }); err != nil {
			t.Fatalf("could not prepare: %v", err)
		}
	}
	if a.host != nil {
		o = outcomeOf(tryIt(func() error { return a.host(c) }))
	} else {
		by := c
		if c.from != nil {
			by = c.from
		}
		out, err := by.start("attacker", a.name)
		if err != nil {
			t.Fatalf("attacker: %v: %q", err, out)
		}
		if err := json.Unmarshal(out, &o); err != nil {
			t.Fatalf("attacker: %v: %q", err, out)
		}
	}
	return o
}

// watched collects events.
type watched struct {
	mu     sync.Mutex
	events []enforce.Event
}

func watch(t *testing.T, e *enforce.Enforcer) *watched {
	w := &watched{}
	go func() {
		err := e.Events(time.Time{}, func(ev enforce.Event) error {
			w.mu.Lock()
			w.events = append(w.events, ev)
			w.mu.Unlock()
			return nil
		})
		fmt.Fprintln(os.Stderr, "events end:", err)
	}()
	return w
}

// of gives what was said of a domain, leaving out what was allowed.
func (w *watched) of(id uint32) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ev := range w.events {
		if ev.Domain == id && ev.Action != "allowed" {
			out = append(out, ev.Message)
		}
	}
	return out
}

// wait waits for the event of a denial.
func (w *watched) wait(id uint32, op, reason string) bool {
	return w.waitFor(func(ev enforce.Event) bool {
		return ev.Domain == id && ev.Operation == op && ev.Reason == reason && ev.Action == "denied"
	})
}

// waitFor waits for an event: it is there before the denied call returns, but
// the reader may be behind.
func (w *watched) waitFor(match func(enforce.Event) bool) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		found := slices.ContainsFunc(w.events, match)
		w.mu.Unlock()
		if found {
			return true
		}
	}
	return false
}

// allowed counts what was found good in a domain.
func (w *watched) allowed(id uint32) (n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ev := range w.events {
		if ev.Domain == id && ev.Action == "allowed" {
			n++
		}
	}
	return n
}

// outputs keeps what each guest prints.
type outputs struct {
	mu sync.Mutex
	m  map[vm.Kernel]*bytes.Buffer
}

func newOutputs() *outputs { return &outputs{m: map[vm.Kernel]*bytes.Buffer{}} }

func (o *outputs) of(k vm.Kernel) *bytes.Buffer {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.m[k] = new(bytes.Buffer)
	return o.m[k]
}

func (o *outputs) all() map[vm.Kernel][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[vm.Kernel][]byte{}
	for k, b := range o.m {
		out[k] = b.Bytes()
	}
	return out
}
