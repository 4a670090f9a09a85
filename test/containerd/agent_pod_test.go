// SPDX-License-Identifier: Apache-2.0

//go:build linux

package containerd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sbom-bless/sbom-bless/internal/vm"
)

const (
	nodeImageFile = "/node.tar"
	policyDir     = "/configmap"
)

// TestAgentPod runs the agent in a container of the node image, with the rights and the paths of the host
// that the chart gives it.
func TestAgentPod(t *testing.T) {
	vm.OnlyInAll(t) // of what a pod asks by NRI, TestKubernetes takes as long already
	config := vm.Config{Memory: 4096, Timeout: 20 * time.Minute, Host: func(t vm.TB, c *vm.Config) {
		bringKubernetes(t, c)
		layout, archive := filepath.Join(t.TempDir(), "node"), filepath.Join(t.TempDir(), "node.tar")
		for _, args := range [][]string{
			{"go", "run", "github.com/sbom-bless/sbom-bless/packaging/nodeimage", "-version", "1", layout, c.Files[product]},
			{"skopeo", "copy", "--quiet", "oci:" + layout + ":1", "oci-archive:" + archive + ":app"},
		} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
		c.Files[nodeImageFile] = archive
	}}
	vm.Test(t, []vm.Kernel{"6.12"}, config, underAgentPod)
}

// configMap is a directory that changes as the kubelet changes a volume of a ConfigMap: whole, by a link.
type configMap struct {
	dir     string
	version int
}

func (m *configMap) write(t *testing.T, files map[string]string) {
	t.Helper()
	m.version++
	version := fmt.Sprintf("..%d", m.version)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(m.dir, version), 0o755))
	for name, content := range files {
		must(os.WriteFile(filepath.Join(m.dir, version, name), []byte(content), 0o644))
		if m.version == 1 {
			must(os.Symlink("..data/"+name, filepath.Join(m.dir, name)))
		}
	}
	must(os.Symlink(version, filepath.Join(m.dir, "..data.new")))
	must(os.Rename(filepath.Join(m.dir, "..data.new"), filepath.Join(m.dir, "..data")))
}

// agentPod is an agent in a pod.
type agentPod struct{ id, name string }

// chartFile is what agentArgs and agentMounts stand for, with the chart's default values.
const chartFile = "../../charts/sbom-bless/templates/daemonset.yaml"

var agentArgs = []string{
	"enforce", "run", "--policy=/etc/sbom-bless/policy.yaml", "--follow-policy", "--wait-when-unfit",
	"--break-glass=/host/etc/sbom-bless/break-glass", "--containerd=/run/containerd/containerd.sock", "--nri=/var/run/nri/nri.sock",
}

// agentMount is a path in the pod; from is empty where it is the same path of the node.
type agentMount struct {
	in, from string
	readonly bool
}

var agentMounts = []agentMount{
	{"/etc/sbom-bless", policyDir, true}, {"/host/etc/sbom-bless", "/etc/sbom-bless", true},
	{"/sys/fs/bpf", "", false}, {"/sys/kernel/security", "", true}, {"/run/sbom-bless", "", false}, {"/var/lib/sbom-bless", "", false},
	{"/run/containerd", "", true}, {"/var/run/nri", "", true}, {"/tmp", "/pod-tmp", false},
}

// TestAgentPodIsTheChart holds agentArgs and agentMounts to the chart: each flag and each path that does not come
// from values.
func TestAgentPodIsTheChart(t *testing.T) {
	text, err := os.ReadFile(chartFile)
	if err != nil {
		t.Fatal(err)
	}
	var args, mounts []string
	for _, m := range regexp.MustCompile(`(?m)^ {12}- (--[a-z-]+)`).FindAllSubmatch(text, -1) {
		args = append(args, string(m[1]))
	}
	for _, m := range regexp.MustCompile(`(?m)^ {14}mountPath: (/\S+)(\n {14}readOnly: true)?$`).FindAllSubmatch(text, -1) {
		mounts = append(mounts, fmt.Sprint(string(m[1]), " ", len(m[2]) > 0))
	}
	for _, arg := range args {
		if arg != "--storage" && !slices.ContainsFunc(agentArgs, func(a string) bool { name, _, _ := strings.Cut(a, "="); return name == arg }) {
			t.Fatalf("%s has %s, and agentArgs has not", chartFile, arg)
		}
	}
	for _, mount := range mounts {
		if mount != "/run/secrets/registry true" && !slices.ContainsFunc(agentMounts, func(m agentMount) bool { return mount == fmt.Sprint(m.in, " ", m.readonly) }) {
			t.Fatalf("%s has the mount %s, and agentMounts has not", chartFile, mount)
		}
	}
	if len(args) < 6 || len(mounts) < 7 || !bytes.Contains(text, []byte("privileged: true")) || !bytes.Contains(text, []byte("hostPID: true")) {
		t.Fatalf("%s is written in another way: %v %v", chartFile, args, mounts)
	}
}

// startAgentPod starts one as charts/sbom-bless has it.
func (p *pods) startAgentPod(t *testing.T, name string) agentPod {
	t.Helper()
	privileged := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE}
	pod := p.config(name)
	pod.Linux.SecurityContext = &cri.LinuxSandboxSecurityContext{NamespaceOptions: privileged, Privileged: true}
	var mounts []*cri.Mount
	for _, m := range append(agentMounts, agentMount{in: attestations, readonly: true}) {
		from := cmp.Or(m.from, m.in)
		if err := os.MkdirAll(from, 0o755); err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, &cri.Mount{ContainerPath: m.in, HostPath: from, Readonly: m.readonly})
	}
	labels := maps.Clone(pod.Labels)
	labels["io.kubernetes.container.name"] = "agent"
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	made, err := p.cri.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: p.sandbox(pod), SandboxConfig: pod,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "agent"}, Image: &cri.ImageSpec{Image: registry + "node:app"},
			Command: []string{"/usr/bin/sbom-bless"},
			Args:    agentArgs,
			Envs:    []*cri.KeyValue{{Key: "HOME", Value: []byte("/tmp")}}, Mounts: mounts, LogPath: name, Labels: labels,
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: privileged, Privileged: true, ReadonlyRootfs: true,
			}},
		},
	})
	if err == nil {
		_, err = p.cri.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: made.ContainerId})
	}
	if err != nil {
		t.Fatal(err)
	}
	return agentPod{id: made.ContainerId, name: name}
}

// lines are what it wrote, each in one piece: "TIME stdout P the beginning", "TIME stdout F and the end".
func (a agentPod) lines(t *testing.T) []string {
	t.Helper()
	log, err := os.ReadFile("/var/log/pods/" + a.name)
	if err != nil {
		t.Fatal(err)
	}
	lines, begun := []string{}, ""
	for line := range strings.Lines(string(log)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(parts) < 4 {
			continue
		}
		begun += parts[3]
		if parts[2] == "F" {
			lines, begun = append(lines, begun), ""
		}
	}
	return lines
}

// must waits for an event of the agent, and fails without.
func (a agentPod) must(t *testing.T, want event) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		lines := a.lines(t)
		for _, line := range lines {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil && e.is(want) {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no event %+v\nthe agent said:\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

// end ends it, as a rollout does, or a node that runs short of memory.
func (p *pods) end(t *testing.T, a agentPod) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := p.cri.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: a.id, Timeout: 30}); err != nil {
		t.Fatal(err)
	}
}

func underAgentPod(t *testing.T, _ vm.Kernel) {
	nri, _, _ := strings.Cut(criConfig, "[plugins.'io.containerd.nri.v1.nri'.default_validator]") // as the chart: containers start without an agent
	makeNode(t, "/etc/containerd/config.toml", strings.Replace(nri, "/usr/bin/slow-runc", "runc", 1))
	t.Setenv("CONTAINERD_NAMESPACE", "k8s.io")
	c := startContainerd(t)
	for name, file := range map[string]string{"app": imageFile, "plain": plainFile, "pause": pauseFile, "node": nodeImageFile} {
		c.ctr(t, "images", "import", "--base-name", registry+name, file)
	}
	p := newPods(t, "unix:///run/containerd/containerd.sock")
	app, plain := c.image(t, registry+"app"), c.image(t, registry+"plain")
	cert, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	policy := configMap{dir: policyDir}
	write := func(mode string) {
		policy.write(t, map[string]string{
			"bless.crt":   string(cert),
			"policy.yaml": "keys: [/etc/sbom-bless/bless.crt]\nattestations: [{directory: " + attestations + "}]\n" + mode,
		})
	}
	const enforced = "mode: enforce\nunblessed: deny\n"
	write(enforced)
	attack := "( " + intrusions[0].command + " ) 2>&1; " + control
	runs := func(t *testing.T, name string, denied bool) {
		t.Helper()
		id, err := p.start(app, name, attack)
		if err != nil {
			t.Fatal(err)
		}
		out := p.output(id, name)
		if denied != !strings.Contains(out, "ran\n") || denied != strings.Contains(out, "Operation not permitted") || !strings.HasSuffix(out, "good\n") {
			t.Errorf("%q", out)
		}
	}
	t.Run("without the agent", func(t *testing.T) { runs(t, "before", false) })

	a := p.startAgentPod(t, "agent-1")
	a.must(t, event{Operation: "runtime", Action: "found", Message: "NRI"})
	t.Run("a container is enforced", func(t *testing.T) {
		runs(t, "enforced", true)
		a.must(t, event{Operation: "container", Action: "listed", Container: "enforced"})
		a.must(t, event{Operation: "exec", Action: "denied", Container: "enforced", Reason: "writable-layer", Path: "/tmp/brought"})
	})
	t.Run("an unblessed image does not start", func(t *testing.T) {
		if id, err := p.start(plain, "plain", control); err == nil {
			t.Fatalf("it starts, and prints %q", p.output(id, "plain"))
		} else if !strings.Contains(err.Error(), "no-attestation") {
			t.Errorf("it does not start, but for another reason: %v", err)
		}
	})
	t.Run("the ConfigMap changes", func(t *testing.T) {
		write("mode: audit\n")
		a.must(t, event{Operation: "policy", Action: "applied", Message: "for the rest audit"})
		runs(t, "audited", false)
		a.must(t, event{Operation: "exec", Action: "reported", Container: "audited", Reason: "writable-layer", Path: "/tmp/brought"})
		write("mode: nonsense\n")
		a.must(t, event{Operation: "policy", Action: "refused"})
		write(enforced)
	})
	if _, err := p.start(app, "lives-on", "while :; do ( "+intrusions[0].command+" ) 2>&1; sleep 1; done"); err != nil {
		t.Fatal(err)
	}
	a.must(t, event{Operation: "exec", Action: "denied", Container: "lives-on", Reason: "writable-layer"})
	t.Run("while no agent runs", func(t *testing.T) {
		p.end(t, a)
		log := "/var/log/pods/lives-on"
		before, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		after, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if since := string(after[len(before):]); strings.Contains(since, " ran\n") || !strings.Contains(since, "Operation not permitted") {
			t.Errorf("%q", since)
		}
	})
	t.Run("with the next agent", func(t *testing.T) {
		a := p.startAgentPod(t, "agent-2")
		a.must(t, event{Operation: "runtime", Action: "found", Message: "NRI"})
		a.must(t, event{Operation: "bpf", Action: "reported", Reason: "takeover"}) // another root filesystem, another file
		runs(t, "enforced-again", true)
		a.must(t, event{Operation: "exec", Action: "denied", Container: "enforced-again", Reason: "writable-layer", Path: "/tmp/brought"})
	})
}
