// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/diagnose"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/policy"
)

// Whoever asks the agent why gets the last denials, with what the list of the container says, and why
// a container is unblessed.
func TestWhy(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\nmatches: [{container: pause, mode: ignore}]\n")
	c := r.container("web", "blessed.example/web:1")
	c.Namespace, c.Labels = "shop", map[string]string{labelPod: "web-1"}
	if err := r.Admit(t.Context(), c, Created); err != nil {
		t.Fatal(err)
	}
	if err := r.Admit(t.Context(), r.container("stray", "stranger:2"), Created); err != nil {
		t.Fatal(err)
	}
	domain := r.records[c.key()].Domain
	record, wanted := r.Event(enforce.Event{Domain: domain, Container: "web", Action: "denied", Operation: "exec", Reason: "modified", Path: "/usr/bin/app"})
	if !wanted || record.Namespace != "shop" || record.Pod != "web-1" {
		t.Errorf("%+v", record)
	}
	r.Event(enforce.Event{Domain: domain, Container: "web", Action: "denied", Operation: "mmap", Reason: "anonymous", Rule: "jit"})
	server := &Server{Agent: r.Agent, State: r.dir + "/state"}
	socket, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(t.Context(), socket) }()
	ask := func(q diagnose.Query, limit int) []diagnose.Explanation {
		t.Helper()
		list, err := AskWhy(t.Context(), r.dir+"/state", Why{q, limit})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := ask(diagnose.Query{}, 10); len(got) != 3 {
		t.Errorf("%d denials, want 3: %+v", len(got), got)
	}
	if got := ask(diagnose.Query{}, 2); len(got) != 2 {
		t.Errorf("%d denials, want 2", len(got))
	}
	got := ask(diagnose.Query{Namespace: "shop", Pod: "web-1", Path: "/usr/bin/app"}, 10)
	if len(got) != 1 || !strings.Contains(got[0].Listed, "of package deb app 1, with SHA-256 000") || got[0].Namespace != "shop" || got[0].Reason != "modified" {
		t.Errorf("%+v", got)
	}
	if got := ask(diagnose.Query{Container: "stray"}, 10); len(got) != 1 || got[0].Reason != ReasonNoAttestation || !strings.Contains(got[0].Why, "No place") {
		t.Errorf("%+v", got)
	}
	// A container that ended is remembered, and its list is not at hand.
	if err := r.kernel.Remove(enforce.Domain{ID: domain}); err != nil {
		t.Fatal(err)
	}
	if got := ask(diagnose.Query{Container: "web"}, 10); len(got) != 2 || got[0].Listed+got[1].Listed != "" {
		t.Errorf("%+v", got)
	}
}

// What the agent writes about a container has all that a recommendation is made of: another machine
// reads the same from its lines.
func TestNoticesTeach(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmatches:\n- {image: blessed.example/web, mode: enforce, jit: true, mounts: [/m], max-size: 2G}\n")
	c := r.container("web", "blessed.example/web:1")
	c.Namespace, c.Labels, c.Digest = "shop", map[string]string{labelPod: "web-1"}, "sha256:"+strings.Repeat("5", 64)
	if err := r.Admit(t.Context(), c, Created); err != nil {
		t.Fatal(err)
	}
	event, _ := r.Event(enforce.Event{
		Domain: r.records[c.key()].Domain, Container: "web", Image: c.image(), Action: "reported", Operation: "setattr", Reason: "guarded", Rule: "soft", Path: "/usr/bin/app",
	})
	var lines []string
	for _, v := range []any{r.notices[len(r.notices)-1], event} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(b))
	}
	var l diagnose.Learner
	for rec, err := range diagnose.Read(strings.NewReader(strings.Join(lines, "\n"))) {
		if err != nil {
			t.Fatal(err)
		}
		l.Add(rec)
	}
	text := diagnose.Policy(l.Workloads(), []string{"k"}, false)
	p, err := policy.Parse("p", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, m := p.For(policy.Container{Image: "blessed.example/web:2", Namespace: "shop"})
	if m == nil || got.Mode != policy.Enforce || !got.JIT || !got.Soft || !slices.Equal(got.Mounts, []string{"/m"}) || got.MaxSize != 2<<30 {
		t.Errorf("%+v\n%s\n%s", got, text, strings.Join(lines, "\n"))
	}
}
