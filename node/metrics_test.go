// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/enforce"
)

// scrape gives what is served.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// busy is an agent to which everything has happened that is counted.
func busy(t *testing.T) *rig {
	r := newRig(t)
	r.metrics = NewMetrics("v1.2.3")
	r.kernel.proof = &enforce.Proof{Time: time.Unix(1_800_000_000, 500_000_000)}
	r.start("keys: [k]\nmatches:\n- {container: web, mode: enforce}\n- {container: pause, mode: ignore}\n")
	for name, image := range map[string]string{"web": "blessed.example/web:1", "web2": "blessed.example/web:1", "other": "stranger:2"} {
		c := r.container(name, image)
		c.Namespace = "shop"
		if err := r.Admit(t.Context(), c, Created); err != nil {
			t.Fatal(err)
		}
	}
	domain := func(name string) uint32 {
		for _, rec := range r.records {
			if rec.Container.Name == name {
				return rec.Domain
			}
		}
		t.Fatal(name)
		return 0
	}
	for _, e := range []enforce.Event{
		{Domain: domain("web"), Action: "denied", Operation: "exec", Reason: "not-listed", Path: "/tmp/x", SHA256: strings.Repeat("5", 64)},
		{Domain: domain("web"), Action: "denied", Operation: "exec", Reason: "not-listed", Path: "/tmp/y"},
		{Domain: domain("other"), Action: "reported", Operation: "mmap", Reason: "no-set"},
		{Action: "denied", Operation: "exec", Reason: "unannounced"}, // of a closed pod, which is no container
		{Domain: domain("web"), Action: "allowed", Operation: "exec"},
		{Action: "reported", Operation: "bpf", Reason: "takeover"},
	} {
		r.Event(e)
	}
	r.write("keys: [k]\nmode: enforced\n")
	if err := r.Reload(t.Context(), 0); err == nil {
		t.Fatal("taken")
	}
	m := r.metrics
	m.fetched("registry", time.Now(), nil)
	m.fetched("registry", time.Now(), fmt.Errorf("registry: %w", locate.ErrUnreachable))
	m.fetched("embedded", time.Now(), attest.ErrNone)
	m.waited(askedByNRI, time.Now())
	m.waited(askedByHook, time.Now())
	return r
}

// Each number is what has happened.
func TestMetrics(t *testing.T) {
	r := busy(t)
	got := scrape(t, r.metrics)
	for _, want := range []string{
		`sbom_bless_build_info{goversion="go`,
		`programs="` + enforce.Programs() + `",version="v1.2.3"} 1`,
		`sbom_bless_node_fit 1`,
		`sbom_bless_break_glass 0`,
		`sbom_bless_canary_ok 1`,
		`sbom_bless_canary_last_success_timestamp_seconds 1.8000000005e+09`,
		`sbom_bless_containers{blessed="true",mode="enforce"} 1`,
		`sbom_bless_containers{blessed="true",mode="audit"} 1`,
		`sbom_bless_containers{blessed="false",mode="audit"} 1`,
		`sbom_bless_containers{blessed="false",mode="ignore"} 0`,
		`sbom_bless_lists 1`, // of the one image that is blessed
		`sbom_bless_list_files 2`,
		`sbom_bless_denials_total{namespace="shop",operation="exec",reason="not-listed",workload="blessed.example/web"} 2`,
		`sbom_bless_denials_total{namespace="",operation="exec",reason="unannounced",workload=""} 1`,
		`sbom_bless_would_deny_total{namespace="shop",operation="mmap",reason="no-set",workload="stranger"} 1`,
		`sbom_bless_host_reports_total{operation="bpf",reason="takeover"} 1`,
		`sbom_bless_unblessed_total{reason="no-attestation"} 1`,
		`sbom_bless_unblessed_total{reason="too-old"} 0`,
		`sbom_bless_policy_reload_total{result="applied"} 1`,
		`sbom_bless_policy_reload_total{result="refused"} 1`,
		`sbom_bless_policy_reload_total{result="rolled-back"} 0`,
		`sbom_bless_list_fetch_seconds_count{place="registry"} 2`,
		`sbom_bless_list_fetch_errors_total{place="registry",reason="unreachable"} 1`,
		`sbom_bless_list_fetch_errors_total{place="embedded",reason="no-attestation"} 1`,
		`sbom_bless_nri_wait_seconds_count 1`,
		`sbom_bless_hook_wait_seconds_count 1`,
		`sbom_bless_judged_total{verdict="judged-good"} 5`,
		`sbom_bless_judged_total{verdict="not-listed"} 2`,
		`sbom_bless_events_lost_total 3`,
		`sbom_bless_events_repeated_total 1`,
		`sbom_bless_events_skipped_total 0`,
		`sbom_bless_files_hashed_total 4`,
		`sbom_bless_inodes_full_total 0`,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}

	r.kernel.proof = &enforce.Proof{Time: time.Unix(1_800_000_060, 0), Error: "a bad program runs"}
	if err := os.WriteFile(r.dir+"/glass", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Glass(); err != nil {
		t.Fatal(err)
	}
	got = scrape(t, r.metrics)
	for _, want := range []string{
		`sbom_bless_canary_ok 0`, `sbom_bless_canary_last_success_timestamp_seconds 1.8000000005e+09`, `sbom_bless_break_glass 1`,
		`sbom_bless_containers{blessed="true",mode="enforce"} 1`, // the policy's word
	} {
		if !strings.Contains(got, want) {
			t.Errorf("later: no %s", want)
		}
	}
}

// A node that cannot enforce has no agent, and says so.
func TestMetricsOfUnfitNode(t *testing.T) {
	got := scrape(t, NewMetrics("v1"))
	if !strings.Contains(got, "sbom_bless_node_fit 0") || strings.Contains(got, "sbom_bless_containers") {
		t.Error(got)
	}
}

// The metrics are as Prometheus' own linter wants them.
func TestMetricsLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, busy(t).metrics))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "sbom_bless_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// What containers choose makes no more series than there may be, and is in labels as far as it
// is no path and no digest.
func TestMetricsAreBounded(t *testing.T) {
	m := NewMetrics("v1")
	for i := range 3 * maxSeries {
		of := &record{Container: Container{Namespace: "n", Image: fmt.Sprintf("app%d@sha256:%064d", i, i)}}
		m.event(enforce.Event{Action: "denied", Operation: "exec", Reason: "not-listed", Path: fmt.Sprint("/tmp/", i), PID: uint32(i)}, of)
		m.event(enforce.Event{Action: "reported", Operation: "exec", Reason: "not-listed"}, of)
	}
	if n := testutil.CollectAndCount(m.denials) + testutil.CollectAndCount(m.wouldDeny); n > 2*(maxSeries+1) {
		t.Errorf("%d series", n)
	}
	if got := testutil.ToFloat64(m.denials.WithLabelValues("", otherWorkloads, "exec", "not-listed")); got != 2*maxSeries {
		t.Errorf("%g denials of others, want %d", got, 2*maxSeries)
	}
	hostile := NewMetrics("v1")
	hostile.event(enforce.Event{Action: "denied", Operation: "exec", Reason: "self"}, &record{Container: Container{Namespace: "a\xff\n\"", Image: strings.Repeat("x", 1000)}})
	got := scrape(t, hostile)
	if !strings.Contains(got, `namespace="a?\n\""`) || strings.Contains(got, strings.Repeat("x", maxLabel+1)) {
		t.Error(got)
	}
	for _, busy := range []string{scrape(t, busy(t).metrics), scrape(t, m)} {
		if found := regexp.MustCompile(`sha256:|/tmp/|[0-9a-f]{64}`).FindString(busy); found != "" {
			t.Errorf("a label has %q", found)
		}
	}
}

// Whoever reaches the address can read, and nothing else.
func TestMetricsServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	failed := make(chan error, 10)
	m := NewMetrics("v1")
	done := make(chan struct{})
	go func() { m.Serve(t.Context(), address, func(err error) { failed <- err }); close(done) }()
	if err := <-failed; !strings.Contains(err.Error(), "address already in use") { // and it lives on
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ask := func(method, path string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 { // until it tries again
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				if err := errors.Join(err, resp.Body.Close()); err != nil {
					t.Fatal(err)
				}
				return resp.StatusCode
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatal("no answer")
		return 0
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/metrics", 200}, {"HEAD", "/metrics", 200}, {"POST", "/metrics", 405}, {"DELETE", "/metrics", 405},
		{"GET", "/", 404}, {"GET", "/debug/pprof/", 404}, {"GET", "/metrics/x", 404},
	} {
		if got := ask(c.method, c.path); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, got, c.want)
		}
	}
}

// docs/enforce.md lists each metric with its labels, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/enforce.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, served []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(sbom_bless_[a-z_]+)(?:\\{([a-z,]+)\\})?` \\| ").FindAllStringSubmatch(string(doc), -1) {
		labels := strings.Split(m[2], ",")
		slices.Sort(labels)
		documented = append(documented, m[1]+"{"+strings.Join(labels, ",")+"}")
	}
	families, err := busy(t).metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sbom_bless_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		served = append(served, f.GetName()+"{"+strings.Join(labels, ",")+"}")
	}
	slices.Sort(documented)
	if !slices.Equal(documented, served) {
		t.Errorf("documented %q\nserved %q", documented, served)
	}
}

var _ prometheus.Collector = (*standing)(nil)
