// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/policy"
)

// seen is an event of a container, as the agent writes it.
func seen(image, namespace string, e enforce.Event) Record {
	e.Image, e.Container, e.Domain = image+"@"+digest, "app", 7
	if e.Time.IsZero() {
		e.Time = time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	}
	return Record{Event: e, Namespace: namespace}
}

// kinds are events that a rule allows, and those that none does.
var kinds = map[string]struct {
	event enforce.Event
	rule  string
}{
	"anonymous memory":        {enforce.Event{Operation: "mmap", Reason: "anonymous", Rule: "jit", Command: "node"}, "jit"},
	"written memory":          {enforce.Event{Operation: "mprotect", Reason: "write-exec", Rule: "jit", Command: "java"}, "jit"},
	"a memfd":                 {enforce.Event{Operation: "mmap", Reason: "foreign-fs", Rule: "jit", Path: "/memfd:code"}, "jit"},
	"userfaultfd":             {enforce.Event{Operation: "userfaultfd", Reason: "hardened", Rule: "jit"}, "jit"},
	"memory before":           {enforce.Event{Operation: "drift", Reason: "anonymous", Command: "node"}, "jit"},
	"owner":                   {enforce.Event{Operation: "setattr", Reason: "guarded", Rule: "soft", Path: "/usr/bin/app"}, "soft"},
	"a copy":                  {enforce.Event{Operation: "exec", Reason: "writable-layer", Rule: "soft", Path: "/usr/bin/app", Listed: true}, "soft"},
	"a plugin":                {enforce.Event{Operation: "mmap", Reason: "foreign-fs", Rule: "mounts", Path: "/plugins/a.so", Listed: true, Device: 9}, "mounts"},
	"a disk":                  {enforce.Event{Operation: "write", Reason: "hardened", Rule: "devices", Path: "/dev/sda"}, "devices"},
	"a joined file":           {enforce.Event{Operation: "exec", Action: "allowed", Path: "/tini", List: "tools@" + digest, SHA256: "5"}, "join"},
	"a dropped program":       {enforce.Event{Operation: "exec", Reason: "writable-layer", Rule: "soft", Path: "/tmp/x"}, ""},
	"a program on a volume":   {enforce.Event{Operation: "exec", Reason: "foreign-fs", Rule: "mounts", Path: "/data/x"}, ""},
	"a large file":            {enforce.Event{Operation: "mmap", Reason: "too-large", Rule: "max-size", Path: "/gpu.so"}, ""},
	"another content":         {enforce.Event{Operation: "exec", Reason: "modified", Path: "/usr/bin/app", Listed: true}, ""},
	"an unlisted file":        {enforce.Event{Operation: "exec", Reason: "not-listed", Path: "/usr/bin/x"}, ""},
	"a write to code":         {enforce.Event{Operation: "write", Reason: "guarded", Path: "/usr/bin/app"}, ""},
	"an unblessed container":  {enforce.Event{Operation: "container", Reason: "no-attestation"}, ""},
	"one left alone for that": {enforce.Event{Operation: "container", Action: "allowed", Reason: "no-attestation"}, ""},
	"a file before":           {enforce.Event{Operation: "drift", Reason: "not-listed", Path: "/tmp/x"}, ""},
}

// What the policy ignores is not seen, so nothing is said of it.
func TestIgnoredIsNotSeen(t *testing.T) {
	if w, _, text := recommend(t, []Record{seen("pause", "", enforce.Event{Operation: "container", Action: "ignored"})}); len(w) != 0 {
		t.Error(text)
	}
}

// A container whose list came late is not held against its workload, one whose list never came is.
func TestLateList(t *testing.T) {
	unreachable := seen("app", "", enforce.Event{Operation: "container", Action: "reported", Reason: "unreachable"})
	ran := seen("app", "", enforce.Event{Operation: "exec", Action: "reported", Reason: "no-set", Path: "/bin/app"})
	listed := seen("app", "", enforce.Event{Operation: "container", Action: "listed"})
	if w, _, text := recommend(t, []Record{unreachable, ran, listed}); !w[0].Ready {
		t.Error(text)
	}
	if w, _, text := recommend(t, []Record{listed, unreachable, ran}); w[0].Ready || len(w[0].Against) != 2 {
		t.Error(text)
	}
}

// permits tells whether rules have what lets an event pass, as docs/policy.md and docs/enforce.md say it, and not
// as the code under test does.
func permits(r policy.Rules, e *enforce.Event) bool {
	switch {
	case e.Action == "allowed" && e.Operation != "container":
		return e.List == "" || slices.Contains(r.Join, e.List)
	case e.Reason == "anonymous", e.Reason == "write-exec", e.Operation == "userfaultfd", strings.HasPrefix(e.Path, "/memfd:"):
		return r.JIT
	case e.Reason == "guarded" && e.Operation == "setattr", e.Reason == "writable-layer" && e.Listed:
		return r.Soft
	case e.Reason == "foreign-fs" && e.Listed:
		return len(r.Mounts) > 0
	case e.Reason == "hardened" && strings.HasPrefix(e.Path, "/dev/"):
		return r.Devices
	}
	return false
}

func recommend(t *testing.T, records []Record) ([]*Workload, *policy.Policy, string) {
	t.Helper()
	var l Learner
	for _, r := range records {
		l.Add(r)
	}
	workloads := l.Workloads()
	text := Policy(workloads, []string{"/etc/sbom-bless/bless.crt"}, false)
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return workloads, p, text
}

// Of each kind of event alone: the rule that it needs, no other, and an end of the denial; or a reason
// against, and no rule at all.
func TestEachKind(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			e := k.event
			if e.Action == "" {
				e.Action = "reported"
			}
			r := seen("registry.example/app", "shop", e)
			workloads, p, text := recommend(t, []Record{r, r})
			w := workloads[0]
			rules, m := p.For(policy.Container{Image: "registry.example/app:1", Namespace: "shop"})
			if m == nil || len(workloads) != 1 {
				t.Fatalf("%d workloads\n%s", len(workloads), text)
			}
			want := policy.Rules{Mode: policy.Audit, Unblessed: policy.AnswerAudit, Trust: policy.TrustSBOM, MaxSize: policy.DefaultMaxSize}
			if k.rule != "" {
				want.Mode = policy.Enforce
			}
			switch k.rule {
			case "jit":
				want.JIT = true
			case "soft":
				want.Soft = true
			case "devices":
				want.Devices = true
			case "mounts":
				want.Mounts = []string{e.Path}
			case "join":
				want.Join = []string{e.List}
			}
			if d := cmp.Diff(want, rules); d != "" {
				t.Errorf("%s\n%s", d, text)
			}
			if w.Ready != (k.rule != "") || permits(rules, &r.Event) != (k.rule != "") {
				t.Errorf("ready %v, permitted %v", w.Ready, permits(rules, &r.Event))
			}
			found := append(slices.Clone(w.Rules), w.Against...)
			if len(found) != 1 || len(found[0].Evidence) != 1 || found[0].Evidence[0].Times != 2 || found[0].Evidence[0].Path != e.Path {
				t.Fatalf("%+v", found)
			}
			if k.rule != "" && (found[0].Weakens == "" || !strings.Contains(text, found[0].Weakens)) || k.rule == "" && found[0].Why == "" {
				t.Errorf("%+v\n%s", found[0], text)
			}
			// Nobody else gets anything.
			for _, c := range []policy.Container{{Image: "registry.example/app:1", Namespace: "other"}, {Image: "registry.example/app2", Namespace: "shop"}} {
				if _, m := p.For(c); m != nil {
					t.Errorf("%+v has a match\n%s", c, text)
				}
			}
		})
	}
}

// Of any mixture: every event of a workload that is ready passes, and a rule is there only where an event
// of that very workload needs it.
func TestMixtures(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	for range 300 {
		var records []Record
		needs := map[string]map[string]bool{}
		for range random.IntN(12) {
			k := kinds[names[random.IntN(len(names))]]
			e := k.event
			if e.Action == "" {
				e.Action = []string{"reported", "denied"}[random.IntN(2)]
			}
			r := seen(fmt.Sprint("app", random.IntN(3)), []string{"", "shop"}[random.IntN(2)], e)
			records = append(records, r)
			key := r.Namespace + " " + imageName(r.Image)
			if needs[key] == nil {
				needs[key] = map[string]bool{}
			}
			needs[key][k.rule] = true
		}
		workloads, p, text := recommend(t, records)
		if len(workloads) != len(needs) {
			t.Fatalf("%d workloads, want %d", len(workloads), len(needs))
		}
		for _, w := range workloads {
			rules, _ := p.For(policy.Container{Image: w.Image + ":1", Namespace: w.Namespace})
			need := needs[w.Namespace+" "+w.Image]
			got := map[string]bool{"jit": rules.JIT, "soft": rules.Soft, "devices": rules.Devices, "mounts": rules.Mounts != nil, "join": rules.Join != nil}
			for rule, is := range got {
				if is != need[rule] {
					t.Fatalf("%s: rule %s is %v\n%s", w.Image, rule, is, text)
				}
			}
			if w.Ready == need[""] || (rules.Mode == policy.Enforce) != w.Ready || rules.Interpreters || rules.GuardAll || rules.MaxSize != policy.DefaultMaxSize {
				t.Fatalf("%s: ready %v, %+v\n%s", w.Image, w.Ready, rules, text)
			}
		}
		for _, r := range records {
			rules, _ := p.For(policy.Container{Image: r.Image, Namespace: r.Namespace})
			if rules.Mode == policy.Enforce && !permits(rules, &r.Event) {
				t.Fatalf("%+v would be denied\n%s", r, text)
			}
		}
	}
}

// A filesystem is named once, whatever ran from it; another one for itself.
func TestMountsAreFilesystems(t *testing.T) {
	on := func(device uint32, path string) Record {
		return seen("app", "", enforce.Event{Action: "reported", Operation: "mmap", Reason: "foreign-fs", Rule: "mounts", Listed: true, Path: path, Device: device})
	}
	_, p, text := recommend(t, []Record{on(1, "/plugins/b"), on(1, "/plugins/a"), on(2, "/data/z"), on(1, "/plugins/c")})
	if got, _ := p.For(policy.Container{Image: "app"}); !slices.Equal(got.Mounts, []string{"/data/z", "/plugins/a"}) {
		t.Errorf("%v\n%s", got.Mounts, text)
	}
}

// What a workload was under stays, for what that allows leaves no events.
func TestRulesInForceStay(t *testing.T) {
	under := policy.Rules{
		Mode: policy.Enforce, Unblessed: policy.AnswerDeny, Trust: policy.TrustBoth, JIT: true, Interpreters: true, GuardAll: true, Devices: true,
		Mounts: []string{"/m"}, Join: []string{"tools@" + digest}, Digests: []string{digest}, NotBefore: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
	}
	listed := seen("app", "shop", enforce.Event{Operation: "container", Action: "listed"})
	listed.Rules = &under
	again := kinds["anonymous memory"].event
	again.Action = "denied"
	owner := kinds["owner"].event
	owner.Action = "denied"
	plugin := kinds["a plugin"].event
	plugin.Action = "denied"
	workloads, p, text := recommend(t, []Record{seen("app", "shop", again), listed, seen("app", "shop", owner), seen("app", "shop", plugin)})
	want := under
	want.Soft, want.Mounts = true, []string{"/m", "/plugins/a.so"}
	got, _ := p.For(policy.Container{Image: "app", Namespace: "shop"})
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s\n%s", d, text)
	}
	if len(workloads[0].Rules) != 2 { // jit is no news
		t.Errorf("%+v", workloads[0].Rules)
	}
	// One that is enforced and not ready is not let go.
	bad := kinds["an unlisted file"].event
	bad.Action = "denied"
	workloads, p, text = recommend(t, []Record{listed, seen("app", "shop", bad)})
	if got, _ := p.For(policy.Container{Image: "app", Namespace: "shop"}); workloads[0].Ready || !cmp.Equal(got, under) {
		t.Errorf("%+v\n%s", got, text)
	}
}

// Names that containers choose are names: no line of the policy, and no pattern.
func TestHostileNames(t *testing.T) {
	for _, image := range []string{"**", "a[b", "{a,b}", `a\`, "a\n    jit: true\n#", `a"b`, "x: &y", "a\x00b", "a\xffb", "sha256:" + strings.Repeat("0", 64), "a\u2028b"} {
		e := kinds["owner"].event
		e.Action, e.Path, e.Command = "reported", "/x\n    jit: true\n", "sh\n    devices: true\n# "
		e.Package = "p\n    trust: keyring"
		workloads, p, text := recommend(t, []Record{seen(image, "n\n    jit: true", e)})
		if len(p.Matches) != 1 || p.Matches[0].JIT || p.Matches[0].Devices || p.Matches[0].Trust != policy.TrustSBOM || !p.Matches[0].Soft {
			t.Errorf("%q:\n%s", image, text)
		}
		if _, m := p.For(policy.Container{Image: "innocent", Namespace: "n\n    jit: true"}); m != nil {
			t.Errorf("%q fits another image:\n%s", image, text)
		}
		if strings.Contains(workloads[0].Summary(), "\n") {
			t.Errorf("%q", workloads[0].Summary())
		}
	}
}

// An image without a name is matched by its id, and no other is.
func TestImageWithoutName(t *testing.T) {
	id := "sha256:" + strings.Repeat("a", 64)
	e := kinds["owner"].event
	e.Action = "reported"
	_, p, _ := recommend(t, []Record{seen(id, "", e)})
	if _, m := p.For(policy.Container{Image: id}); m == nil {
		t.Error("it is not matched")
	}
	if _, m := p.For(policy.Container{Image: "sha256:" + strings.Repeat("b", 64)}); m != nil {
		t.Error("another is matched")
	}
}

func TestPin(t *testing.T) {
	var l Learner
	l.Add(seen("app", "", enforce.Event{Operation: "container", Action: "listed"}))
	p, err := policy.Parse("p", []byte(Policy(l.Workloads(), []string{"k"}, true)))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Matches[0].Digests; !slices.Equal(got, []string{digest}) {
		t.Error(got)
	}
}

// No events give a policy that parses, too.
func TestNothingSeen(t *testing.T) {
	if w, p, _ := recommend(t, nil); len(w) != 0 || len(p.Matches) != 0 {
		t.Error(w, p)
	}
}

// Evidence has a bound, and what exceeds it is counted.
func TestEvidenceIsBounded(t *testing.T) {
	var l Learner
	for i := range 1000 {
		l.Add(seen("app", "", enforce.Event{Action: "reported", Operation: "exec", Reason: "not-listed", Path: fmt.Sprint("/", i)}))
	}
	f := l.Workloads()[0].Against[0]
	if len(f.Evidence) != maxEvidence || f.More != 1000-maxEvidence {
		t.Errorf("%d, %d more", len(f.Evidence), f.More)
	}
}

// The lines of an agent's standard output are read, in whatever they are wrapped.
func TestRead(t *testing.T) {
	line, err := json.Marshal(seen("app", "shop", enforce.Event{Action: "denied", Operation: "exec", Reason: "not-listed"}))
	if err != nil {
		t.Fatal(err)
	}
	input := fmt.Sprintf("%s\n[pod/x/agent] %s\n\nverifier loaded at /sys/fs/bpf/sbom-bless\n{}\n{\"a\":\n%s", line, line, line)
	good, bad := 0, 0
	for r, err := range Read(strings.NewReader(input)) {
		switch {
		case err != nil:
			bad++
		case r.Reason == "not-listed" && r.Namespace == "shop":
			good++
		}
	}
	if good != 3 || bad != 3 {
		t.Errorf("%d records, %d other lines", good, bad)
	}
	failed := 0
	for _, err := range Read(strings.NewReader(strings.Repeat("x", maxLine+1))) {
		if err != nil {
			failed++
		}
	}
	if failed != 1 {
		t.Error("a line without an end is read")
	}
}
