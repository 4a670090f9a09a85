// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fuzz

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/sbom-bless/sbom-bless/enforce"
	"golang.org/x/sys/unix"
)

// plan is a sequence of steps, and the container that they are done in. The
// seed alone makes it.
type plan struct {
	seed    uint64
	rules   enforce.Rules
	options string   // of the overlay
	judged  []string // run before
	actors  int
	steps   []step
}

// step is what one actor does at once.
type step struct {
	actor int
	kind  string
	calls []call
	must  bool
	look  bool // the model is checked after it
}

func (s step) lines() string {
	var b strings.Builder
	for _, c := range s.calls {
		fmt.Fprintf(&b, "actor %d  %s", s.actor, c.line())
		if c.fd != 0 {
			fmt.Fprintf(&b, " -> fd %d", c.fd)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// ruleSets are the rules that a sequence can have, with mode enforce or audit.
var ruleSets = []enforce.Rules{
	{},
	{Soft: true},
	{JIT: true},
	{Interpreters: true},
	{GuardAll: true},
	{Mounts: []string{"/data"}},
	{Mounts: []string{"/data"}},
	{Soft: true, Mounts: []string{"/data"}},
	{JIT: true, Mounts: []string{"/data"}},
	{Soft: true, Interpreters: true, GuardAll: true},
}

// gen draws steps. What a sequence draws from is itself drawn: a few kinds of
// steps, of files, of descriptors and of places in memory, so that steps have
// to do with each other (Groce et al., "Swarm testing", ISSTA 2012).
type gen struct {
	r       *rand.Rand
	kinds   []kind
	weights int
	owned   []string
	shipped []string
	fds     int
	places  int
	actors  int // allowed
	spawned int
	named   int
}

// newPlan makes the sequence of the seed.
func newPlan(seed uint64) plan {
	g := &gen{r: rand.New(rand.NewPCG(seed, 0))}
	p := plan{seed: seed, rules: ruleSets[g.r.IntN(len(ruleSets))]}
	p.rules.Enforce = g.r.IntN(8) != 0
	p.options = g.pick("", "", "", ",redirect_dir=on", ",metacopy=on")
	g.fds, g.places = 1+g.r.IntN(3), 1+g.r.IntN(3)
	g.actors = []int{1, 1, 1, 2, 2, mostActors}[g.r.IntN(6)]
	p.actors, g.spawned = g.actors, 1
	g.owned = g.some(1+g.r.IntN(3), "/home/a", "/home/b", "/home/c.sh", "/data/a", "/data/b", "/data/upper/a", "/data/upper/true", "/mnt/2/a")
	g.shipped = g.some(1+g.r.IntN(3), "/bin/true", "/bin/wait", "/bin/large", "/bin/set-id", "/bin/script.sh", "/lib/lib.so.1", "/lib/module.py",
		"/opt/unlisted", "/opt/plain", "/bin/link", "/bin/true")
	for _, name := range g.shipped {
		if runnable(name) && g.r.IntN(2) == 0 {
			p.judged = append(p.judged, name)
		}
	}
	g.focus()
	for range 6 + g.r.IntN(30) {
		p.steps = append(p.steps, g.step())
	}
	return p
}

// runnable tells whether it is a program that ends.
func runnable(name string) bool {
	return name == "/bin/true" || name == "/bin/large" || name == "/bin/set-id"
}

// focus chooses the kinds of steps: of a few groups half.
func (g *gen) focus() {
	take := func(in int, from []kind) {
		for _, k := range from {
			if g.r.IntN(in) != 0 {
				g.kinds = append(g.kinds, k)
				g.weights += k.weight
			}
		}
	}
	take(6, common)
	for _, i := range g.r.Perm(len(groups))[:1+g.r.IntN(3)] {
		take(2, groups[i])
	}
	g.kinds = append(g.kinds, kind{"put", 1, common[0].calls}) // so that there is one
	g.weights++
}

func (g *gen) step() step {
	s := step{actor: g.r.IntN(g.spawned), look: g.r.IntN(6) == 0}
	from, at := g.kinds, g.r.IntN(g.weights)
	if g.r.IntN(12) == 0 {
		from, at, s.must = harmless, g.r.IntN(len(harmless)), true
	}
	k := from[slices.IndexFunc(from, func(k kind) bool { at -= k.weight; return at < 0 })]
	s.kind, s.calls = k.name, k.calls(g)
	return s
}

// spawn gives the number of a new actor.
func (g *gen) spawn() int {
	if g.spawned < g.actors {
		g.spawned++
	}
	return g.spawned - 1
}

// some picks n different ones.
func (g *gen) some(n int, from ...string) []string {
	g.r.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	return slices.Clone(from[:n])
}

func (g *gen) pick(from ...string) string { return from[g.r.IntN(len(from))] }

func (g *gen) pickInt(from ...int) int { return from[g.r.IntN(len(from))] }

// flag picks of pairs: a name and its value.
func (g *gen) flag(pairs ...any) flags {
	i := 2 * g.r.IntN(len(pairs)/2)
	return flags{pairs[i+1].(int), pairs[i].(string)}
}

func (g *gen) own() string { return g.alias(g.pick(g.owned...)) }

func (g *gen) any() string {
	if g.r.IntN(2) == 0 {
		return g.own()
	}
	return g.alias(g.pick(g.shipped...))
}

// alias is the name, or another that can lead to the same file.
func (g *gen) alias(name string) string {
	if g.r.IntN(3) != 0 {
		return name
	}
	base := path.Base(name)
	switch path.Dir(name) {
	case "/data/upper":
		return g.pick("/mnt/overlay/", "/mnt/overlay/", "/mnt/1/") + base
	case "/mnt/2":
		return "/mnt/overlay/" + base
	case "/bin", "/lib":
		return g.pick("/mnt/1/", "/mnt/overlay/", "/proc/self/root"+path.Dir(name)+"/") + base
	}
	return g.pick("/mnt/1/"+base, "/proc/self/root"+name)
}

func (g *gen) fd() int { return 50 + g.r.IntN(g.fds) }

// from is a descriptor to read from.
func (g *gen) from() int { return g.pickInt(source, g.fd()) }

func (g *gen) address() int { return area + apart*g.r.IntN(g.places) }

// offset is one in a file, or in memory, where something begins or ends.
func (g *gen) offset() int {
	return g.pickInt(0, 0, entry, len(exiting(0)), page-64, page)
}

func (g *gen) how() flags { return g.flag("fork", 0, "vfork", runVfork, "vfork, go on", runOn) }

func (g *gen) openFlags() int {
	f := g.pickInt(unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR, 3)
	for _, more := range []struct{ bit, in int }{
		{unix.O_TRUNC, 4}, {unix.O_CREAT, 4}, {unix.O_APPEND, 12}, {unix.O_DIRECT, 12}, {unix.O_NOFOLLOW, 12}, {unix.O_EXCL, 16},
	} {
		if g.r.IntN(more.in) == 0 {
			f |= more.bit
		}
	}
	return f
}

func (g *gen) open(name string, f, to int) call {
	return call{nr: unix.SYS_OPENAT, arg: []any{cwd, name, openFlags(f), flags{0o755, "0755"}}, fd: to}
}

// write has the file hold b, if it lets itself be opened so.
func (g *gen) write(name string, f int, b []byte) []call {
	return []call{g.open(name, f, tmp), {nr: unix.SYS_PWRITE64, arg: []any{atFD(tmp), b, len(b), 0}}, closing(tmp)}
}

func (g *gen) mmap(fd int) call {
	return call{nr: unix.SYS_MMAP, arg: []any{g.address(), g.pickInt(page, room), prot(g.r.IntN(8)),
		mapFlags(unix.MAP_FIXED | g.pickInt(unix.MAP_PRIVATE, unix.MAP_SHARED)), atFD(fd), g.pickInt(0, 0, 0, page)}}
}

// buffer is a descriptor, content and its length, as write(2) has them.
func (g *gen) buffer(fd int) []any {
	b := g.content()
	return []any{atFD(fd), b, len(b)}
}

// contents are what files get: listed programs, one that must not run, scripts.
var contents = []struct {
	name string
	b    []byte
}{
	{"/bin/wait", waiting()}, {"/bin/wait", waiting()}, {"/bin/true", exiting(0)}, {"/bin/large", imageFiles[2].content},
	{"a program that exits 42", exiting(evil)}, {"a program that exits 42", exiting(evil)}, {"a large program that exits 42", padded(exiting(evil), 16<<10-256)},
	{"its code", exiting(evil)[entry:]}, {"a script of /home/a", []byte("#!/home/a\n")}, {"/bin/script.sh", imageFiles[4].content},
}

func (g *gen) content() []byte { return contents[g.r.IntN(len(contents))].b }

func contentName(b []byte) string {
	for _, c := range contents {
		if bytes.Equal(c.b, b) {
			return "<" + c.name + ">"
		}
	}
	if len(b) == 8 {
		return fmt.Sprintf("&%d", b[0])
	}
	return fmt.Sprintf("<%d bytes>", len(b))
}
