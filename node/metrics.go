// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

// What the agent serves to Prometheus: docs/enforce.md lists it. Labels take values that the node's
// operator or the policy bounds, and no path, process, container id or digest. What a pod's author can
// choose, as the names of images, is counted by itself only up to maxSeries.

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/refname"
)

// Bounds of what the metrics cost.
const (
	maxSeries      = 2000 // of namespace, workload, operation and reason
	maxLabel       = 128  // bytes of a value
	maxConnections = 8
	listenAgain    = 2 * time.Second
)

// otherWorkloads is the workload of what exceeds maxSeries. No image has this name.
const otherWorkloads = "(other)"

// Metrics are what an agent counts. Of nil, nothing is.
type Metrics struct {
	registry *prometheus.Registry
	agent    atomic.Pointer[Agent] // nil on a node that cannot enforce

	denials, wouldDeny       *prometheus.CounterVec
	host, unblessed, reloads *prometheus.CounterVec
	fetchSeconds             *prometheus.HistogramVec
	fetchErrors              *prometheus.CounterVec
	waits                    map[string]prometheus.Histogram // by who asks
	lastProof                atomic.Pointer[enforce.Proof]   // the last one that found nothing wrong
	mu                       sync.Mutex
	series                   map[[4]string]bool
}

// unblessedReasons are the reasons of an Unblessed.
var unblessedReasons = []string{
	ReasonNoImage, ReasonNoAttestation, ReasonUntrusted, ReasonUnreachable, ReasonDamaged, ReasonOtherDigest, ReasonTooOld, ReasonNotEnforced,
}

// NewMetrics makes those of an agent of this version. Give them to [New], and have Serve serve them.
func NewMetrics(version string) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sbom_bless_" + name, Help: help}, labels)
	}
	seconds := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: "sbom_bless_" + name, Help: help, Buckets: []float64{.01, .05, .1, .25, .5, 1, 2, 5, 10, 20}}
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(), series: map[[4]string]bool{},
		denials:      counter("denials_total", "Operations that were denied, as far as events tell.", "namespace", "workload", "operation", "reason"),
		wouldDeny:    counter("would_deny_total", "Operations of audited containers that would have been denied, as far as events tell.", "namespace", "workload", "operation", "reason"),
		host:         counter("host_reports_total", "What the host did to the verifier or its agent, and was reported: signals, takeovers.", "operation", "reason"),
		unblessed:    counter("unblessed_total", "Decisions that nothing vouches for a container.", "reason"),
		reloads:      counter("policy_reload_total", "Policies that were read, by what came of them.", "result"),
		fetchSeconds: prometheus.NewHistogramVec(seconds("list_fetch_seconds", "Time that a place took to answer for the list of an image."), []string{"place"}),
		fetchErrors:  counter("list_fetch_errors_total", "Answers of a place that were no list that counts.", "place", "reason"),
		waits: map[string]prometheus.Histogram{
			askedByNRI:  prometheus.NewHistogram(seconds("nri_wait_seconds", "Time that a container waited for the agent, asked by NRI.")),
			askedByHook: prometheus.NewHistogram(seconds("hook_wait_seconds", "Time that a container waited for the agent, asked by the OCI hook.")),
		},
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sbom_bless_build_info", Help: "1, with the version of the agent and the generation of the programs that it carries.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version(), "programs": enforce.Programs()},
	})
	build.Set(1)
	m.registry.MustRegister(build, m.denials, m.wouldDeny, m.host, m.unblessed, m.reloads, m.fetchSeconds, m.fetchErrors,
		m.waits[askedByNRI], m.waits[askedByHook], (*standing)(m), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, reason := range unblessedReasons { // 0 is known, so that the first one is a change
		m.unblessed.WithLabelValues(reason)
	}
	for _, result := range []string{"applied", "refused", "rolled-back"} {
		m.reloads.WithLabelValues(result)
	}
	return m
}

// Handler answers a GET of /metrics, and nothing else.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 2, Timeout: 10 * time.Second, ErrorHandling: promhttp.ContinueOnError,
	}))
	return mux
}

// Serve answers at the address until ctx is done. Where it cannot, it says so once, and tries again: no
// metrics are no reason to enforce nothing.
func (m *Metrics) Serve(ctx context.Context, address string, failed func(error)) {
	for said := ""; ; {
		err := m.listen(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			said = err.Error()
			failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(listenAgain):
		}
	}
}

func (m *Metrics) listen(ctx context.Context, address string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	server := &http.Server{
		Handler: m.Handler(), MaxHeaderBytes: 16 << 10, ReadTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: log.New(io.Discard, "", 0), // who scrapes writes no line of ours
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	return fmt.Errorf("metrics: %w", server.Serve(netutil.LimitListener(l, maxConnections)))
}

// event counts one of the verifier's; of is the record of its container, or nil.
func (m *Metrics) event(e enforce.Event, of *record) {
	if m == nil || e.Reason == "" {
		return
	}
	if e.Action == "reported" && (e.Reason == "self" || e.Reason == "takeover") {
		m.host.WithLabelValues(e.Operation, e.Reason).Inc()
		return
	}
	s := [4]string{2: e.Operation, 3: e.Reason}
	if of != nil {
		s[0], s[1] = label(of.Container.Namespace), label(workload(&of.Container))
	}
	m.mu.Lock()
	if !m.series[s] && len(m.series) >= maxSeries {
		s[0], s[1] = "", otherWorkloads
	}
	m.series[s] = true
	m.mu.Unlock()
	switch e.Action {
	case "denied":
		m.denials.WithLabelValues(s[:]...).Inc()
	case "reported":
		m.wouldDeny.WithLabelValues(s[:]...).Inc()
	}
}

// workload names the containers of one image, whatever its version.
func workload(c *Container) string { return refname.Repository(c.Image) }

// label makes a text that a pod's author may have chosen fit for a label.
func label(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxLabel)], "?") }

// notice counts what the agent reports.
func (m *Metrics) notice(n *Notice) {
	if m == nil {
		return
	}
	switch {
	case n.Operation == "policy" && n.Action != "confirmed":
		m.reloads.WithLabelValues(n.Action).Inc()
	case n.Operation == "container" && slices.Contains(unblessedReasons, n.Reason):
		m.unblessed.WithLabelValues(n.Reason).Inc()
	}
}

// fetched counts what a place answered.
func (m *Metrics) fetched(place string, since time.Time, err error) {
	if m == nil {
		return
	}
	m.fetchSeconds.WithLabelValues(place).Observe(time.Since(since).Seconds())
	if err != nil {
		m.fetchErrors.WithLabelValues(place, reasons[locate.Rank(err)]).Inc()
	}
}

// Who asks while a container waits.
const (
	askedByNRI  = "nri"
	askedByHook = "hook"
)

// waited counts how long a container waited for the agent.
func (m *Metrics) waited(asked string, since time.Time) {
	if m != nil {
		m.waits[asked].Observe(time.Since(since).Seconds())
	}
}

// standing reads what is so at the moment that somebody asks.
type standing Metrics

var (
	desc = func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sbom_bless_"+name, help, labels, nil)
	}
	descFit        = desc("node_fit", "1 if this node can enforce; 0: its agent watches no container.")
	descGlass      = desc("break_glass", "1 while the break-glass file is there, and nothing is denied.")
	descContainers = desc("containers", "Containers that the verifier has, by what the policy says of them and whether their image is blessed.", "mode", "blessed")
	descLists      = desc("lists", "File lists of images that containers are under.")
	descFiles      = desc("list_files", "Files in these lists.")
	descCanaryOK   = desc("canary_ok", "1 if the last canary proved that the verifier is in force.")
	descCanary     = desc("canary_last_success_timestamp_seconds", "When a canary last proved that the verifier is in force.")
	descJudged     = desc("judged_total", "Verdicts of the kernel since the verifier was loaded, those on the canary too.", "verdict")
)

// counterDescs are those of the kernel's counters that are no verdicts.
var counterDescs = map[string]*prometheus.Desc{
	"lost-events":     desc("events_lost_total", "Events that found no room in the kernel's buffer."),
	"repeated":        desc("events_repeated_total", "Events that were left out: the same within a second, or too many of one container."),
	"skipped-records": desc("events_skipped_total", "Records of programs of another version, which the agent could not read."),
	"hashed":          desc("files_hashed_total", "Files that the kernel hashed."),
	"inodes-full":     desc("inodes_full_total", "Inodes that the kernel's map had no room for."),
}

// Describe is that of a prometheus.Collector.
func (s *standing) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descFit, descGlass, descContainers, descLists, descFiles, descCanaryOK, descCanary, descJudged} {
		to <- d
	}
	for _, d := range counterDescs {
		to <- d
	}
}

// Collect is that of a prometheus.Collector. What cannot be read is left out: an alert on its absence tells.
func (s *standing) Collect(to chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	a := s.agent.Load()
	if a == nil {
		set(descFit, prometheus.GaugeValue, 0)
		return
	}
	set(descFit, prometheus.GaugeValue, 1)
	n := a.numbers()
	glass := 0.0
	if n.glass {
		glass = 1
	}
	set(descGlass, prometheus.GaugeValue, glass)
	for _, mode := range []string{"audit", "enforce", "ignore"} {
		for _, blessed := range []bool{false, true} {
			set(descContainers, prometheus.GaugeValue, float64(n.containers[modeBlessed{mode, blessed}]), mode, strconv.FormatBool(blessed))
		}
	}
	set(descLists, prometheus.GaugeValue, float64(n.lists))
	set(descFiles, prometheus.GaugeValue, float64(n.files))
	if proof, err := a.o.Verifier.LastProof(); err == nil && proof != nil {
		ok := 0.0
		if proof.Error == "" {
			ok = 1
			s.lastProof.Store(proof)
		}
		set(descCanaryOK, prometheus.GaugeValue, ok)
	}
	if proof := s.lastProof.Load(); proof != nil {
		set(descCanary, prometheus.GaugeValue, float64(proof.Time.UnixMilli())/1000)
	}
	counters, err := a.o.Verifier.Counters()
	if err != nil {
		return
	}
	for name, v := range counters {
		if d := counterDescs[name]; d != nil {
			set(d, prometheus.CounterValue, float64(v))
		} else {
			set(descJudged, prometheus.CounterValue, float64(v), name)
		}
	}
}

type modeBlessed struct {
	mode    string
	blessed bool
}

// numbers are how many there are of what the agent keeps.
type numbers struct {
	glass        bool
	containers   map[modeBlessed]int
	lists, files int
}

func (a *Agent) numbers() numbers {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := numbers{glass: a.glass, containers: map[modeBlessed]int{}}
	type list struct{ image, digest string }
	seen := map[list]bool{}
	for _, r := range a.records {
		mode := "audit"
		switch {
		case r.Silent || r.Exempt:
			mode = "ignore"
		case r.Enforce:
			mode = "enforce"
		}
		n.containers[modeBlessed{mode, r.Reason == ""}]++
		if l := (list{r.Container.image(), r.List}); r.Files > 0 && !seen[l] {
			seen[l] = true
			n.lists++
			n.files += r.Files
		}
	}
	return n
}
