// SPDX-License-Identifier: Apache-2.0

// Package chart has the Helm chart rendered, by Helm, and looks at what comes out.
package chart

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sbom-bless/sbom-bless/internal/gotool"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"github.com/sbom-bless/sbom-bless/policy"
)

const chartDir = "../../charts/sbom-bless"

var update = flag.Bool("update", false, "write the list of values in the chart's README")

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(chartDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ---- Without Helm ----

// value is one of values.yaml that has a description.
type value struct{ name, standard, description string }

// values lists those of values.yaml. A value without a description is an error, unless it has only values
// that have one.
func values(t *testing.T) []value {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(read(t, "values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	var list []value
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		for i := 0; i < len(n.Content); i += 2 {
			key, v := n.Content[i], n.Content[i+1]
			name := prefix + key.Value
			_, described, ok := strings.Cut("\n"+key.HeadComment, "\n# -- ")
			if !ok && v.Kind == yaml.MappingNode && len(v.Content) > 0 {
				walk(name+".", v)
				continue
			}
			if !ok {
				t.Errorf("values.yaml:%d: %s has no description", key.Line, name)
				continue
			}
			var standard any
			if err := v.Decode(&standard); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(standard)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, value{name, string(b), strings.ReplaceAll(described, "\n# ", " ")})
		}
	}
	walk("", document.Content[0])
	return list
}

var valuesInReadme = regexp.MustCompile(`(?s)(<!-- values: [^\n]*-->\n).*(<!-- end of values -->)`)

// The README lists all values as values.yaml describes them.
func TestValuesAreListed(t *testing.T) {
	list := "| value | default | meaning |\n|---|---|---|\n"
	for _, v := range values(t) {
		list += fmt.Sprintf("| `%s` | `%s` | %s |\n", v.name, v.standard, v.description)
	}
	readme := read(t, "README.md")
	m := valuesInReadme.FindStringSubmatch(readme)
	if m == nil {
		t.Fatal("README.md has no place for the list of values")
	}
	want := strings.Replace(readme, m[0], m[1]+list+m[2], 1)
	if *update {
		if err := os.WriteFile(filepath.Join(chartDir, "README.md"), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, readme); diff != "" {
		t.Errorf("README.md is old: go test ./test/chart -update writes it\n%s", diff)
	}
}

// properties lists what the schema knows, as values lists it.
func properties(t *testing.T, schema map[string]any, prefix string) []string {
	t.Helper()
	var list []string
	for name, p := range schema["properties"].(map[string]any) {
		if sub, ok := p.(map[string]any); ok && sub["properties"] != nil {
			list = append(list, properties(t, sub, prefix+name+".")...)
		}
		list = append(list, prefix+name)
	}
	return list
}

// The schema knows each value, and no other.
func TestSchemaKnowsValues(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, "values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	known := properties(t, schema, "")
	var described []string
	for _, v := range values(t) {
		described = append(described, v.name)
		if !slices.Contains(known, v.name) {
			t.Errorf("the schema lacks %s", v.name)
		}
	}
	for _, name := range known {
		within := slices.ContainsFunc(described, func(d string) bool {
			return d == name || strings.HasPrefix(d, name+".") || strings.HasPrefix(name, d+".")
		})
		if !within && name != "global" { // Helm's own
			t.Errorf("values.yaml lacks %s", name)
		}
	}
}

// What Artifact Hub shows is about this version, and the image that it names is the one of the values.
func TestArtifactHub(t *testing.T) {
	var chart struct {
		AppVersion  string `yaml:"appVersion"`
		Annotations map[string]string
	}
	var values struct{ Image struct{ Repository string } }
	var images []struct{ Name, Image string }
	var changes []struct{ Kind, Description string }
	for _, c := range []struct {
		text string
		into any
	}{
		{read(t, "Chart.yaml"), &chart}, {read(t, "values.yaml"), &values},
	} {
		if err := yaml.Unmarshal([]byte(c.text), c.into); err != nil {
			t.Fatal(err)
		}
	}
	for name, into := range map[string]any{"artifacthub.io/images": &images, "artifacthub.io/changes": &changes} {
		if err := yaml.Unmarshal([]byte(chart.Annotations[name]), into); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if want := values.Image.Repository + ":" + chart.AppVersion; len(images) != 1 || images[0].Image != want {
		t.Errorf("images %v, want %s", images, want)
	}
	for _, c := range changes {
		if !slices.Contains([]string{"added", "changed", "deprecated", "removed", "fixed", "security"}, c.Kind) || c.Description == "" {
			t.Errorf("change %+v", c)
		}
	}
}

// ---- With Helm ----

const certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

var signer = map[string]any{"certificates": map[string]any{"bless.crt": certificate}}

// helm runs Helm on the chart with values, and gives what it prints.
func helm(t *testing.T, verb string, values map[string]any, args ...string) (string, error) {
	t.Helper()
	vm.OnlyInAll(t) // Helm is to be built, of all that speaks to a cluster
	program, err := gotool.Path(t.Context(), gotool.Helm)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	b, err := yaml.Marshal(values)
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{verb}, args...)...)
	cmd.Args = append(cmd.Args, chartDir, "--values", file)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w\n%s%s", err, out.String(), said.String())
	}
	return out.String(), nil
}

// object is one of Kubernetes.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
	}
	Automount *bool `yaml:"automountServiceAccountToken"`
	Data      map[string]string
	Spec      struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		Template struct {
			Metadata struct{ Labels, Annotations map[string]string }
			Spec     pod
		}
		pod `yaml:",inline"`
	}
}

type pod struct {
	ServiceAccountName string `yaml:"serviceAccountName"`
	Automount          *bool  `yaml:"automountServiceAccountToken"`
	HostPID            bool   `yaml:"hostPID"`
	HostNetwork        bool   `yaml:"hostNetwork"`
	Containers         []struct {
		Image           string
		Command, Args   []string
		SecurityContext map[string]any `yaml:"securityContext"`
		VolumeMounts    []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			SubPath   string `yaml:"subPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	Volumes []struct {
		Name     string
		HostPath *struct{ Path, Type string } `yaml:"hostPath"`
	}
}

// render gives the chart's objects by their kind, and a further one of a kind by kind and name.
func render(t *testing.T, values map[string]any) (objects map[string]object, text string) {
	t.Helper()
	text, err := helm(t, "template", values, "release", "--namespace", "security")
	if err != nil {
		t.Fatal(err)
	}
	objects = map[string]object{}
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects, text
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if o.Kind == "" {
			continue // nothing but comments
		}
		name := o.Kind
		if _, is := objects[name]; is {
			name += " " + o.Metadata.Name
		}
		if _, twice := objects[name]; twice {
			t.Errorf("two objects %s", name)
		}
		objects[name] = o
	}
}

// The chart as it is installed with nothing but a signer.
func TestDefaults(t *testing.T) {
	objects, _ := render(t, signer)
	// No RBAC, no resources of others, nothing that is the cluster's.
	if kinds := slices.Sorted(maps.Keys(objects)); !slices.Equal(kinds, []string{"ConfigMap", "DaemonSet", "Pod", "ServiceAccount"}) {
		t.Errorf("the chart makes %v", kinds)
	}
	for kind, o := range objects {
		if o.Metadata.Namespace != "security" {
			t.Errorf("%s is in namespace %q", kind, o.Metadata.Namespace)
		}
	}

	ds := objects["DaemonSet"]
	for name, v := range ds.Spec.Selector.MatchLabels {
		if ds.Spec.Template.Metadata.Labels[name] != v {
			t.Errorf("the selector asks for %s=%s, the pods have %q", name, v, ds.Spec.Template.Metadata.Labels[name])
		}
		if test := objects["Pod"].Metadata.Labels; test[name] == v && name == "app.kubernetes.io/name" {
			t.Error("the selector takes the test's pod for one of its own")
		}
	}
	agent := ds.Spec.Template.Spec
	if !agent.HostPID || !agent.HostNetwork || len(agent.Containers) != 1 {
		t.Errorf("%+v", agent)
	}
	if got := agent.Containers[0].SecurityContext; got["privileged"] != true || got["readOnlyRootFilesystem"] != true || got["runAsUser"] != 0 {
		t.Errorf("the agent: %v", got)
	}
	test := objects["Pod"].Spec.pod
	dropped := map[string]any{"drop": []any{"ALL"}}
	if got := test.Containers[0].SecurityContext; got["privileged"] != nil || got["allowPrivilegeEscalation"] != false || !cmp.Equal(got["capabilities"], dropped) {
		t.Errorf("the test: %v", got)
	}
	if test.HostPID || objects["Pod"].Metadata.Annotations["helm.sh/hook"] != "test" {
		t.Errorf("the test: %+v", test)
	}
	for name, automount := range map[string]*bool{"service account": objects["ServiceAccount"].Automount, "agent": agent.Automount, "test": test.Automount} {
		if automount == nil || *automount {
			t.Errorf("%s: a token is mounted", name)
		}
	}
	if agent.ServiceAccountName != objects["ServiceAccount"].Metadata.Name {
		t.Errorf("service account %q", agent.ServiceAccountName)
	}

	// Each mount has its volume, and each volume is mounted. The policy's changes, which one file's would not.
	mounted := map[string]string{}
	for _, m := range agent.Containers[0].VolumeMounts {
		if m.SubPath != "" || m.Name == "policy" && !m.ReadOnly {
			t.Errorf("mount %+v", m)
		}
		mounted[m.Name] = m.MountPath
	}
	var paths []string
	for _, v := range agent.Volumes {
		if mounted[v.Name] == "" {
			t.Errorf("volume %s is not mounted", v.Name)
		}
		delete(mounted, v.Name)
		if v.HostPath != nil {
			paths = append(paths, v.HostPath.Path)
		}
	}
	if len(mounted) > 0 {
		t.Errorf("mounts of no volume: %v", mounted)
	}
	// The README has a reason for each path of the node, and for no other.
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(/[^`]+)` \\| (?:read|write) \\| .{20}").FindAllStringSubmatch(read(t, "README.md"), -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(paths)
	slices.Sort(documented)
	if diff := cmp.Diff(paths, documented); diff != "" {
		t.Errorf("paths of the node, -chart +README:\n%s", diff)
	}

	p, err := policy.Parse("policy.yaml", []byte(objects["ConfigMap"].Data["policy.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	if p.Default.Mode != policy.Audit || !slices.Equal(p.Keys, []string{"/etc/sbom-bless/bless.crt"}) {
		t.Errorf("%+v", p)
	}
	if got := objects["ConfigMap"].Data["bless.crt"]; got != certificate {
		t.Errorf("the certificate is %q", got)
	}
}

// Each value of values.yaml changes what comes out.
func TestValuesAreUsed(t *testing.T) {
	digest := "sha256:" + strings.Repeat("5", 64)
	// By value: what it is set to, and what is in the output then, and is not by default.
	uses := map[string]struct {
		set  any
		want string
	}{
		"policy":                          {map[string]any{"mode": "enforce", "jit": true}, "mode: enforce"},
		"certificates":                    {map[string]any{"other.crt": certificate}, "- /etc/sbom-bless/other.crt"},
		"image.repository":                {"registry.example/node", "image: registry.example/node"},
		"image.tag":                       {"1.2", ":1.2\n"},
		"image.digest":                    {digest, "@" + digest},
		"image.pullPolicy":                {"Always", "imagePullPolicy: Always"},
		"imagePullSecrets":                {[]any{map[string]any{"name": "pull"}}, "imagePullSecrets:\n        - name: pull"},
		"registrySecret":                  {"registries", "secretName: registries"},
		"runtime.containerd":              {"/run/k3s/containerd/containerd.sock", "path: /run/k3s/containerd\n"},
		"runtime.nri":                     {"/run/other/nri.sock", "path: /run/other\n"},
		"runtime.crioStorage":             {"/var/lib/containers/storage", "- --storage=/var/lib/containers/storage"},
		"caDirectories":                   {[]any{"/opt/ca"}, "path: /opt/ca\n"},
		"serviceAccount.create":           {false, "serviceAccountName: default\n"},
		"serviceAccount.name":             {"accounted", "serviceAccountName: accounted\n"},
		"serviceAccount.annotations":      {map[string]any{"account": "noted"}, "account: noted"},
		"nameOverride":                    {"renamed", "app.kubernetes.io/name: renamed\n"},
		"fullnameOverride":                {"fully", "name: fully\n"},
		"annotations":                     {map[string]any{"set": "noted"}, "set: noted"},
		"podAnnotations":                  {map[string]any{"pod": "noted"}, "pod: noted"},
		"podLabels":                       {map[string]any{"pod": "labelled"}, "pod: labelled"},
		"nodeSelector":                    {map[string]any{"pool": "trusted"}, "pool: trusted"},
		"affinity":                        {map[string]any{"nodeAffinity": map[string]any{}}, "nodeAffinity: {}"},
		"tolerations":                     {[]any{map[string]any{"key": "dedicated", "operator": "Exists"}}, "key: dedicated"},
		"priorityClassName":               {"lower", `priorityClassName: "lower"`},
		"updateStrategy":                  {map[string]any{"type": "OnDelete"}, "type: OnDelete"},
		"minReadySeconds":                 {77, "minReadySeconds: 77"},
		"terminationGracePeriodSeconds":   {78, "terminationGracePeriodSeconds: 78"},
		"resources":                       {map[string]any{"limits": map[string]any{"memory": "1Gi"}}, "limits:\n              memory: 1Gi"},
		"hostNetwork":                     {false, "hostNetwork: false"},
		"dnsPolicy":                       {"ClusterFirst", "dnsPolicy: ClusterFirst"},
		"metrics.enabled":                 {true, "kind: Service\n"},
		"metrics.port":                    {9999, "containerPort: 9999"},
		"metrics.serviceMonitor.enabled":  {true, "kind: ServiceMonitor"},
		"metrics.serviceMonitor.labels":   {map[string]any{"release": "prometheus"}, "release: prometheus"},
		"metrics.serviceMonitor.interval": {"77s", "interval: 77s"},
		"metrics.rules.enabled":           {true, "kind: PrometheusRule"},
		"metrics.rules.labels":            {map[string]any{"role": "alerts"}, "role: alerts"},
		"metrics.dashboard.enabled":       {true, "sbom-bless.json: |"},
		"metrics.dashboard.labels":        {map[string]any{"folder": "security"}, "folder: security"},
		"extraArgs":                       {[]any{"--denials"}, "- --denials"},
		"extraEnv":                        {[]any{map[string]any{"name": "HTTPS_PROXY", "value": "proxy"}}, "name: HTTPS_PROXY"},
		"extraVolumes":                    {[]any{map[string]any{"name": "more", "emptyDir": map[string]any{}}}, "name: more\n"},
		"extraVolumeMounts":               {[]any{map[string]any{"name": "more", "mountPath": "/more"}}, "mountPath: /more"},
	}
	_, standard := render(t, signer)
	_, withMetrics := render(t, allMetrics())
	for _, v := range values(t) {
		t.Run(v.name, func(t *testing.T) {
			use, ok := uses[v.name]
			if !ok {
				t.Fatal("nobody shows what it does")
			}
			set, without := maps.Clone(signer), standard
			if strings.HasPrefix(v.name, "metrics.") && use.set != true { // what is made for metrics that are served
				set, without = allMetrics(), withMetrics
			}
			path := strings.Split(v.name, ".")
			if path[0] == "metrics" && use.set == true {
				set["metrics"] = map[string]any{"enabled": true}
			}
			in := set
			for _, outer := range path[:len(path)-1] {
				inner, _ := in[outer].(map[string]any)
				if inner = maps.Clone(inner); inner == nil {
					inner = map[string]any{}
				}
				in[outer], in = inner, inner
			}
			in[path[len(path)-1]] = use.set
			_, text := render(t, set)
			if !strings.Contains(text, use.want) || strings.Contains(without, use.want) {
				t.Errorf("%q is not what it adds:\n%s", use.want, text)
			}
		})
	}
}

// All that docs/policy.md knows can be said in the values, and comes out as it is.
func TestPolicyComesThrough(t *testing.T) {
	doc, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "All fields:\n\n```yaml\n")
	text, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("docs/policy.md shows all fields elsewhere")
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	// Helm's values are JSON, which has no dates.
	for _, m := range values["matches"].([]any) {
		if m := m.(map[string]any); m["not-before"] != nil {
			m["not-before"] = "2026-11-01"
		}
	}
	objects, _ := render(t, map[string]any{"policy": values})
	want, err := policy.Parse("docs", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := policy.Parse("chart", []byte(objects["ConfigMap"].Data["policy.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*policy.Policy{want, got} {
		p.KeyLines = nil
		for i := range p.Matches {
			p.Matches[i].Line = 0
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A changed policy changes the text that the agent follows, and so does a changed certificate; no pod
// restarts for it.
func TestPolicyChanges(t *testing.T) {
	before, _ := render(t, signer)
	for name, values := range map[string]map[string]any{
		"policy":      {"certificates": signer["certificates"], "policy": map[string]any{"mode": "enforce"}},
		"certificate": {"certificates": map[string]any{"bless.crt": strings.Replace(certificate, "MIIB", "MIIC", 1)}},
	} {
		after, _ := render(t, values)
		if after["ConfigMap"].Data["policy.yaml"] == before["ConfigMap"].Data["policy.yaml"] {
			t.Errorf("%s: the agent does not see that it changed", name)
		}
		if diff := cmp.Diff(before["DaemonSet"].Spec.Template.Metadata, after["DaemonSet"].Spec.Template.Metadata); diff != "" {
			t.Errorf("%s: pods restart for it:\n%s", name, diff)
		}
	}
}

// What makes no sense is refused before it reaches a node.
func TestNonsenseIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		values map[string]any
		want   string
	}{
		"no signer":            {map[string]any{}, "nobody is trusted"},
		"an unknown value":     {map[string]any{"tolerance": 1}, "tolerance"},
		"a misspelled policy":  {map[string]any{"policy": map[string]any{"mtaches": []any{}}}, "mtaches"},
		"an unknown mode":      {map[string]any{"policy": map[string]any{"mode": "enforced"}}, "policy/mode"},
		"a match of nothing":   {map[string]any{"policy": map[string]any{"matches": []any{map[string]any{"mode": "enforce"}}}}, "policy/matches/0"},
		"a short digest":       {map[string]any{"image": map[string]any{"digest": "sha256:12"}}, "image/digest"},
		"two agents a node":    {map[string]any{"updateStrategy": map[string]any{"rollingUpdate": map[string]any{"maxSurge": 1}}}, "maxSurge"},
		"a private key":        {map[string]any{"certificates": map[string]any{"bless.key": "-----BEGIN PRIVATE KEY-----\n"}}, "certificates"},
		"alerts about nothing": {map[string]any{"metrics": map[string]any{"rules": map[string]any{"enabled": true}}}, "set metrics.enabled"},
		"a relative path":      {map[string]any{"runtime": map[string]any{"nri": "nri.sock"}}, "runtime/nri"},
	} {
		t.Run(name, func(t *testing.T) {
			values := maps.Clone(signer)
			if len(c.values) == 0 {
				values = c.values
			}
			maps.Copy(values, c.values)
			out, err := helm(t, "template", values, "release")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("not refused for %q: %v\n%s", c.want, err, out)
			}
		})
	}
}

func TestLint(t *testing.T) {
	if out, err := helm(t, "lint", signer, "--strict"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
