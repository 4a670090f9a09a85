// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
)

var digest = "sha256:" + strings.Repeat("5", 64)

// Every reason that the kernel can give has a meaning, every one that the docs list, and no other.
func TestEveryReasonHasAMeaning(t *testing.T) {
	header, err := os.ReadFile("../enforce/bpf/event.h")
	if err != nil {
		t.Fatal(err)
	}
	_, enum, _ := strings.Cut(string(header), "enum reason {")
	enum, _, _ = strings.Cut(enum, "};")
	want := map[string]bool{}
	for line := range strings.Lines(enum) {
		m := regexp.MustCompile(`^\s*REASON_([A-Z_]+),`).FindStringSubmatch(line)
		if m != nil && m[1] != "ALLOWED" && !strings.Contains(line, "counter only") {
			want[strings.ReplaceAll(strings.ToLower(m[1]), "_", "-")] = true
		}
	}
	if len(want) < 15 {
		t.Fatalf("the enum has only %v", want)
	}
	for file, heading := range map[string]string{"enforce.md": "| reason | meaning |", "policy.md": "| reason | meaning |"} {
		doc, err := os.ReadFile("../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		_, table, ok := strings.Cut(string(doc), heading+"\n|---|---|\n")
		if !ok {
			t.Fatalf("%s has no table of reasons", file)
		}
		table, _, _ = strings.Cut(table, "\n\n")
		for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(table, -1) {
			want[m[1]] = true
		}
	}
	for reason := range want {
		if m := meanings[reason]; m.why == "" || m.allow == "" && reason != "anonymous" && reason != "write-exec" {
			t.Errorf("%s has no meaning", reason)
		}
	}
	for reason := range meanings {
		if !want[reason] {
			t.Errorf("nobody gives the reason %s", reason)
		}
	}
	for name, r := range rules {
		if r.does == "" || r.weakens == "" {
			t.Errorf("rule %s", name)
		}
	}
}

// What is said of a denial: who, what, why, what the list has, what would allow it and what that weakens.
func TestExplain(t *testing.T) {
	at := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	denial := func(e enforce.Event) Denial {
		e.Time, e.Container, e.Image, e.Action = at, "web", "app@"+digest, "denied"
		e.PID, e.Command, e.UID, e.Ancestors = 12, "sh", 33, []enforce.Process{{PID: 10, Command: "nginx"}, {PID: 1, Command: "nginx"}}
		return Denial{Record: Record{Event: e, Namespace: "shop", Pod: "web-1"}, Times: 3, First: at.Add(-time.Minute)}
	}
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for name, c := range map[string]struct {
		denial  Denial
		listing *enforce.Listing
		want    []string
	}{
		"who and what": {denial(enforce.Event{Operation: "exec", Reason: "modified", Path: "/bin/x", Listed: true}), nil, []string{
			"2026-11-29T10:00:00Z: container web of pod shop/web-1, image app@sha256:5", ": exec of /bin/x was denied, reason modified, 3 times since 2026-11-29T09:59:00Z.",
			"It was process 12 (sh), a child of 10 (nginx), of 1 (nginx), user 33.", "No rule does."}},
		"changed": {denial(enforce.Event{Operation: "exec", Reason: "modified", Path: "/bin/x", SHA256: b}), &enforce.Listing{Files: 9, SHA256: a, Package: "deb x 1"}, []string{
			"has this path, of package deb x 1, with SHA-256 " + a + "; this file has " + b + "."}},
		"a copy of a listed file": {denial(enforce.Event{Operation: "exec", Reason: "writable-layer", Rule: "soft", Path: "/bin/x"}), &enforce.Listing{Files: 9, SHA256: a}, []string{
			"It lies in the writable layer of the container.", "of no package, with SHA-256 " + a + "; this file was not hashed.", "Rule `soft` allows", "What that weakens: The place"}},
		"brought along": {denial(enforce.Event{Operation: "exec", Reason: "writable-layer", Rule: "soft", Path: "/tmp/x"}), &enforce.Listing{Files: 9}, []string{
			"None of its 9 listed files has this path; this file was not hashed.", "That alone is not enough"}},
		"listed elsewhere": {denial(enforce.Event{Operation: "exec", Reason: "not-listed", Path: "/tmp/x", SHA256: b}), &enforce.Listing{Files: 9, Elsewhere: []string{"/bin/y"}}, []string{
			"None of its 9 listed files has this path. The same content is listed as /bin/y."}},
		"unknown content": {denial(enforce.Event{Operation: "exec", Reason: "not-listed", Path: "/tmp/x", SHA256: b}), &enforce.Listing{Files: 9}, []string{
			"None of its 9 listed files has this path, or this content (SHA-256 " + b + ").", "`join` that"}},
		"from events alone": {denial(enforce.Event{Operation: "exec", Reason: "foreign-fs", Rule: "mounts", Path: "/v/x", Listed: true, Package: "deb x 1"}), nil, []string{
			"It lies in another filesystem", "has this path, of package deb x 1.", "Rule `mounts`"}},
		"the list is gone": {denial(enforce.Event{Operation: "exec", Reason: "not-listed", Path: "/x"}), &enforce.Listing{}, []string{"No list is loaded for it any more."}},
		"unlisted, from events alone": {denial(enforce.Event{Operation: "exec", Reason: "foreign-fs", Rule: "mounts", Path: "/v/x"}), nil, []string{
			"No list of the container has a file at this path.", "That alone is not enough"}},
		"joined":      {denial(enforce.Event{Operation: "exec", Reason: "modified", Path: "/x", List: "tools", Listed: true}), nil, []string{"The joined list of tools has this path, of no package."}},
		"memory":      {denial(enforce.Event{Operation: "mmap", Reason: "anonymous", Rule: "jit"}), nil, []string{"mmap was denied", "It lies in memory.", "Rule `jit`", "machine code of his own"}},
		"of tomorrow": {denial(enforce.Event{Operation: "exec", Reason: "too-blue"}), nil, []string{"does not know the reason"}},
		"drift":       {denial(enforce.Event{Operation: "drift", Reason: "not-listed", Path: "/x"}), nil, []string{"before the verifier knew", "Start the container anew"}},
		"hostile":     {denial(enforce.Event{Operation: "exec", Reason: "not-listed", Path: "/a\nb\x1b[2J"}), nil, []string{`exec of "/a\nb\x1b[2J" was`}},
	} {
		t.Run(name, func(t *testing.T) {
			e := Explain(c.denial, c.listing)
			text := e.Text()
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			if strings.Contains(text, "\n") || strings.Contains(text, "\x1b") {
				t.Errorf("%q", text)
			}
		})
	}
}

func TestRecent(t *testing.T) {
	var r Recent
	add := func(container, path string, second int) {
		r.Add(Record{Namespace: "n", Pod: "p-" + container, Event: enforce.Event{
			Time: time.Unix(int64(second), 0), Domain: uint32(len(container)), Container: container, Action: "denied", Operation: "exec", Reason: "not-listed", Path: path,
		}})
	}
	add("a", "/1", 1)
	add("a", "/1", 3)
	add("a", "/2", 2)
	r.Add(Record{Event: enforce.Event{Action: "allowed", Operation: "exec"}})
	r.Add(Record{Event: enforce.Event{Action: "applied", Operation: "policy"}})
	last := r.Last(Query{}, 10)
	if len(last) != 2 || last[0].Path != "/1" || last[0].Times != 2 || !last[0].First.Equal(time.Unix(1, 0)) || last[1].Path != "/2" {
		t.Errorf("%+v", last)
	}
	if got := r.Last(Query{}, 1); len(got) != 1 || got[0].Path != "/1" {
		t.Errorf("%+v", got)
	}
	for range 2 {
		for i := range 5000 { // a flood of one drives out no other's
			add("bb", fmt.Sprint("/", i), 10+i)
		}
	}
	if n := len(r.Last(Query{Container: "bb"}, 1<<20)); n != maxPerContainer {
		t.Errorf("%d of one container", n)
	}
	for q, want := range map[Query]int{
		{Container: "a"}: 2, {Path: "/2"}: 1, {Namespace: "n", Pod: "p-a"}: 2, {Namespace: "m"}: 0, {Container: "a", Path: "/1"}: 1, {Container: "c"}: 0,
	} {
		if got := r.Last(q, 1<<20); len(got) != want {
			t.Errorf("%+v: %d, want %d", q, len(got), want)
		}
	}
	for i := range 3 * maxDenials {
		add(strings.Repeat("c", 3+i), "/", 20_000+i)
	}
	if n := len(r.Last(Query{}, 1<<20)); n != maxDenials {
		t.Errorf("%d in all", n)
	}
}
