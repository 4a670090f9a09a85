// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/refname"
	"github.com/sbom-bless/sbom-bless/policy"
)

// maxEvidence is how many different pieces of evidence are kept for one thing; more are counted.
const maxEvidence = 20

// Evidence is what was seen: who did what, how often.
type Evidence struct {
	Operation string    `json:"operation"`
	Reason    string    `json:"reason,omitempty"`
	Path      string    `json:"path,omitempty"`
	Package   string    `json:"package,omitempty"`
	Command   string    `json:"command,omitempty"`
	UID       uint32    `json:"uid"`
	Times     int       `json:"times"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

// Finding is a rule that what was seen needs, or a reason that no rule removes.
type Finding struct {
	// Rule is the one of the policy, Values what it has to name, where it names something.
	Rule   string   `json:"rule,omitempty"`
	Values []string `json:"values,omitempty"`
	// Reason is that of events that no rule allows, Why what can be done.
	Reason string `json:"reason,omitempty"`
	Why    string `json:"why,omitempty"`
	// Weakens says what the rule gives up.
	Weakens  string     `json:"weakens,omitempty"`
	Evidence []Evidence `json:"evidence"`
	// More counts evidence beyond what is kept.
	More int `json:"more,omitempty"`
}

// Workload is the containers of one image, whatever its version, in one namespace, and what they would need.
type Workload struct {
	Image     string    `json:"image"`
	Namespace string    `json:"namespace,omitempty"`
	Digests   []string  `json:"digests,omitempty"`
	Records   int       `json:"records"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	// InForce are the rules that it was under when it was last told of; nil: nobody told.
	InForce *policy.Rules `json:"in-force,omitempty"`
	// Rules are those that it needs beside these, Against what keeps it from being enforced.
	Rules   []*Finding `json:"rules"`
	Against []*Finding `json:"against"`
	// Ready: with these rules, nothing that was seen would be denied.
	Ready bool `json:"ready"`
}

// Learner takes in records. Its zero value is ready.
type Learner struct {
	workloads map[[2]string]*learned
}

type learned struct {
	Workload
	needs, against map[string]*Finding
	// mounted has a path for each filesystem that something was run from.
	mounted map[filesystem]string
}

// filesystem is one that a container sees. Of two containers the numbers may be the same.
type filesystem struct{ domain, device uint32 }

// imageName is what a policy can match: the name without tag and digest, or the id of an image that has none.
func imageName(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if strings.HasPrefix(name, "sha256:") {
		return name
	}
	return refname.Repository(name)
}

// Add takes in a record. What says nothing of a workload is passed over.
func (l *Learner) Add(r Record) {
	told := r.Operation == "container"
	if r.Image == "" || r.Container == "" || told && r.Action == "ignored" { // nobody watched it
		return
	}
	key := [2]string{r.Namespace, imageName(r.Image)}
	w := l.workloads[key]
	if w == nil {
		if l.workloads == nil {
			l.workloads = map[[2]string]*learned{}
		}
		w = &learned{
			Workload: Workload{Image: key[1], Namespace: key[0], First: r.Time},
			needs:    map[string]*Finding{}, against: map[string]*Finding{}, mounted: map[filesystem]string{},
		}
		l.workloads[key] = w
	}
	w.Records++
	if r.Time.Before(w.First) {
		w.First = r.Time
	}
	if r.Time.After(w.Last) {
		w.Last = r.Time
	}
	if _, digest, ok := strings.Cut(r.Image, "@"); ok && !slices.Contains(w.Digests, digest) {
		w.Digests = append(w.Digests, digest)
	}
	if r.Rules != nil {
		w.InForce = r.Rules
	}
	if told && r.Action == "listed" { // a list that came late is there now
		maps.DeleteFunc(w.against, func(_ string, f *Finding) bool { return f.Reason == "no-set" || f.Evidence[0].Operation == "container" })
	}
	switch rule, why := needed(&r); {
	case rule == "mounts":
		// The rule names a place, and means the filesystem: one path of each is enough.
		on := filesystem{r.Domain, r.Device}
		if r.Device == 0 || w.mounted[on] == "" || r.Path < w.mounted[on] {
			w.mounted[on] = r.Path
		}
		w.need(rule, &r)
		if r.Device == 0 {
			w.needs[rule].value(r.Path)
		}
	case rule == "join":
		w.need(rule, &r)
		w.needs[rule].value(r.List)
	case rule != "":
		w.need(rule, &r)
	case why != "":
		f := w.against[r.Reason+" "+why]
		if f == nil {
			f = &Finding{Reason: r.Reason, Why: why}
			w.against[r.Reason+" "+why] = f
		}
		f.saw(&r)
	}
}

func (w *learned) need(name string, r *Record) {
	if w.needs[name] == nil {
		w.needs[name] = &Finding{Rule: name, Weakens: rules[name].weakens}
	}
	w.needs[name].saw(r)
}

func (f *Finding) value(v string) {
	if i, is := slices.BinarySearch(f.Values, v); !is {
		f.Values = slices.Insert(f.Values, i, v)
	}
}

func (f *Finding) saw(r *Record) {
	e := Evidence{Operation: r.Operation, Reason: r.Reason, Path: r.Path, Package: r.Package, Command: r.Command, UID: r.UID}
	for i := range f.Evidence {
		known := &f.Evidence[i]
		same := *known
		same.Times, same.First, same.Last = 0, time.Time{}, time.Time{}
		if same == e {
			known.Times++
			known.Last = r.Time
			return
		}
	}
	if len(f.Evidence) == maxEvidence {
		f.More++
		return
	}
	e.Times, e.First, e.Last = 1, r.Time, r.Time
	f.Evidence = append(f.Evidence, e)
}

// needed gives the rule that allows what a record is about, or why none does; neither: it needs none.
func needed(r *Record) (rule, why string) {
	switch {
	case r.Action == "allowed" && r.List != "":
		return "join", ""
	case r.Reason == "no-seccomp", r.Operation != "container" && !r.refused(), r.Reason == "":
		return "", ""
	case r.Operation == "drift" && r.Reason == "anonymous":
		return "jit", ""
	case r.Operation == "drift":
		return "", "A process executed it before the verifier knew of the container. Start the container anew, and look again."
	}
	unlisted := "No list has a file at this path. Find out where it comes from: if it belongs there, bless an image that has it, and `join` that with `" + r.Rule + "`."
	switch r.Rule {
	case "jit", "devices":
		return r.Rule, ""
	case "soft":
		if r.Operation == "setattr" || r.Listed {
			return r.Rule, ""
		}
		return "", unlisted
	case "mounts":
		if r.Listed {
			return r.Rule, ""
		}
		return "", unlisted
	case "max-size":
		return "", "`max-size` above the size of the file allows it. The event does not tell that size."
	}
	if r.Operation == "read-code" {
		return "", "Rule `interpreters` asks for it: without that rule, opening the file is not judged. " + meanings[r.Reason].why
	}
	if m, ok := meanings[r.Reason]; ok {
		return "", m.why + " " + m.allow
	}
	return "", "This version does not know the reason."
}

// Workloads gives what was learned, by namespace and image; those of no namespace come last, as a match for them
// fits in every one.
func (l *Learner) Workloads() []*Workload {
	list := []*Workload{}
	for _, w := range l.workloads {
		for _, path := range w.mounted {
			w.needs["mounts"].value(path)
		}
		w.Rules, w.Against = []*Finding{}, []*Finding{}
		for _, name := range slices.Sorted(maps.Keys(w.needs)) {
			if f := w.needs[name]; !has(w.InForce, f) {
				w.Rules = append(w.Rules, f)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(w.against)) {
			w.Against = append(w.Against, w.against[name])
		}
		slices.Sort(w.Digests)
		w.Ready = len(w.Against) == 0
		list = append(list, &w.Workload)
	}
	slices.SortFunc(list, func(a, b *Workload) int {
		if none := (a.Namespace == "") != (b.Namespace == ""); none {
			return cmp.Compare(b.Namespace, a.Namespace)
		}
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Image, b.Image))
	})
	return list
}

// has tells whether rules have what is needed already.
func has(r *policy.Rules, f *Finding) bool {
	if r == nil {
		return false
	}
	all := func(have []string) bool {
		return !slices.ContainsFunc(f.Values, func(v string) bool { return !slices.Contains(have, v) })
	}
	switch f.Rule {
	case "jit":
		return r.JIT
	case "soft":
		return r.Soft
	case "devices":
		return r.Devices
	case "mounts":
		return all(r.Mounts)
	case "join":
		return all(r.Join)
	}
	return false
}

// Policy writes a policy that has a match for each workload: mode enforce for those that are ready, and for the others what
// they were under. The rules that they were under stay; each further one has its evidence in a comment. With pin, no
// other manifests count than those that were seen.
func Policy(workloads []*Workload, keys []string, pin bool) string {
	var b strings.Builder
	b.WriteString("# What was seen, as the least policy under which it would pass. A match decides alone: where the policy in\n" +
		"# force has one for the same containers, put these in front of it, or join the two.\n")
	fmt.Fprintf(&b, "keys: %s\nmode: audit\nmatches:", list(keys))
	if len(workloads) == 0 {
		b.WriteString(" []")
	}
	b.WriteString("\n")
	for _, w := range workloads {
		w.match(&b, pin)
	}
	return b.String()
}

func (w *Workload) match(b *strings.Builder, pin bool) {
	line := func(format string, a ...any) { fmt.Fprintf(b, "    "+format+"\n", a...) }
	before := policy.Rules{Mode: policy.Audit, Unblessed: policy.AnswerAudit, Trust: policy.TrustSBOM, MaxSize: policy.DefaultMaxSize}
	r := before
	if w.InForce != nil {
		r = *w.InForce
	}
	fmt.Fprintf(b, "  - image: %s\n", pattern(w.Image))
	if w.Namespace != "" {
		line("namespace: %s", pattern(w.Namespace))
	}
	line("# %s.", w.Summary())
	for _, f := range w.Against {
		line("# against: %s: %s", f.Reason, safe(f.Why))
		f.comments(line)
	}
	if w.InForce == nil {
		line("# The rules that it was under are not known: no event here tells of its start.")
	}
	if w.Ready && r.Mode == policy.Audit {
		r.Mode = policy.Enforce
	}
	line("mode: %s", r.Mode)
	wants := map[string]*Finding{}
	for _, f := range w.Rules {
		wants[f.Rule] = f
	}
	// What it was under stays: whether it still needs that, nothing here can tell.
	in := func(name, value string, is bool) {
		if is && wants[name] == nil {
			line("%s: %s # in force already", name, value)
		}
	}
	in("unblessed", string(r.Unblessed), r.Unblessed != before.Unblessed)
	in("trust", string(r.Trust), r.Trust != before.Trust)
	in("interpreters", "true", r.Interpreters)
	in("guard-all", "true", r.GuardAll)
	in("max-size", size(r.MaxSize), r.MaxSize != before.MaxSize)
	in("not-before", r.NotBefore.UTC().Format(time.RFC3339), !r.NotBefore.IsZero())
	in("jit", "true", r.JIT)
	in("soft", "true", r.Soft)
	in("devices", "true", r.Devices)
	in("mounts", list(r.Mounts), len(r.Mounts) > 0)
	in("join", list(r.Join), len(r.Join) > 0)
	switch {
	case len(r.Digests) > 0:
		line("digests: %s # in force already", list(r.Digests))
	case pin && len(w.Digests) > 0:
		line("digests: %s", list(w.Digests))
	}
	for _, f := range w.Rules {
		line("# %s %s. %s", f.Rule, rules[f.Rule].does, f.Weakens)
		f.comments(line)
		switch f.Rule {
		case "mounts":
			line("# A path must be there when the container starts: where it is not, name the directory that is mounted.")
			line("mounts: %s", list(union(r.Mounts, f.Values)))
		case "join":
			line("join: %s", list(union(r.Join, f.Values)))
		default:
			line("%s: true", f.Rule)
		}
	}
}

// Summary says in a line whether a workload can be enforced.
func (w *Workload) Summary() string {
	in := w.Image
	if w.Namespace != "" {
		in += " in namespace " + w.Namespace
	}
	var names []string
	for _, f := range w.Rules {
		names = append(names, f.Rule)
	}
	said := "ready to enforce"
	switch {
	case !w.Ready:
		reasons := map[string]bool{}
		for _, f := range w.Against {
			reasons[f.Reason] = true
		}
		said = "not ready: " + strings.Join(slices.Sorted(maps.Keys(reasons)), ", ")
	case len(names) > 0:
		said += " with " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s: %s; %s from %s to %s", safe(in), said, counted(w.Records, "event"), w.First.UTC().Format(time.RFC3339), w.Last.UTC().Format(time.RFC3339))
}

// comments writes the evidence.
func (f *Finding) comments(line func(format string, a ...any)) {
	for _, e := range f.Evidence {
		what := e.Operation
		if e.Reason != "" {
			what += " (" + e.Reason + ")"
		}
		if e.Path != "" {
			what += " of " + safe(e.Path)
		}
		if e.Package != "" {
			what += " of package " + safe(e.Package)
		}
		if e.Command != "" {
			what += fmt.Sprintf(" by %s, user %d", safe(e.Command), e.UID)
		}
		line("#   %s, %s, last %s", what, counted(e.Times, "time"), e.Last.UTC().Format(time.RFC3339))
	}
	if f.More > 0 {
		line("#   and %s more like these", counted(f.More, "event"))
	}
}

// pattern is a text that fits nothing but itself.
func pattern(s string) string {
	return strconv.Quote(strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `{`, `\{`, `}`, `\}`).Replace(s))
}

func list(values []string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strconv.Quote(v)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func size(n uint64) string {
	if n == 0 {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}
