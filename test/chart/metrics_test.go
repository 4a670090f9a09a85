// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// metrics are those of the agent by name, each with its labels. A test of package node holds the
// documented list against what the agent serves.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/enforce.md")
	if err != nil {
		t.Fatal(err)
	}
	list := map[string][]string{"process_resident_memory_bytes": nil} // every program's
	for _, m := range regexp.MustCompile("(?m)^\\| `(sbom_bless_[a-z_]+)(?:\\{([a-z,]+)\\})?` \\| ").FindAllStringSubmatch(string(doc), -1) {
		labels := strings.Split(m[2], ",")
		list[m[1]] = labels
		if strings.HasSuffix(m[1], "_seconds") {
			list[m[1]+"_bucket"] = append(slices.Clone(labels), "le")
		}
	}
	if len(list) < 20 {
		t.Fatalf("only %v are documented", list)
	}
	return list
}

// query is one of the files'.
type query struct{ where, text string }

func alerts(t *testing.T) (list []query) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(read(t, "files/alerts.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("alert %s: %v %v", r.Alert, r.Labels, r.Annotations)
			}
			list = append(list, query{"alert " + r.Alert, r.Expr})
			for _, said := range r.Annotations { // labels that a message has, as if they were asked for
				for _, m := range regexp.MustCompile(`\$labels\.([a-z_]+)`).FindAllStringSubmatch(said, -1) {
					list = append(list, query{"message of " + r.Alert, "sum by (" + m[1] + ") (" + r.Expr + ")"})
				}
			}
		}
	}
	return list
}

// dashboard gives what its panels ask for, and what its variable does.
func dashboard(t *testing.T) (list []query) {
	t.Helper()
	var d struct {
		Panels []struct {
			ID                 int
			Title, Description string
			Targets            []struct{ Expr string }
			GridPos            struct{ X, Y, W, H int }
		}
		Templating struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	if err := json.Unmarshal([]byte(read(t, "files/dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	at := map[[2]int]string{}
	for _, p := range d.Panels {
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if at[[2]int{x, y}] != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q, or over the edge", p.Title, at[[2]int{x, y}])
				}
				at[[2]int{x, y}] = p.Title
			}
		}
		if p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q has no description, or asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			text := strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*").Replace(target.Expr)
			if strings.Contains(text, "$") {
				t.Errorf("panel %q: a variable of Grafana that nobody knows: %s", p.Title, target.Expr)
			}
			list = append(list, query{"panel " + p.Title, text})
		}
	}
	for _, v := range d.Templating.List {
		if q, ok := v.Query.(map[string]any); ok {
			m := regexp.MustCompile(`^label_values\(([a-z_]+), ([a-z_]+)\)$`).FindStringSubmatch(q["query"].(string))
			if m == nil {
				t.Fatalf("variable %s: %v", v.Name, q)
			}
			list = append(list, query{"variable " + v.Name, "sum by (" + m[2] + ") (" + m[1] + ")"})
		}
	}
	return list
}

// Each alert and each panel is an expression that Prometheus' own parser takes, about metrics that the
// agent serves, with labels that they have.
func TestQueriesFitMetrics(t *testing.T) {
	queries := append(alerts(t), dashboard(t)...)
	if len(queries) < 30 {
		t.Fatalf("only %d queries", len(queries))
	}
	texts := make([]string, len(queries))
	for i, q := range queries {
		texts[i] = q.text
	}
	asked, err := json.Marshal(append(texts, "sum by (x", `up{job="x"} and on (pod) up`)) // two whose answers are known
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", ".")
	cmd.Dir, cmd.Stdin = "promql", bytes.NewReader(asked)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		Error    string
		Selected []struct {
			Name   string
			Labels []string
		}
		Grouped []string
	}
	var answers []answer
	if err := json.Unmarshal(out, &answers); err != nil {
		t.Fatal(err)
	}
	if bad := answers[len(queries)]; bad.Error == "" {
		t.Error("an expression without an end is taken")
	}
	if good := answers[len(queries)+1]; len(good.Selected) != 2 || good.Selected[0].Name != "up" || !slices.Equal(good.Selected[0].Labels, []string{"job"}) || !slices.Equal(good.Grouped, []string{"pod"}) {
		t.Errorf("%+v", good)
	}
	served, used := metrics(t), map[string]bool{}
	ofTarget := []string{"instance", "job", "namespace"}
	for i, q := range queries {
		a := answers[i]
		if a.Error != "" {
			t.Errorf("%s: %s\n%s", q.where, a.Error, q.text)
		}
		var known []string
		for _, s := range a.Selected {
			labels, ok := served[s.Name]
			if !ok {
				t.Errorf("%s: no agent serves %s", q.where, s.Name)
			}
			used[s.Name] = true
			known = append(known, labels...)
			for _, l := range s.Labels {
				if !slices.Contains(labels, l) {
					t.Errorf("%s: %s has no label %s", q.where, s.Name, l)
				}
			}
		}
		for _, l := range a.Grouped {
			if !slices.Contains(known, l) && !slices.Contains(ofTarget, l) {
				t.Errorf("%s: %v have no label %s", q.where, a.Selected, l)
			}
		}
	}
	for _, want := range []string{"sbom_bless_canary_ok", "sbom_bless_events_lost_total", "sbom_bless_containers", "sbom_bless_denials_total"} {
		if !slices.ContainsFunc(alerts(t), func(q query) bool { return strings.Contains(q.text, want) }) {
			t.Errorf("no alert is about %s", want)
		}
	}
}

// allMetrics are values with all that there is of metrics.
func allMetrics() map[string]any {
	on := map[string]any{"enabled": true}
	return map[string]any{"certificates": signer["certificates"], "metrics": map[string]any{"enabled": true, "serviceMonitor": on, "rules": on, "dashboard": on}}
}

// What Prometheus' operator and Grafana's sidecar get is what they ask for.
func TestMetricsObjects(t *testing.T) {
	objects, text := render(t, allMetrics())
	want := []string{"ConfigMap", "ConfigMap release-sbom-bless-dashboard", "DaemonSet", "Pod", "PrometheusRule", "Service", "ServiceAccount", "ServiceMonitor"}
	if kinds := slices.Sorted(maps.Keys(objects)); !slices.Equal(kinds, want) {
		t.Errorf("the chart makes %v", kinds)
	}
	if args := objects["DaemonSet"].Spec.Template.Spec.Containers[0].Args; !slices.Contains(args, "--metrics=[$(POD_IP)]:9811") {
		t.Errorf("the agent: %q", args)
	}
	for name, v := range objects["ServiceMonitor"].Spec.Selector.MatchLabels {
		if objects["Service"].Metadata.Labels[name] != v {
			t.Errorf("the monitor asks for %s=%s, the service has %q", name, v, objects["Service"].Metadata.Labels[name])
		}
	}
	if !strings.Contains(text, "honorLabels: true") || !strings.Contains(text, "jobLabel: app.kubernetes.io/name") {
		t.Error("the labels of the metrics are lost")
	}
	var rules struct{ Spec, Groups any }
	var chart, file any
	for _, document := range strings.Split(text, "\n---\n") {
		if strings.Contains(document, "kind: PrometheusRule") {
			if err := yaml.Unmarshal([]byte(document), &rules); err != nil {
				t.Fatal(err)
			}
			chart = rules.Spec
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "files/alerts.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	got, err := yaml.Marshal(chart)
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, wanted) {
		t.Errorf("the rules are not those of files/alerts.yaml:\n%s", got)
	}
	shown := objects["ConfigMap release-sbom-bless-dashboard"]
	if shown.Metadata.Labels["grafana_dashboard"] != "1" || shown.Data["sbom-bless.json"] != read(t, "files/dashboard.json") {
		t.Errorf("the dashboard: %v", shown.Metadata)
	}
}
