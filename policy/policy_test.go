// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The example in docs/policy.md is read as its text says.
func TestExample(t *testing.T) {
	doc, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(doc)
	if example == nil {
		t.Fatal("no example")
	}
	got, err := Parse("policy.yaml", example[1])
	if err != nil {
		t.Fatal(err)
	}
	audit := Rules{Mode: Audit, Unblessed: AnswerAudit, Trust: TrustSBOM, MaxSize: 512 << 20}
	with := func(change func(*Rules)) Rules {
		r := audit
		change(&r)
		return r
	}
	want := &Policy{
		Keys:     []string{"/etc/sbom-bless/bless.crt"},
		KeyLines: []int{2},
		Identities: []Identity{{
			Subject: "https://github.com/acme/app/.github/workflows/release.yaml@refs/heads/main",
			Issuer:  "https://token.actions.githubusercontent.com",
		}},
		TrustRoot:    "/etc/sbom-bless/trusted_root.json",
		Attestations: []Source{{Directory, "/var/lib/sbom-bless/attestations"}, {Kind: Embedded}, {Kind: Registry}},
		WithoutAgent: AnswerAllow,
		Default:      audit,
		Matches: []Match{
			{Namespace: "kube-system", Rules: with(func(r *Rules) { r.Mode = Ignore })},
			{Image: "registry.example/payments/*", Rules: with(func(r *Rules) {
				r.Mode, r.Unblessed, r.Interpreters = Enforce, AnswerDeny, true
				r.NotBefore = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
			})},
			{Image: "registry.example/shop/web:*", Labels: map[string]string{"io.kubernetes.pod.namespace": "shop-*"}, Rules: with(func(r *Rules) {
				r.Mode, r.JIT, r.Mounts = Enforce, true, []string{"/plugins"}
				r.Join = []string{"shop.example/tools@sha256:" + strings.Repeat("6", 64)}
				r.Digests = []string{"sha256:" + strings.Repeat("5", 64)}
			})},
			{Cgroup: "/machine.slice/**", Rules: with(func(r *Rules) { r.Soft, r.GuardAll, r.Devices, r.MaxSize = true, true, true, 0 })},
		},
	}
	for i := range got.Matches {
		if got.Matches[i].Line == 0 {
			t.Errorf("match %d has no line", i)
		}
		got.Matches[i].Line = 0
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// What is wrong is one error, which says where and what to do.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ file, message, hint string }{
		{"", "p:1: empty", "the least policy"},
		{"keys: [k]\nmtaches: []\n", `p:2: unknown field "mtaches"`, `did you mean "matches"?`},
		{"keys: [k]\nguard_all: true\n", `p:2: unknown field "guard_all"`, `did you mean "guard-all"?`},
		{"keys: [k]\nwhat: true\n", `p:2: unknown field "what"`, "the fields here are attestations, "},
		{"keys: [k]\nmatches:\n- image: a\n  imge: b\n", `p:4: unknown field "imge"`, `did you mean "image"?`},
		{"keys: k\n", `p:1: keys: "k" where something else belongs`, "write a list"},
		{"keys: [k]\njit: yes\n", `p:2: jit: "yes" where something else belongs`, "write true or false"},
		{"keys: [k]\njit: \"true\"\n", `p:2: jit: "true" where something else belongs`, "write true or false"},
		{"keys: [k]\nmode: enforced\n", `p:2: mode: "enforced" where something else belongs`, "write audit, enforce or ignore"},
		{"keys: [k]\nmode: [audit]\n", `p:2: mode: a list where something else belongs`, "write audit, enforce or ignore"},
		{"keys: [k]\nkeys: [l]\n", "p:2: keys stands twice, first in line 1", "keep one"},
		{"keys: [1]\n", `p:1: keys: "1" where something else belongs`, "in quotes"},
		{"keys: [\"\"]\n", "p:1: keys: empty", "leave the field out"},
		{"keys: [k]\nmax-size: 10X\n", `p:2: max-size: "10X" where`, "64M"},
		{"keys: [k]\nmax-size: 99999999999999999999\n", `p:2: max-size: `, "64M"},
		{"keys: [k]\nmax-size: 0\n", `p:2: max-size: "0" where`, "unlimited"},
		{"keys: [k]\nmax-size: [1G]\n", `p:2: max-size: a list where`, "unlimited"},
		{"keys: [k]\ndevices: 1\n", `p:2: devices: "1" where something else belongs`, "write true or false"},
		{"keys: [k]\njoin: tool\n", `p:2: join: "tool" where something else belongs`, "write a list"},
		{"keys: [k]\njoin: [tool:1]\n", `p:2: join: image "tool:1"`, "NAME@sha256:"},
		{"keys: [k]\njoin: [\"a b@sha256:" + strings.Repeat("5", 64) + "\"]\n", `p:2: join: image "a b@sha256:5`, "NAME@sha256:"},
		{"keys: [k]\nmatches:\n- image: a\n  join: [tool@sha256:12]\n", `p:4: matches: join: image "tool@sha256:12"`, "64 hexadecimal digits"},
		{"keys: [k]\ntrust: keyring\njoin: [\"sha256:" + strings.Repeat("5", 64) + "\"]\n", `p:1: "join" with "trust: keyring"`, `say "trust: both"`},
		{"keys: [k]\nmounts: [data]\n", `p:2: mounts: mount "data"`, "from the root"},
		{"keys: [k]\nmounts: [/a/../..]\n", `p:2: mounts: mount "/a/../.."`, "from the root"},
		{"keys: [k]\nnot-before: yesterday\n", `p:2: not-before: "yesterday" where`, "2026-11-25"},
		{"keys: [k]\nunblessed: deny\n", `p:1: "unblessed: deny" with "mode: audit"`, `say "mode: enforce"`},
		{"keys: [k]\nmatches:\n- mode: enforce\n", "p:3: matches: a match without a condition", "give it image"},
		{"keys: [k]\nmatches:\n- image: a\n  unblessed: deny\n", `p:3: matches: "unblessed: deny" with`, `say "mode: enforce"`},
		{"keys: [k]\nmatches:\n- image: 'a[b'\n", `p:3: matches: image: pattern "a[b"`, "in pairs"},
		{"keys: [k]\nmatches:\n- image: a\n  digests: [sha256:12]\n", `p:4: matches: digests: digest "sha256:12"`, "64 hexadecimal digits"},
		{"keys: [k]\nmatches:\n- labels: {a: [b]}\n", "p:3: matches: labels: a list", "write text"},
		{"keys: [k]\nmatches:\n- labels: {a: b, a: c}\n", "p:3: matches: labels: label a stands twice", "keep one"},
		{"keys: [k]\ntrust: keyring\nnot-before: 2026-01-01\n", `p:1: "not-before" with "trust: keyring"`, `say "trust: both"`},
		{"keys: [k]\nattestations: [cloud]\n", `p:2: attestations: "cloud" where`, "write embedded, registry or \"- directory: PATH\""},
		{"keys: [k]\nattestations:\n- directory: x\n", `p:3: attestations: directory "x" is no absolute path`, "from the root"},
		{"identities:\n- subject: a\n", "p:2: identities: an identity is a subject and an issuer", "give one of"},
		{"identities:\n- subject: a\n  issuer-regexp: '('\n", "p:3: identities: issuer-regexp: error parsing", "syntax"},
		{"without-agent: audit\nkeys: [k]\n", `p:1: without-agent: "audit" where`, "write allow or deny"},
		{"mode: audit\n", "p:1: neither keys nor identities", "keys:"},
		{"trust: both\nidentities: [{subject: a, issuer: b}]\n", "p:1: trust in signatures of files, but no keys", "certificates"},
		{"keys: &a [k]\nmounts: *a\n", "p:2: mounts: an alias where", "a list"},
		{"keys: [k]\n---\nkeys: [l]\n", "p:2: a second document", "one"},
		{"keys: [k\n", "p:", "YAML"},
		{"- keys\n", "p:1: a list where", "names and values"},
		{strings.Repeat("#", MaxSize+1), "p:1: 1048577 bytes", "at most"},
	} {
		p, err := Parse("p", []byte(c.file))
		var e *Error
		if !errors.As(err, &e) || p != nil {
			t.Errorf("%.80q: %v, want an error", c.file, err)
			continue
		}
		message, hint, _ := strings.Cut(err.Error(), "\nhint: ")
		if !strings.HasPrefix(message, c.message) || !strings.Contains(hint, c.hint) || strings.Contains(hint, "\n") {
			t.Errorf("%.80q: %q\nwant %q, hint %q", c.file, err, c.message, c.hint)
		}
	}
}

func TestDefaults(t *testing.T) {
	got, err := Parse("p", []byte("keys: [k]"))
	want := &Policy{
		Keys: []string{"k"}, KeyLines: []int{1}, Attestations: []Source{{Kind: Registry}}, WithoutAgent: AnswerAllow,
		Default: Rules{Mode: Audit, Unblessed: AnswerAudit, Trust: TrustSBOM, MaxSize: 1 << 30},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if _, err := Parse("p", []byte("mode: ignore")); err != nil {
		t.Errorf("a policy that looks at nothing needs no key: %v", err)
	}
}

// A match takes what it does not say from the top, wherever that stands.
func TestInheritance(t *testing.T) {
	join := "tool@sha256:" + strings.Repeat("5", 64)
	p, err := Parse("p", []byte("matches: [{image: a, mounts: [], join: [], max-size: unlimited}, {image: b, jit: false}]\nkeys: [k]\nmode: enforce\njit: true\ndevices: true\nmounts: [/m]\njoin: ['"+join+"']\n"))
	if err != nil {
		t.Fatal(err)
	}
	base := Rules{Mode: Enforce, Unblessed: AnswerAudit, Trust: TrustSBOM, JIT: true, Devices: true, MaxSize: 1 << 30, Mounts: []string{"/m"}, Join: []string{join}}
	a, b := base, base
	a.Mounts, a.Join, a.MaxSize, b.JIT = nil, nil, 0, false
	for image, want := range map[string]Rules{"a": a, "b": b, "c": base} {
		got, _ := p.For(Container{Image: image})
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", image, d)
		}
	}
}

func TestMatching(t *testing.T) {
	c := Container{
		Image: "registry.example:5000/shop/web:1.2", Name: "web", Namespace: "shop", Cgroup: "/kubepods.slice/pod1/cri-2.scope",
		Labels: map[string]string{"team": "red", "empty": ""},
	}
	for condition, want := range map[string]bool{
		`image: "registry.example:5000/shop/web:1.2"`:      true,
		`image: "registry.example:5000/shop/web"`:          true,
		`image: "registry.example:5000/shop/*"`:            true,
		`image: "registry.example:5000/*"`:                 false,
		`image: "registry.example:5000/**"`:                true,
		`image: "**/web:1.*"`:                              true,
		`image: "registry.example/shop/web"`:               false,
		`image: "*"`:                                       false,
		`image: "**"`:                                      true,
		`image: "registry.example:5000/shop/{web,api}"`:    true,
		`container: web`:                                   true,
		`container: "w?b"`:                                 true,
		`container: we`:                                    false,
		`namespace: shop`:                                  true,
		`namespace: "sh[a-z]p"`:                            true,
		`cgroup: /kubepods.slice/**`:                       true,
		`cgroup: /kubepods.slice/*`:                        false,
		`labels: {team: red}`:                              true,
		`labels: {team: "r*"}`:                             true,
		`labels: {team: blue}`:                             false,
		`labels: {team: red, other: "*"}`:                  false,
		`labels: {empty: "*"}`:                             true,
		`{labels: {team: red}, container: web}`:            true,
		`{labels: {team: red}, container: other}`:          false,
		`{image: "**", namespace: shop, cgroup: "/other"}`: false,
	} {
		if !strings.HasPrefix(condition, "{") {
			condition = "{" + condition + "}"
		}
		p, err := Parse("p", []byte("keys: [k]\nmatches: ["+condition+"]"))
		if err != nil {
			t.Error(condition, err)
			continue
		}
		if _, m := p.For(c); (m != nil) != want {
			t.Errorf("%s: %v, want %v", condition, m != nil, want)
		}
	}
}

func TestFirstMatchWins(t *testing.T) {
	p, err := Parse("p", []byte("keys: [k]\nmatches:\n- {image: 'a/b', mode: ignore}\n- {image: 'a/*', mode: enforce}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]Mode{"a/b": Ignore, "a/c": Enforce, "c": Audit} {
		if got, _ := p.For(Container{Image: image}); got.Mode != want {
			t.Errorf("%s: %s, want %s", image, got.Mode, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("keys: [k]\nmatches: [{image: a, mode: enforce}]"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse("p", b)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if p != nil {
			p.For(Container{Image: "a"})
		}
	})
}
