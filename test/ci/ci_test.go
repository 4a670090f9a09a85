// SPDX-License-Identifier: Apache-2.0

// Package ci tests what CI systems run: action.yml, install/action.yml and what is in the folder ci. Small
// models of their runners do for real what these files say, with the product from a release on a local
// server, against a local registry.
package ci

import (
	"bytes"
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
	"github.com/sbom-bless/sbom-bless/policy"
)

var update = flag.Bool("update", false, "write ci/sbom-bless.sh into the files that have it word for word")

const root = "../.."

// action is all that an action.yml may have here: "Metadata syntax for GitHub Actions", composite.
type action struct {
	Name, Description, Author string
	Branding                  struct{ Icon, Color string }
	Inputs                    map[string]struct {
		Description string
		Required    bool
		Default     *string
	}
	Outputs map[string]struct{ Description, Value string }
	Runs    struct {
		Using string
		Steps []step
	}
}

type step struct {
	Name, ID, Shell, Run string
	Env                  map[string]string
}

func actions(t *testing.T) map[string]action {
	all := map[string]action{}
	for _, path := range []string{"action.yml", "install/action.yml"} {
		var a action
		strict(t, path, &a)
		all[path] = a
	}
	return all
}

// strict reads YAML that has no field that v has not. Of several documents it reads the one with index n.
func strict(t *testing.T, path string, documents ...any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, path)))
	d.KnownFields(true)
	for _, v := range documents {
		if err := d.Decode(v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if err := d.Decode(new(any)); err != io.EOF {
		t.Fatalf("%s: more than %d documents: %v", path, len(documents), err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

var (
	input     = regexp.MustCompile(`^\$\{\{ inputs\.([a-z-]+) \}\}$`)
	stepValue = regexp.MustCompile(`^\$\{\{ steps\.([a-z]+)\.outputs\.([A-Z_]+) \}\}$`)
	variable  = regexp.MustCompile(`\bINPUT_[A-Z_]+`)
	outputOf  = regexp.MustCompile(`\b(?:BLESSED|INSTALLED)_[A-Z_]+`)
)

func variableOf(input string) string {
	return "INPUT_" + strings.ToUpper(strings.ReplaceAll(input, "-", "_"))
}

func TestActionsAreWhatGitHubAsksOf(t *testing.T) {
	script := read(t, "ci/sbom-bless.sh")
	for path, a := range actions(t) {
		if a.Name == "" || a.Description == "" || a.Branding.Icon == "" || a.Branding.Color == "" || a.Runs.Using != "composite" {
			t.Errorf("%s: name, description, branding and using: composite are required", path)
		}
		used := map[string]bool{}
		ids := map[string]bool{}
		for _, s := range a.Runs.Steps {
			ids[s.ID] = true
			if s.Name == "" || s.Shell == "" {
				t.Errorf("%s: step %q has no name or no shell", path, s.Name)
			}
			if strings.Contains(s.Run, "${{") {
				t.Errorf("%s: step %q has an expression in its script: whoever writes the value writes the script", path, s.Name)
			}
			for name, value := range s.Env {
				m := input.FindStringSubmatch(value)
				if m == nil || name != variableOf(m[1]) {
					t.Errorf("%s: step %q: %s: %s is not the input of that name", path, s.Name, name, value)
					continue
				}
				if _, ok := a.Inputs[m[1]]; !ok {
					t.Errorf("%s: step %q uses the input %s, which is not declared", path, s.Name, m[1])
				}
				used[m[1]] = true
			}
		}
		for name, in := range a.Inputs {
			if in.Description == "" || in.Required != (in.Default == nil) || !used[name] || !strings.Contains(script, variableOf(name)) {
				t.Errorf("%s: input %s: a description, a default unless it is required, and use are due", path, name)
			}
		}
		for name, out := range a.Outputs {
			m := stepValue.FindStringSubmatch(out.Value)
			if out.Description == "" || m == nil || !ids[m[1]] || !slices.Contains(outputOf.FindAllString(script, -1), m[2]) {
				t.Errorf("%s: output %s: a description, and a value that the script hands on, are due", path, name)
			}
		}
	}
}

// TestEverySystemHasEveryInput holds the inputs of action.yml against those of the script, of GitLab and of Tekton.
func TestEverySystemHasEveryInput(t *testing.T) {
	all := actions(t)
	want := slices.Sorted(maps.Keys(all["action.yml"].Inputs))
	for _, name := range slices.Sorted(maps.Keys(all["install/action.yml"].Inputs)) {
		if diff := cmp.Diff(all["action.yml"].Inputs[name], all["install/action.yml"].Inputs[name]); diff != "" {
			t.Errorf("install/action.yml: %s:\n%s", name, diff)
		}
	}
	var script []string
	for _, v := range slices.Compact(slices.Sorted(slices.Values(variable.FindAllString(read(t, "ci/sbom-bless.sh"), -1)))) {
		if v != "INPUT_HOME" && v != "INPUT_ID_TOKEN_FILE" { // of places, which each system has its own of
			script = append(script, strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(v, "INPUT_"), "_", "-")))
		}
	}
	slices.Sort(script)
	if diff := cmp.Diff(want, script); diff != "" {
		t.Errorf("ci/sbom-bless.sh:\n%s", diff)
	}
	spec, job := gitlab(t)
	var gitlabInputs []string
	for name, in := range spec.Spec.Inputs {
		if in.Description == "" {
			t.Errorf("ci/gitlab.yml: %s has no description", name)
		}
		value := "$[[ inputs." + name + " ]]"
		if name == "stage" && job.Stage == value || name == "job-image" && job.Image == value {
			continue
		}
		gitlabInputs = append(gitlabInputs, name)
		if job.Variables[variableOf(name)] != value {
			t.Errorf("ci/gitlab.yml: the input %s is not in the variable of that name", name)
		}
		sameDefault(t, "ci/gitlab.yml", name, all["action.yml"], in.Default)
	}
	slices.Sort(gitlabInputs)
	if diff := cmp.Diff(want, gitlabInputs); diff != "" {
		t.Errorf("ci/gitlab.yml:\n%s", diff)
	}
	task := tekton(t)
	var params []string
	for _, p := range task.Spec.Params {
		if p.Description == "" {
			t.Errorf("ci/tekton.yaml: %s has no description", p.Name)
		}
		if p.Name == "password-secret" {
			continue
		}
		params = append(params, p.Name)
		if task.Spec.Steps[0].env(variableOf(p.Name)) != "$(params."+p.Name+")" {
			t.Errorf("ci/tekton.yaml: the parameter %s is not in the variable of that name", p.Name)
		}
		sameDefault(t, "ci/tekton.yaml", p.Name, all["action.yml"], p.Default)
	}
	slices.Sort(params)
	if diff := cmp.Diff(want, params); diff != "" {
		t.Errorf("ci/tekton.yaml:\n%s", diff)
	}
	for _, v := range variable.FindAllString(read(t, "ci/Jenkinsfile")+read(t, "docs/ci.md"), -1) {
		if v != "INPUT_HOME" && v != "INPUT_ID_TOKEN_FILE" && !slices.ContainsFunc(want, func(name string) bool { return variableOf(name) == v }) {
			t.Errorf("ci/Jenkinsfile or docs/ci.md: %s is no input", v)
		}
	}
}

func sameDefault(t *testing.T, file, name string, a action, got *string) {
	t.Helper()
	if want := a.Inputs[name].Default; (got == nil) != (want == nil) || got != nil && *got != *want {
		t.Errorf("%s: the default of %s is another one than in action.yml", file, name)
	}
}

type gitlabSpec struct {
	Spec struct {
		Inputs map[string]struct {
			Default     *string
			Description string
		}
	}
}

type gitlabJob struct {
	Stage, Image string
	IDTokens     map[string]map[string]string `yaml:"id_tokens"`
	Variables    map[string]string
	BeforeScript []string `yaml:"before_script"`
	Script       []string
	Artifacts    struct {
		Paths   []string
		Reports map[string]string
	}
}

func gitlab(t *testing.T) (spec gitlabSpec, job gitlabJob) {
	t.Helper()
	var jobs map[string]gitlabJob
	strict(t, "ci/gitlab.yml", &spec, &jobs)
	if len(jobs) != 1 {
		t.Fatalf("ci/gitlab.yml has %d jobs", len(jobs))
	}
	return spec, jobs["bless"]
}

// task is what a Tekton Task (tekton.dev/v1) may have here.
type task struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name        string
		Annotations map[string]string
	}
	Spec struct {
		Description string
		Params      []struct {
			Name, Description string
			Default           *string
		}
		Workspaces []struct {
			Name, Description string
			Optional          bool
			ReadOnly          bool `yaml:"readOnly"`
		}
		Results []struct{ Name, Description string }
		Volumes []map[string]any
		Steps   []tektonStep
	}
}

type tektonStep struct {
	Name, Image string
	WorkingDir  string `yaml:"workingDir"`
	Script      string
	Args        []string
	Env         []struct {
		Name, Value string
		ValueFrom   map[string]any `yaml:"valueFrom"`
	}
	VolumeMounts    []map[string]any `yaml:"volumeMounts"`
	SecurityContext map[string]any   `yaml:"securityContext"`
}

func (s tektonStep) env(name string) string {
	for _, e := range s.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func tekton(t *testing.T) (v task) {
	t.Helper()
	strict(t, "ci/tekton.yaml", &v)
	if v.APIVersion != "tekton.dev/v1" || v.Kind != "Task" {
		t.Errorf("ci/tekton.yaml is a %s of %s", v.Kind, v.APIVersion)
	}
	return v
}

var inlined = regexp.MustCompile(`(?ms)^( +)#!/bin/sh$.*?^ +main "\$@"\n`)

// TestTheScriptIsInlinedWordForWord holds the copies of the script: go test ./test/ci -run Inlined -update writes them.
func TestTheScriptIsInlinedWordForWord(t *testing.T) {
	script := read(t, "ci/sbom-bless.sh")
	if *update {
		for _, path := range []string{"ci/gitlab.yml", "ci/tekton.yaml"} {
			text := read(t, path)
			place := inlined.FindStringSubmatchIndex(text)
			if place == nil {
				t.Fatalf("%s has no place for the script", path)
			}
			var copied bytes.Buffer
			for line := range strings.Lines(script) {
				if line != "\n" {
					copied.WriteString(text[place[2]:place[3]])
				}
				copied.WriteString(line)
			}
			if err := os.WriteFile(filepath.Join(root, path), []byte(text[:place[0]]+copied.String()+text[place[1]:]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, job := gitlab(t)
	if diff := cmp.Diff("cat >sbom-bless.sh <<'SBOM_BLESS_SCRIPT'\n"+script+"SBOM_BLESS_SCRIPT\n", job.Script[0]); diff != "" {
		t.Errorf("ci/gitlab.yml: run go test ./test/ci -run Inlined -update:\n%s", diff)
	}
	if diff := cmp.Diff(script, tekton(t).Spec.Steps[0].Script); diff != "" {
		t.Errorf("ci/tekton.yaml: run go test ./test/ci -run Inlined -update:\n%s", diff)
	}
	for _, taken := range []string{"$[[", "$(params", "$(workspaces", "$(results", "$(context", "$(steps", "$(tasks", "$$"} {
		if strings.Contains(script, taken) {
			t.Errorf("ci/sbom-bless.sh: %s means something to GitLab or to Tekton", taken)
		}
	}
}

// TestShellcheckIsSilent holds the script, which has to run in every sh.
func TestShellcheckIsSilent(t *testing.T) {
	if out, err := exec.Command("shellcheck", filepath.Join(root, "ci/sbom-bless.sh")).CombinedOutput(); err != nil {
		t.Errorf("%v (make tools installs shellcheck)\n%s", err, out)
	}
}

// TestTheRecipesForOthers holds the recipes for GitLab and Tekton against what they include, and those for nodes against the policy's reader.
func TestTheRecipesForOthers(t *testing.T) {
	spec, _ := gitlab(t)
	have := map[string]bool{}
	for _, p := range tekton(t).Spec.Params {
		have[p.Name] = true
	}
	for _, w := range tekton(t).Spec.Workspaces {
		have[w.Name] = true
	}
	seen := 0
	for _, recipe := range recipes(t, "yaml") {
		if strings.HasPrefix(recipe, "# /etc/sbom-bless/policy.yaml\n") {
			seen++
			if _, err := policy.Parse("policy.yaml", []byte(recipe)); err != nil {
				t.Error(err)
			}
			continue
		}
		var v struct {
			Include []struct{ Inputs map[string]string }
			Kind    string
			Spec    struct{ Params, Workspaces []struct{ Name string } }
		}
		if err := yaml.Unmarshal([]byte(recipe), &v); err != nil {
			t.Fatalf("%v:\n%s", err, recipe)
		}
		for _, include := range v.Include {
			seen++
			for name := range include.Inputs {
				if _, ok := spec.Spec.Inputs[name]; !ok {
					t.Errorf("the GitLab component has no input %s", name)
				}
			}
		}
		if v.Kind == "TaskRun" {
			seen++
			for _, p := range slices.Concat(v.Spec.Params, v.Spec.Workspaces) {
				if !have[p.Name] {
					t.Errorf("the Tekton Task has neither a parameter nor a workspace %s", p.Name)
				}
			}
		}
	}
	if seen != 3 {
		t.Errorf("docs/ci.md has %d recipes for GitLab, Tekton and nodes, want 3", seen)
	}
}

// recipes are the examples of a language in docs/ci.md.
func recipes(t *testing.T, language string) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(read(t, "docs/ci.md"), -1) {
		all = append(all, m[1])
	}
	return all
}

// TestTheRecipesForGitHub has actionlint read the recipes of docs/ci.md, with our action.yml as what they use, and the
// workflow that releases.
func TestTheRecipesForGitHub(t *testing.T) {
	if testing.Short() {
		t.Skip("actionlint takes a minute to build")
	}
	actionlint, err := gotool.Path(t.Context(), gotool.Actionlint)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, path := range []string{"action.yml", "install/action.yml", ".github/workflows/release.yml"} {
		write(t, filepath.Join(dir, path), read(t, path))
	}
	if err := os.Mkdir(filepath.Join(dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	local := strings.NewReplacer("uses: sbom-bless/sbom-bless@v1", "uses: ./", "uses: sbom-bless/sbom-bless/install@v1", "uses: ./install")
	count := 0
	for i, recipe := range recipes(t, "yaml") {
		if strings.Contains(recipe, "\njobs:\n") {
			count++
			write(t, filepath.Join(dir, ".github/workflows", fmt.Sprintf("recipe%d.yml", i)), local.Replace(recipe))
		}
	}
	if count != 4 {
		t.Fatalf("docs/ci.md has %d workflows, want 4", count)
	}
	lint := func() (string, error) {
		cmd := exec.Command(actionlint, "-no-color", "-shellcheck=", "-pyflakes=")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := lint(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	write(t, filepath.Join(dir, ".github/workflows/wrong.yml"), "on: push\njobs:\n  j:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: ./\n        with:\n          imaeg: app\n")
	if out, err := lint(); err == nil || !strings.Contains(out, `missing input "image"`) || !strings.Contains(out, `input "imaeg" is not defined`) {
		t.Errorf("a misspelt input: %v\n%s", err, out)
	}
}
