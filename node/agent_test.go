// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/policy"
)

// kernel is a verifier without one: it remembers what it was told.
type kernel struct {
	mu      sync.Mutex
	next    uint32
	updates int
	labels  int
	domains map[uint32]enforce.Domain
	files   map[uint32]int
	full    bool
	refuse  string                   // name of a container that it does not take
	hashing map[string]chan struct{} // by image: Prepare takes until it is closed
	proof   *enforce.Proof
}

func (k *kernel) Prepare(_ enforce.Domain, s enforce.Set) error {
	k.mu.Lock()
	name, _, _ := strings.Cut(s.Name, "@")
	c := k.hashing[name]
	k.mu.Unlock()
	if c != nil {
		<-c // begun
		<-c
	}
	return nil
}

func (k *kernel) Add(d enforce.Domain, s enforce.Set) (uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d.Name == k.refuse && !d.Soft {
		return 0, fmt.Errorf("no overlay: %w", enforce.ErrUnfit)
	}
	if _, err := os.Stat(d.Root); err != nil && !d.Closed && !d.Exempt || k.full {
		return 0, errors.Join(errors.New("no room"), err)
	}
	k.next++
	d.ID, d.Image, d.SetID, d.List = k.next, s.Name, uint32(len(s.Files)), s.Digest
	k.domains[d.ID], k.files[d.ID] = d, len(s.Files)
	return d.ID, nil
}

func (k *kernel) Update(d enforce.Domain, s enforce.Set) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d.Name == k.refuse && d.GuardAll {
		return errors.New("no")
	}
	if _, ok := k.domains[d.ID]; !ok {
		return fmt.Errorf("domain %d", d.ID)
	}
	if _, err := os.Stat(d.Root); err != nil {
		return err
	}
	d.Image, d.SetID, d.List = s.Name, uint32(len(s.Files)), s.Digest
	k.domains[d.ID], k.files[d.ID] = d, len(s.Files)
	k.updates++
	return nil
}

func (k *kernel) SetEnforce(id uint32, enforce bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, ok := k.domains[id]
	if !ok || d.Name == k.refuse {
		return fmt.Errorf("domain %d", id)
	}
	d.Enforce = enforce
	k.domains[id] = d
	return nil
}

func (k *kernel) Label() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.labels++
	return nil
}

func (k *kernel) Remove(d enforce.Domain) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.domains, d.ID)
	return nil
}

func (k *kernel) Domains() ([]enforce.Domain, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []enforce.Domain
	for _, d := range k.domains {
		list = append(list, d)
	}
	return list, nil
}

func (k *kernel) Listing(domain uint32, path, sha256 string) (*enforce.Listing, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.domains[domain]; !ok {
		return nil, nil
	}
	return enforce.Set{Files: []enforce.File{{Path: "/usr/bin/app", Package: "deb app 1"}}}.Listing(path, sha256), nil
}

func (k *kernel) Counters() (map[string]uint64, error) {
	return map[string]uint64{"judged-good": 5, "not-listed": 2, "lost-events": 3, "repeated": 1, "skipped-records": 0, "hashed": 4, "inodes-full": 0}, nil
}

func (k *kernel) LastProof() (*enforce.Proof, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.proof, nil
}

// state says in a word what becomes of a container: "enforce 2", "audit 0", "" for none;
// the number is that of its listed files.
func (k *kernel) state(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, d := range k.domains {
		if d.Name == name {
			mode := "audit"
			if d.Enforce {
				mode = "enforce"
			}
			return mode + " " + strconv.Itoa(k.files[id])
		}
	}
	return ""
}

// rig is an agent with what it stands on.
type rig struct {
	*Agent
	t       *testing.T
	dir     string
	kernel  *kernel
	mu      sync.Mutex
	notices []Notice
	lists   Lists
	keys    []string // of the kernel
	metrics *Metrics
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir(), kernel: &kernel{domains: map[uint32]enforce.Domain{}, files: map[uint32]int{}}}
	r.lists = func(_ context.Context, c *Container) (List, error) {
		if strings.HasPrefix(c.Image, "blessed") {
			return List{enforce.Set{Files: make([]enforce.File, 2), Digest: "sha256:1"}, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
		}
		return List{}, &Unblessed{ReasonNoAttestation, errors.New("nobody vouches for it")}
	}
	return r
}

// start starts an agent on what the one before it left.
func (r *rig) start(policyText string) {
	r.t.Helper()
	r.write(policyText)
	a, err := New(Options{
		Verifier: r.kernel, Policy: r.dir + "/policy", State: r.dir + "/state", Store: r.dir + "/store", BreakGlass: r.dir + "/glass",
		Prepare: func(_ context.Context, p *policy.Policy) (*Ready, error) {
			if slices.Contains(p.Keys, "missing") {
				return nil, errors.New("key missing: no such file")
			}
			return &Ready{
				Lists: func(ctx context.Context, c *Container) (List, error) { return r.lists(ctx, c) },
				Use: func() error {
					if slices.Contains(p.Keys, "unfit") {
						return errors.New("this kernel has no ECDSA")
					}
					r.keys = p.Keys
					return nil
				},
			}, nil
		},
		Metrics: r.metrics,
		Notify: func(n Notice) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.notices = append(r.notices, n)
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Agent = a
	if err := a.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) write(policyText string) {
	r.t.Helper()
	if err := os.WriteFile(r.dir+"/policy", []byte(policyText), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// container makes one whose only process is this one.
func (r *rig) container(name, image string) Container {
	r.t.Helper()
	dir := filepath.Join(r.dir, "cgroup", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	for file, text := range map[string]string{"cgroup.procs": strconv.Itoa(os.Getpid()), "cgroup.events": "populated 1\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return Container{
		Runtime: "test", ID: name, Name: name, Image: image, Cgroup: dir, PID: os.Getpid(), Root: "/",
		Digest: "sha256:" + strings.Repeat("1", 64),
	}
}

// within is a container whose processes are in these root filesystems.
func (r *rig) within(name, image string, roots ...string) Container {
	r.t.Helper()
	if os.Getuid() != 0 {
		r.t.Skip("root only: needs chroot")
	}
	c := r.container(name, image)
	var pids []string
	for _, root := range roots {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SBOM_BLESS_WITHIN="+root)
		in, err := cmd.StdinPipe()
		out, e := cmd.StdoutPipe()
		if err = errors.Join(err, e); err == nil {
			err = cmd.Start()
		}
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { in.Close(); cmd.Wait() })
		if _, err := out.Read(make([]byte, 1)); err != nil {
			r.t.Fatal(err)
		}
		pids = append(pids, strconv.Itoa(cmd.Process.Pid))
	}
	if err := os.WriteFile(c.Cgroup+"/cgroup.procs", []byte(strings.Join(pids, "\n")), 0o600); err != nil {
		r.t.Fatal(err)
	}
	c.PID, _ = strconv.Atoi(pids[0])
	c.Root = rootOf(c.PID)
	return c
}

// TestMain is a process of a container as well. It says of itself what runc's does that has
// not entered it.
func TestMain(m *testing.M) {
	root := os.Getenv("SBOM_BLESS_WITHIN")
	if root == "" {
		os.Exit(m.Run())
	}
	if err := errors.Join(os.WriteFile(fmt.Sprintf("/proc/%d/comm", os.Getpid()), []byte("runc:[2:INIT]"), 0), syscall.Chroot(root)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println()
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// said tells whether there was a notice with this operation, action and reason.
func (r *rig) said(operation, action, reason string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.notices, func(n Notice) bool { return n.Operation == operation && n.Action == action && n.Reason == reason })
}

// Each scan meets a container that is left alone, and says so once.
func TestLeftAloneIsToldOnce(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: ignore\n")
	c := r.container("x", "blessed")
	count := func() (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, notice := range r.notices {
			if notice.Action == "ignored" {
				n++
			}
		}
		return n
	}
	admit := func() {
		t.Helper()
		if err := r.Admit(t.Context(), c, Running); err != nil {
			t.Fatal(err)
		}
	}
	admit()
	admit()
	if n := count(); n != 1 {
		t.Errorf("told %d times", n)
	}
	// It ends, and another one gets its name.
	if err := errors.Join(os.RemoveAll(c.Cgroup), r.Sweep(t.Context())); err != nil {
		t.Fatal(err)
	}
	c = r.container("x", "blessed")
	admit()
	if n := count(); n != 2 {
		t.Errorf("told %d times", n)
	}
}

// The files of a large image can take longer to hash than a runtime waits for another container.
func TestNobodyWaitsForTheHashesOfOthers(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\n")
	large := make(chan struct{})
	r.kernel.hashing = map[string]chan struct{}{"blessed-large": large}
	done := make(chan error)
	go func() { done <- r.Admit(t.Context(), r.container("large", "blessed-large"), Starting) }()
	large <- struct{}{}
	if err := r.Admit(t.Context(), r.container("small", "blessed"), Starting); err != nil || r.kernel.state("small") != "enforce 2" {
		t.Errorf("%v, %q", err, r.kernel.state("small"))
	}
	if s := r.kernel.state("large"); s != "" {
		t.Errorf("in the kernel unhashed: %q", s)
	}
	close(large)
	if err := <-done; err != nil || r.kernel.state("large") != "enforce 2" {
		t.Errorf("%v, %q", err, r.kernel.state("large"))
	}
}

func TestAdmit(t *testing.T) {
	const pinned = `digests: ["sha256:2222222222222222222222222222222222222222222222222222222222222222"]`
	for _, c := range []struct {
		rules, image string
		stage        Stage
		state        string // of the kernel
		said         string // action and reason
		refused      bool
	}{
		{"mode: enforce", "blessed", Starting, "enforce 2", "listed ", false},
		{"mode: audit", "blessed", Starting, "audit 2", "listed ", false},
		{"mode: ignore", "blessed", Starting, "", "ignored ", false},
		{"mode: enforce, unblessed: allow", "other", Starting, "", "allowed no-attestation", false},
		{"mode: enforce", "other", Starting, "audit 0", "reported no-attestation", false},
		{"mode: enforce, unblessed: deny", "other", Starting, "", "denied no-attestation", true},
		{"mode: enforce, unblessed: deny", "other", Running, "enforce 0", "denied no-attestation", false},
		{"mode: enforce, unblessed: deny, " + pinned, "blessed", Starting, "", "denied other-digest", true},
		{"mode: enforce, not-before: 2026-02-01", "blessed", Starting, "audit 0", "reported too-old", false},
		{"mode: enforce, not-before: 2025-02-01", "blessed", Starting, "enforce 2", "listed ", false},
		{"mode: enforce, trust: keyring", "other", Starting, "enforce 0", "listed ", false},
		{"mode: enforce, unblessed: deny, trust: keyring, " + pinned, "other", Running, "enforce 0", "denied other-digest", false},
		{"mode: enforce, trust: both", "other", Starting, "audit 0", "reported no-attestation", false},
		{"mode: enforce", "blessed-unfit", Starting, "audit 0", "reported not-enforceable", false},
		{"mode: enforce, unblessed: deny", "blessed-unfit", Starting, "", "denied not-enforceable", true},
		{"mode: enforce, unblessed: deny", "pause", Created, "", "allowed no-attestation", false},
		{"mode: enforce, unblessed: deny", "pause", Starting, "", "allowed no-attestation", false},
		{"mode: enforce, unblessed: deny", "blessed-pause", Created, "enforce 2", "listed ", false},
		{"mode: ignore", "blessed-pause", Created, "", "ignored ", false},
	} {
		t.Run(fmt.Sprintf("%s of %s at %d", c.rules, c.image, c.stage), func(t *testing.T) {
			r := newRig(t)
			r.start("keys: [k]\nmatches: [{image: '**', " + c.rules + "}]\n")
			if c.image == "blessed-unfit" {
				r.kernel.refuse = "x"
			}
			x := r.container("x", c.image)
			x.Sandbox = strings.HasSuffix(c.image, "pause")
			err := r.Admit(t.Context(), x, c.stage)
			var refused *Refused
			if errors.As(err, &refused) != c.refused || err != nil && !c.refused {
				t.Errorf("%v", err)
			}
			if s := r.kernel.state("x"); s != c.state {
				t.Errorf("in the kernel: %q, want %q", s, c.state)
			}
			for _, d := range r.kernel.domains {
				if c.said != "listed " && !d.Trust.Listed() {
					t.Error("unblessed, and signatures of files count")
				}
			}
			action, reason, _ := strings.Cut(c.said, " ")
			if !r.said("container", action, reason) {
				t.Errorf("%+v", r.notices)
			}
		})
	}
}

// An agent in a container leaves its own alone: under a list it would not be the agent any more.
func TestOwnContainer(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\nunblessed: deny\n")
	own := r.container("own", "blessed")
	r.o.Own = own.Cgroup
	for _, stage := range []Stage{Created, Running} {
		if err := r.Admit(t.Context(), own, stage); err != nil {
			t.Error(err)
		}
	}
	if s := r.kernel.state("own"); s != "" {
		t.Errorf("the agent's own container is under %q", s)
	}
	if err := r.Admit(t.Context(), r.container("other", "blessed"), Running); err != nil {
		t.Error(err)
	}
	if s := r.kernel.state("other"); s != "enforce 2" {
		t.Errorf("another one is under %q", s)
	}
}

// A policy file that is followed is tried once for each text that it has.
func TestFollow(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: audit\n")
	said := func(action string) int {
		n := 0
		for _, x := range r.notices {
			if x.Operation == "policy" && x.Action == action {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		text             string
		fails            bool
		applied, refused int
	}{
		{"keys: [k]\nmode: audit\n", false, 1, 0}, // as it was started with
		{"keys: [k]\nmode: enforce\n", false, 2, 0},
		{"keys: [k]\nmode: enforce\n", false, 2, 0},
		{"keys: [missing]\n", true, 2, 1},
		{"keys: [missing]\n", false, 2, 1},
		{"keys: [k]\nmode: enforce\n", false, 3, 1}, // back to what is in force
	} {
		r.write(step.text)
		if err := r.Follow(t.Context()); (err != nil) != step.fails {
			t.Errorf("%q: %v", step.text, err)
		}
		if a, b := said("applied"), said("refused"); a != step.applied || b != step.refused {
			t.Errorf("%q: applied %d times and refused %d times, want %d and %d", step.text, a, b, step.applied, step.refused)
		}
	}

	// An agent that serves looks by itself.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait, err := r.Serve(ctx, Config{
		Containerd: r.dir + "/containerd.sock", NRI: r.dir + "/nri.sock", Storage: r.dir + "/storage",
		Follow: true, SaveEvery: 10 * time.Millisecond, Failed: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.dir+"/next", []byte("keys: [k]\nmode: audit\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.dir+"/next", r.dir+"/policy"); err != nil { // whole, as the kubelet does it
		t.Fatal(err)
	}
	mode := func() policy.Mode {
		r.Agent.mu.Lock()
		defer r.Agent.mu.Unlock()
		return r.force.rules.Default.Mode
	}
	for end := time.Now().Add(time.Minute); mode() != policy.Audit; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not")
		}
	}
	cancel()
	wait()

	if err := os.Remove(r.dir + "/policy"); err != nil {
		t.Fatal(err)
	}
	if err := r.Follow(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is gone: %v", err)
	}
	if mode() != policy.Audit {
		t.Error("what was in force is not any more")
	}
}

func TestNoDigest(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\n")
	c := r.container("x", "blessed")
	c.Digest, c.Problem = "", "the image was built here"
	if err := r.Admit(t.Context(), c, Starting); err != nil || !r.said("container", "reported", ReasonNoImage) {
		t.Errorf("%v %+v", err, r.notices)
	}
}

// What is in the root cgroup is no container: its list would be that of the host.
func TestRootCgroup(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\n")
	c := r.container("x", "blessed")
	c.Cgroup = cgroups
	if err := r.Admit(t.Context(), c, Running); err == nil || r.kernel.state("x") != "" {
		t.Errorf("%v %q", err, r.kernel.state("x"))
	}
}

// A container is told of twice, or comes again under its name.
func TestAdmitAgain(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\n")
	c := r.container("x", "blessed")
	for _, stage := range []Stage{Created, Running, Running} {
		if err := r.Admit(t.Context(), c, stage); err != nil {
			t.Fatal(err)
		}
	}
	if r.kernel.updates != 0 {
		t.Error("what was judged is judged again for nothing")
	}
	if r.kernel.next != 1 {
		t.Errorf("%d domains were made for one container", r.kernel.next)
	}
	if err := os.Rename(c.Cgroup, c.Cgroup+".old"); err != nil {
		t.Fatal(err)
	}
	if err := r.Admit(t.Context(), r.container("x", "blessed"), Starting); err != nil {
		t.Fatal(err)
	}
	if r.kernel.next != 2 || len(r.kernel.domains) != 1 {
		t.Errorf("%d domains were made, %d are there", r.kernel.next, len(r.kernel.domains))
	}
	if err := r.Gone(c.key()); err != nil || len(r.kernel.domains) != 1 {
		t.Errorf("it is gone while a process of it lives: %v", err)
	}
	if err := os.WriteFile(c.Cgroup+"/cgroup.events", []byte("populated 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Gone(c.key()); err != nil || len(r.kernel.domains) != 0 || r.Known(&c) {
		t.Errorf("it stays: %v", err)
	}
}

// Who is in a container may move it to a cgroup below its own, and a runtime may know it by
// the one above: it stays one container.
func TestMovedBelow(t *testing.T) {
	for name, to := range map[string]func(dir string) string{
		"init.scope": func(dir string) string { return dir + "/init.scope" },
		"above":      filepath.Dir,
		"aside":      func(dir string) string { return dir + "2" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.start("keys: [k]\nmode: enforce\n")
			c := r.container("x", "blessed")
			if err := r.Admit(t.Context(), c, Starting); err != nil {
				t.Fatal(err)
			}
			moved := c
			moved.Cgroup = to(c.Cgroup)
			if err := os.MkdirAll(moved.Cgroup, 0o700); err != nil {
				t.Fatal(err)
			}
			aside := name == "aside"
			if r.Known(&moved) == aside {
				t.Error("known:", !aside)
			}
			moved.Cgroup = to(c.Cgroup)
			if err := r.Admit(t.Context(), moved, Running); err != nil {
				t.Fatal(err)
			}
			if _, ok := r.kernel.domains[1]; !ok {
				t.Error("the domain of tasks that live is gone")
			}
			if (r.kernel.next == 2) != aside {
				t.Errorf("%d domains were made", r.kernel.next)
			}
		})
	}
}

// Drift is what a list lacks. With trust in signatures there is none.
func TestDrift(t *testing.T) {
	for trust, want := range map[string]bool{"sbom": true, "keyring": false} {
		r := newRig(t)
		r.start("keys: [k]\nmode: enforce\ntrust: " + trust + "\n")
		if err := r.Admit(t.Context(), r.container("x", "blessed"), Running); err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(r.notices, func(n Notice) bool { return n.Operation == "drift" }); got != want {
			t.Errorf("trust %s: drift %v", trust, got)
		}
	}
}

// A program that is not position-independent lies at addresses that maps writes with zeros in front, and
// map_files does not.
func TestLowAddresses(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "program"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	const low, size = 0x20000, 4096
	at, _, errno := unix.Syscall6(unix.SYS_MMAP, low, size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_FIXED_NOREPLACE, f.Fd(), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer unix.Syscall(unix.SYS_MUNMAP, at, size, 0)
	for _, m := range executable(os.Getpid()) {
		if m.path != f.Name() {
			continue
		}
		if sum, _, err := m.read(os.Getpid(), 4096); err != nil || sum != sha256.Sum256([]byte("content")) {
			t.Errorf("%x %v", sum, err)
		}
		return
	}
	t.Error("no such mapping")
}

// A file that would take a day to read is reported unread, and an agent that ends reads none.
func TestDriftOfLargeFile(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root only: needs map_files")
	}
	f, err := os.Create(t.TempDir() + "/large")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_EXEC, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(m)
	r := newRig(t)
	r.start("keys: [k]\n")
	c := r.container("a", "blessed")
	if err := r.Admit(t.Context(), c, Running); err != nil || !r.said("drift", "reported", "too-large") {
		t.Errorf("%v %+v", err, r.notices)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.RootAt, _ = placeOf(c.Root)
	r.notices = nil
	if r.drift(ctx, &c, 1, &decision{rules: enforce.Rules{Trust: enforce.TrustSBOM, JIT: true}}, driftBudget); len(r.notices) > 0 {
		t.Errorf("%+v", r.notices)
	}
}

// Code that is mapped twice by a memfd, as .NET and Erlang do, is no drift where rule jit allows it.
func TestDriftOfMemfd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root only: needs map_files")
	}
	fd, err := unix.MemfdCreate("doublemapper", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 4096); err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	for jit, want := range map[string]bool{"false": true, "true": false} {
		r := newRig(t)
		r.start("keys: [k]\njit: " + jit + "\n")
		if err := r.Admit(t.Context(), r.container("x", "blessed"), Running); err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(r.notices, func(n Notice) bool { return strings.HasPrefix(n.Path, "/memfd:doublemapper") }); got != want {
			t.Errorf("jit: %s: reported %t", jit, got)
		}
	}
}

// A report has a budget of files, bytes, events and time. What exceeds it is one event with a number.
func TestDriftBudget(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root only: needs map_files")
	}
	for i := range 8 { // with the test's own program, more than enough
		name := fmt.Sprintf("%s/file%d", t.TempDir(), i)
		if err := os.WriteFile(name, []byte(name+strings.Repeat("x", 4096)), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_EXEC, syscall.MAP_PRIVATE)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		defer syscall.Munmap(m)
	}
	r := newRig(t)
	r.start("keys: [k]\n")
	c := r.container("a", "blessed")
	c.RootAt, _ = placeOf(c.Root)
	count := func(b budget) (files int, unread string) {
		r.notices = nil
		r.drift(t.Context(), &c, 1, &decision{rules: enforce.Rules{Trust: enforce.TrustSBOM, JIT: true}}, b)
		for _, n := range r.notices {
			if n.Reason == "unread" {
				unread = n.Message
			} else {
				files++
			}
		}
		return files, unread
	}
	whole := budget{files: 1000, events: 1000, bytes: 1 << 40, time: time.Hour}
	all, unread := count(whole)
	if all < 8 || unread != "" {
		t.Fatalf("%d files, %q", all, unread)
	}
	few, little, silent, quick := whole, whole, whole, whole
	few.files, little.bytes, silent.events, quick.time = 3, 9000, 2, 0
	for _, c := range []struct {
		name string
		b    budget
		most int
	}{{"files", few, 3}, {"bytes", little, 2}, {"events", silent, 2}, {"time", quick, 0}} {
		files, unread := count(c.b)
		var rest int
		_, err := fmt.Sscanf(unread, "reported: drift: %d or more further", &rest)
		if err != nil || files > c.most || c.most > 0 && (files == 0 || files+rest < all) {
			t.Errorf("%s: %d of %d files; %q %v", c.name, files, all, unread, err)
		}
	}
}

// What a process calls itself hides it neither from a look at it nor from a change of policy.
// One that is in the host's root is the runtime's, which waits to become the container's.
func TestNameOfProcess(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: audit\n")
	c := r.within("a", "blessed", t.TempDir())
	if err := r.Admit(t.Context(), c, Running); err != nil {
		t.Fatal(err)
	}
	if !r.said("drift", "reported", "not-listed") {
		t.Error("no drift")
	}
	r.write("keys: [k]\nmode: enforce\n")
	if err := r.Reload(t.Context(), 0); err != nil || r.kernel.state("a") != "enforce 2" {
		t.Errorf("%v, and the container is %q", err, r.kernel.state("a"))
	}
	waits := r.within("b", "blessed", hostRoot)
	if waits.Root = t.TempDir(); waits.refresh() {
		t.Error("the runtime's process is taken for the container's")
	}
	r.notices = nil
	if err := r.Admit(t.Context(), waits, Running); err != nil || r.said("drift", "reported", "not-listed") {
		t.Errorf("%v %+v", err, r.notices)
	}
}

// A container that had not begun at a change of policy gets it when it has.
func TestReloadBeforeStart(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: audit\n")
	c := r.within("a", "blessed", hostRoot)
	c.Root = t.TempDir()
	if err := r.Admit(t.Context(), c, Starting); err != nil {
		t.Fatal(err)
	}
	r.write("keys: [k]\nmode: enforce\n")
	if err := errors.Join(r.Reload(t.Context(), 0), r.Sweep(t.Context())); err != nil || r.kernel.state("a") != "audit 2" {
		t.Errorf("%v %q", err, r.kernel.state("a"))
	}
	r.within("a", "blessed", c.Root)
	if err := r.Sweep(t.Context()); err != nil || r.kernel.state("a") != "enforce 2" {
		t.Errorf("%v %q", err, r.kernel.state("a"))
	}
}

// A process that goes into a root of its own is not taken for the container, while there is another.
func TestRootOfProcess(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\n")
	root := t.TempDir()
	other, err := os.MkdirTemp("/dev/shm", "sbom-bless-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(other) })
	c := r.within("a", "blessed", root)
	if err := r.Admit(t.Context(), c, Running); err != nil {
		t.Fatal(err)
	}
	for _, roots := range [][]string{{other, t.TempDir(), root}, {hostRoot, other, t.TempDir()}} {
		r.within("a", "blessed", roots...)
		c := r.records[c.key()].Container
		at, err := place{}, error(nil)
		if c.refresh() {
			at, err = placeOf(c.Root)
		}
		if err != nil || at.Device != c.RootAt.Device || roots[2] == root && at != c.RootAt {
			t.Errorf("%v: %+v, want %+v: %v", roots, at, c.RootAt, err)
		}
	}
}

func TestReload(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: audit\n")
	for _, c := range []Container{r.container("a", "blessed"), r.container("b", "blessed"), r.container("c", "other")} {
		if err := r.Admit(t.Context(), c, Running); err != nil {
			t.Fatal(err)
		}
	}
	states := func() string {
		return strings.Join([]string{r.kernel.state("a"), r.kernel.state("b"), r.kernel.state("c")}, ", ")
	}
	step := func(text, wantErr, want string) {
		t.Helper()
		r.write(text)
		err := r.Reload(t.Context(), 0)
		if (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%s: %v, want %q", text, err, wantErr)
		}
		if s := states(); s != want {
			t.Errorf("%s: %s, want %s", text, s, want)
		}
	}
	step("keys: [k]\nmode: enforce\n", "", "enforce 2, enforce 2, audit 0")
	step("keys: [k]\nmode: enforced\n", "policy:2: mode:", "enforce 2, enforce 2, audit 0")
	step("keys: [missing]\nmode: audit\n", "key missing", "enforce 2, enforce 2, audit 0")
	step("keys: [unfit]\nmode: audit\n", "no ECDSA", "enforce 2, enforce 2, audit 0")
	step("keys: [k]\nmode: enforce\nunblessed: deny\n", "", "enforce 2, enforce 2, enforce 0")
	step("keys: [k]\nmode: ignore\n", "", "audit 0, audit 0, audit 0")
	if _, wanted := r.Event(enforce.Event{Domain: 1}); wanted {
		t.Error("events of an ignored container are shown")
	}
	step("keys: [k]\nmode: enforce\n", "", "enforce 2, enforce 2, audit 0")
	if _, wanted := r.Event(enforce.Event{Domain: 1}); !wanted {
		t.Error("events of a container that is watched again are dropped")
	}
	// One container cannot have it: none gets it.
	r.kernel.refuse = "b"
	step("keys: [l]\nguard-all: true\n", "container b: no", "enforce 2, enforce 2, audit 0")
	if got, _ := r.force.rules.For(policy.Container{}); got.GuardAll {
		t.Error("the policy that was refused is in force")
	}
	if d := cmp.Diff([]string{"k"}, r.keys); d != "" {
		t.Error("the keys of a policy that was refused: ", d)
	}
	inForce, err := os.ReadFile(PolicyInForce(r.dir + "/state"))
	if d := cmp.Diff("keys: [k]\nmode: enforce\n", string(inForce)); d != "" || err != nil {
		t.Error(d, err)
	}
}

// A policy whose copy for hooks cannot be kept is in force for nobody.
func TestReloadWithoutCopy(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: audit\n")
	if err := r.Admit(t.Context(), r.container("a", "blessed"), Running); err != nil {
		t.Fatal(err)
	}
	state := r.dir + "/state"
	if err := errors.Join(os.Remove(PolicyInForce(state)), os.MkdirAll(PolicyInForce(state)+"/not-empty", 0o700)); err != nil {
		t.Fatal(err)
	}
	r.write("keys: [l]\nmode: enforce\n")
	r.notices = nil
	if err := r.Reload(t.Context(), 0); err == nil || !r.said("policy", "refused", "") || r.said("policy", "applied", "") {
		t.Errorf("%v %+v", err, r.notices)
	}
	if s := r.kernel.state("a"); s != "audit 2" {
		t.Error(s)
	}
	if got, _ := r.force.rules.For(policy.Container{}); got.Mode != policy.Audit {
		t.Error("the policy that was refused is in force")
	}
	if d := cmp.Diff([]string{"k"}, r.keys); d != "" {
		t.Error("the keys of a policy that was refused: ", d)
	}
	if left, _ := filepath.Glob(state + "/.new-*"); len(left) > 0 {
		t.Error("left: ", left)
	}
}

func TestConfirm(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\n")
	if err := r.Admit(t.Context(), r.container("a", "blessed"), Running); err != nil {
		t.Fatal(err)
	}
	if err := r.Confirm(); !errors.Is(err, ErrNothingToConfirm) {
		t.Errorf("%v", err)
	}
	const audit = "keys: [k]\nmode: audit\n"
	wait := func(want string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); r.kernel.state("a") != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%q, want %q", r.kernel.state("a"), want)
			}
		}
	}
	try := func(confirm time.Duration) {
		t.Helper()
		r.write(audit)
		if err := r.Reload(t.Context(), confirm); err != nil {
			t.Fatal(err)
		}
	}
	bad := func(confirm time.Duration) {
		t.Helper()
		r.write("mode: audit\n")
		if err := r.Reload(t.Context(), confirm); err == nil {
			t.Error("taken")
		}
	}
	t.Run("not confirmed", func(t *testing.T) {
		try(50 * time.Millisecond)
		wait("enforce 2")
	})
	t.Run("and the agent starts anew", func(t *testing.T) {
		for end := time.Now().Add(10 * time.Second); !r.said("policy", "rolled-back", ""); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no notice")
			}
		}
		r.start(audit)
		wait("enforce 2")
	})
	t.Run("killed while it waits", func(t *testing.T) {
		try(time.Hour)
		wait("audit 2")
		r.start(audit)
		wait("audit 2")
		if err := r.Confirm(); err != nil {
			t.Error(err)
		}
	})
	t.Run("confirmed", func(t *testing.T) {
		r.start(audit)
		wait("audit 2")
		if err := r.Confirm(); !errors.Is(err, ErrNothingToConfirm) {
			t.Errorf("%v", err)
		}
	})
	t.Run("killed while it waits, and the file has become bad", func(t *testing.T) {
		r.write("keys: [k]\nmode: enforce\n")
		if err := r.Reload(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		try(time.Hour)
		r.start("keys: [k]\nmode: audits\n")
		wait("audit 2")
		if err := r.Confirm(); err != nil {
			t.Error("it is in force without a deadline: ", err)
		}
	})
	t.Run("the time ends while an agent starts", func(t *testing.T) {
		r.write("keys: [k]\nmode: enforce\n")
		if err := r.Reload(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		try(300 * time.Millisecond)
		r.Agent.mu.Lock()
		r.Agent.confirm.Stop() // killed
		r.Agent.mu.Unlock()
		lists := r.lists
		var asked atomic.Int32
		r.lists = func(ctx context.Context, c *Container) (List, error) {
			if asked.Add(1) == 1 { // the registry is slow at first
				time.Sleep(400 * time.Millisecond)
			}
			return lists(ctx, c)
		}
		r.start(audit)
		wait("enforce 2")
		r.lists = lists
		if err := r.Confirm(); !errors.Is(err, ErrNothingToConfirm) { // waits for the end of it
			t.Errorf("%v", err)
		}
		if text, err := os.ReadFile(PolicyInForce(r.dir + "/state")); string(text) != "keys: [k]\nmode: enforce\n" {
			t.Errorf("in force: %s %v", text, err)
		}
	})
	t.Run("in no time", func(t *testing.T) {
		r.write(audit)
		if err := r.Reload(t.Context(), -time.Minute); err == nil || r.kernel.state("a") != "enforce 2" {
			t.Errorf("%v %s", err, r.kernel.state("a"))
		}
	})
	t.Run("bad policy", func(t *testing.T) {
		bad(time.Hour)
		if err := r.Confirm(); !errors.Is(err, ErrNothingToConfirm) {
			t.Errorf("%v", err)
		}
	})
	t.Run("bad policy during a trial", func(t *testing.T) {
		r.write("keys: [k]\nmode: enforce\n")
		if err := r.Reload(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		try(200 * time.Millisecond)
		bad(time.Hour)
		wait("enforce 2")
		if err := r.Confirm(); !errors.Is(err, ErrNothingToConfirm) { // waits for the end of it
			t.Errorf("%v", err)
		}
	})
}

// A bad file does not keep an agent from starting that has something to go on with.
func TestStartWithBadPolicy(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\n")
	if err := r.Admit(t.Context(), r.container("a", "blessed"), Running); err != nil {
		t.Fatal(err)
	}
	r.start("what: ever\n")
	if s := r.kernel.state("a"); s != "enforce 2" || !r.said("policy", "refused", "") {
		t.Errorf("%q %+v", s, r.notices)
	}
	a, err := New(Options{Verifier: r.kernel, Policy: r.dir + "/policy", State: t.TempDir(), Store: t.TempDir(), Notify: func(Notice) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err == nil {
		t.Error("an agent starts with nothing to go on")
	}
}

func TestBreakGlass(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\nunblessed: deny\nwithout-agent: deny\n")
	if err := r.Admit(t.Context(), r.container("a", "blessed"), Running); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.dir+"/glass", []byte("incident 7\nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Glass(); err != nil {
		t.Fatal(err)
	}
	if err := r.Admit(t.Context(), r.container("b", "other"), Starting); err != nil {
		t.Errorf("refused: %v", err)
	}
	if a, b := r.kernel.state("a"), r.kernel.state("b"); a != "audit 2" || b != "audit 0" || r.closed() {
		t.Errorf("%q %q, closed %v", a, b, r.closed())
	}
	if !slices.ContainsFunc(r.notices, func(n Notice) bool { return n.Action == "broken" && strings.HasSuffix(n.Message, `: "incident 7"`) }) {
		t.Errorf("%+v", r.notices)
	}
	if err := os.Remove(r.dir + "/glass"); err != nil {
		t.Fatal(err)
	}
	if err := r.Glass(); err != nil {
		t.Fatal(err)
	}
	if a, b := r.kernel.state("a"), r.kernel.state("b"); a != "enforce 2" || b != "enforce 0" || !r.said("break-glass", "closed", "") {
		t.Errorf("%q %q", a, b)
	}
}

// What fails is no word on the image. It is tried again, unless nothing unblessed may start.
func TestVerifierFails(t *testing.T) {
	for answer, deny := range map[string]bool{"audit": false, "deny": true} {
		r := newRig(t)
		r.start("keys: [k]\nmode: enforce\nunblessed: " + answer + "\n")
		r.kernel.full = true
		c := r.container("a", "blessed")
		err := r.Admit(t.Context(), c, Starting)
		var refused *Refused
		if err == nil || errors.As(err, &refused) != deny || r.Known(&c) || r.said("container", "denied", ReasonNotEnforced) != deny {
			t.Errorf("%s: %v %+v", answer, err, r.notices)
		}
		r.kernel.full = false
		if err := r.Admit(t.Context(), c, Running); err != nil || r.kernel.state("a") != "enforce 2" {
			t.Errorf("%s: %v %s", answer, err, r.kernel.state("a"))
		}
	}
}

// A container that cannot go back keeps none of the others, and is tried again.
func TestRollBackEach(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\nguard-all: true\n")
	if err := errors.Join(r.Admit(t.Context(), r.container("a", "blessed"), Running), r.Admit(t.Context(), r.container("b", "blessed"), Running)); err != nil {
		t.Fatal(err)
	}
	r.write("keys: [k]\nmode: audit\n")
	if err := r.Reload(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	r.kernel.refuse = "b"
	if err := r.rollBack(); err != nil {
		t.Error(err)
	}
	if a, b := r.kernel.state("a"), r.kernel.state("b"); a != "enforce 2" || b != "audit 2" || !r.said("container", "unchanged", "") {
		t.Errorf("%q %q", a, b)
	}
	if err := r.Sweep(t.Context()); err == nil {
		t.Error("no error")
	}
	r.kernel.refuse = ""
	if err := r.Sweep(t.Context()); err != nil || r.kernel.state("b") != "enforce 2" {
		t.Errorf("%v %q", err, r.kernel.state("b"))
	}
}

// Break-glass is there when registries are not, when a policy is being changed, and when the
// verifier does not take it for one container. A reload does not hide it.
func TestBreakGlassInNeed(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\nunblessed: deny\n")
	if err := errors.Join(r.Admit(t.Context(), r.container("a", "blessed"), Running), r.Admit(t.Context(), r.container("b", "blessed"), Running)); err != nil {
		t.Fatal(err)
	}
	lists, hang, asked := r.lists, make(chan struct{}), make(chan struct{}, 100)
	r.lists = func(ctx context.Context, c *Container) (List, error) {
		asked <- struct{}{}
		<-hang
		return lists(ctx, c)
	}
	reloaded := make(chan error, 1)
	go func() { reloaded <- r.Reload(t.Context(), 0) }()
	<-asked
	r.kernel.refuse = "b"
	if err := os.WriteFile(r.dir+"/glass", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Glass(); err == nil || !strings.Contains(err.Error(), "container b") {
		t.Errorf("%v", err)
	}
	if a := r.kernel.state("a"); a != "audit 2" || !r.said("break-glass", "broken", "") {
		t.Errorf("%q %+v", a, r.notices)
	}
	r.kernel.refuse = ""
	close(hang)
	if err := <-reloaded; err != nil {
		t.Error(err)
	}
	if a, b := r.kernel.state("a"), r.kernel.state("b"); a != "audit 2" || b != "audit 2" {
		t.Errorf("after the reload: %q %q", a, b)
	}
	if err := os.Remove(r.dir + "/glass"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Reload(t.Context(), 0), r.Glass()); err != nil {
		t.Error(err)
	}
	if a, b := r.kernel.state("a"), r.kernel.state("b"); a != "enforce 2" || b != "enforce 2" || !r.said("break-glass", "closed", "") {
		t.Errorf("%q %q", a, b)
	}
}

// A container that does not notice that the glass is whole again is told again.
func TestCloseGlassAgain(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\n")
	if err := r.Admit(t.Context(), r.container("a", "blessed"), Running); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(r.dir+"/glass", nil, 0o600), r.Glass(), os.Remove(r.dir+"/glass")); err != nil {
		t.Fatal(err)
	}
	r.kernel.refuse = "a"
	if err := r.Glass(); err == nil || r.kernel.state("a") != "audit 2" {
		t.Fatalf("%v %q", err, r.kernel.state("a"))
	}
	r.kernel.refuse = ""
	if err := r.Sweep(t.Context()); err != nil || r.kernel.state("a") != "enforce 2" {
		t.Errorf("%v %q", err, r.kernel.state("a"))
	}
}

// A list that could not be had is asked for again.
func TestUnreachable(t *testing.T) {
	r := newRig(t)
	lists := r.lists
	r.lists = func(context.Context, *Container) (List, error) {
		return List{}, &Unblessed{ReasonUnreachable, errors.New("connection refused")}
	}
	r.start("keys: [k]\nmode: enforce\n")
	c := r.container("a", "blessed")
	c.Root = t.TempDir() + "/merged" // gone when the container has entered it
	if err := errors.Join(os.Symlink("/", c.Root), r.Admit(t.Context(), c, Starting), os.Remove(c.Root)); err != nil {
		t.Fatal(err)
	}
	r.lists = lists
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := r.kernel.state("a"); s != "enforce 2" {
		t.Errorf("%q", s)
	}
}

// Everything at once: for the race detector, and no container may be left under a policy that
// is no longer in force.
func TestConcurrency(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: audit\n")
	var wg sync.WaitGroup
	for i := range 20 {
		c := r.container(fmt.Sprint("c", i), "blessed")
		wg.Go(func() {
			for _, stage := range []Stage{Created, Running} {
				if err := r.Admit(t.Context(), c, stage); err != nil {
					t.Error(err)
				}
			}
		})
	}
	r.write("keys: [k]\nmode: enforce\n")
	for range 3 {
		wg.Go(func() {
			if err := errors.Join(r.Reload(t.Context(), 0), r.Sweep(t.Context()), r.Glass()); err != nil {
				t.Error(err)
			}
			r.Event(enforce.Event{Action: "allowed", Image: "blessed"})
		})
	}
	wg.Wait()
	for i := range 20 {
		if s := r.kernel.state(fmt.Sprint("c", i)); s != "enforce 2" {
			t.Errorf("container %d: %q", i, s)
		}
	}
	if r.kernel.next != 20 {
		t.Errorf("%d domains for 20 containers", r.kernel.next)
	}
}

// Statistics that cannot be read keep no agent from starting.
func TestBrokenTally(t *testing.T) {
	r := newRig(t)
	if err := errors.Join(os.Mkdir(r.dir+"/store", 0o700), os.WriteFile(r.dir+"/store/used.json", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	r.start("keys: [k]\n")
	if !r.said("container", "failed", "") {
		t.Errorf("%+v", r.notices)
	}
	r.tally.Image(enforce.Set{Name: "i", Files: make([]enforce.File, 1)})
	if err := r.Save(); err != nil {
		t.Error(err)
	}
	if tally, err := OpenTally(r.dir + "/store"); err != nil || len(tally.Images()) != 1 {
		t.Error(err)
	}
}

func TestTally(t *testing.T) {
	dir := t.TempDir()
	tally, err := OpenTally(dir)
	if err != nil {
		t.Fatal(err)
	}
	tally.Image(enforce.Set{Name: "i@1", Files: []enforce.File{{Package: "deb a 1"}, {Package: "deb a 1"}, {Package: "deb b 2"}, {},
		{Package: "deb a 1", Image: "joined"}, {Package: "deb d 4", Image: "joined"}}})
	at := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	for _, e := range []enforce.Event{
		{Image: "i@1", Package: "deb a 1", SHA256: "0123456789", Time: at},
		{Image: "i@1", Package: "deb a 1", SHA256: "0123456789", Time: at.Add(time.Hour)},
		{Image: "i@1", Package: "deb c 3", SHA256: "0123456789", Time: at},
		{Image: "other", Package: "deb a 1", SHA256: "0123456789", Time: at},
		{Image: "i@1", List: "joined", Package: "deb b 2", SHA256: "0123456789", Time: at},
	} {
		tally.Used(e)
	}
	if err := tally.Save(); err != nil {
		t.Fatal(err)
	}
	if tally, err = OpenTally(dir); err != nil {
		t.Fatal(err)
	}
	images := tally.Images()
	if len(images) != 1 {
		t.Fatalf("%d images", len(images))
	}
	if d := cmp.Diff([][]string{{"deb a 1", "deb b 2"}, {"deb a 1"}}, [][]string{images[0].Named(), images[0].Used()}); d != "" {
		t.Error(d)
	}
	want := &PackageTally{Files: 2, Ran: []string{"01234567"}, First: at, Last: at.Add(time.Hour)}
	if d := cmp.Diff(want, images[0].Packages["deb a 1"]); d != "" {
		t.Error(d)
	}
	for i := range maxImages + 1 {
		tally.Image(enforce.Set{Name: fmt.Sprint(i), Files: make([]enforce.File, 1)})
	}
	if n := len(tally.Images()); n != maxImages {
		t.Errorf("%d images are kept", n)
	}
}

// A registry that does not answer is waited for once, not once for each container.
func TestStartAsksForListsTogether(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\n")
	const n = 3
	for i := range n {
		if err := r.Admit(t.Context(), r.container(fmt.Sprint("c", i), "other"), Running); err != nil {
			t.Fatal(err)
		}
	}
	var asked atomic.Int32
	all := make(chan struct{})
	r.lists = func(context.Context, *Container) (List, error) {
		if asked.Add(1) == n {
			close(all)
		}
		select {
		case <-all:
		case <-time.After(20 * time.Second):
			t.Error("one list is asked for after the other")
		}
		return List{}, &Unblessed{ReasonUnreachable, errors.New("timeout")}
	}
	r.start("keys: [k]\nmode: enforce\n")
}
