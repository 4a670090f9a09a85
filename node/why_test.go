// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/diagnose"
	"github.com/sbom-bless/sbom-bless/enforce"
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
