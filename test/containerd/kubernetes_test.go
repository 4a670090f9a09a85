// SPDX-License-Identifier: Apache-2.0

//go:build linux

package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sbom-bless/sbom-bless/internal/gotool"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

const (
	pauseFile = "/pause.tar"
	registry  = "registry.example/" // Kubernetes takes a name without one for Docker's
)

// criConfig has pods begin with an image that is there, for there is no network, and makes no container
// while the agent is away, as docs/enforce.md has it.
const criConfig = `version = 4
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '/usr/bin/slow-runc'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'registry.example/pause:app'
[plugins.'io.containerd.nri.v1.nri']
  plugin_request_timeout = '30s' # the machine is emulated, and may be busy
[plugins.'io.containerd.nri.v1.nri'.default_validator]
  enable = true
  required_plugins = ['sbom-bless']
`

// slowRunc waits between the making of a container and its start while there is slowFile, so that an agent
// that only hears of the container is sure to be quicker.
const (
	slowFile = "/slow"
	slowRunc = "#!/usr/bin/dash\nfor word; do\n[ $word = start ] && [ -e " + slowFile + " ] && sleep 10\ndone\nexec runc \"$@\"\n"
)

// TestKubernetes has containerd's CRI make pods, as a kubelet would: it asks the agent by NRI before it
// starts a container. How it asks does not depend on the kernel.
func TestKubernetes(t *testing.T) {
	config := vm.Config{Memory: 4096, Timeout: 20 * time.Minute, Host: bringKubernetes}
	vm.Test(t, []vm.Kernel{"6.12"}, config, underKubernetes)
}

// bringKubernetes brings a containerd with its CRI and NRI, and what a kubelet finds on a node.
func bringKubernetes(t vm.TB, c *vm.Config) {
	t.Helper()
	prepare(t, c)
	// Debian's is older than NRI.
	for _, module := range []string{gotool.Containerd, gotool.ContainerdShim, gotool.Ctr} {
		path, err := gotool.Path(context.Background(), module)
		if err != nil {
			t.Fatal(err)
		}
		c.Files["/usr/bin/"+filepath.Base(path)] = path
	}
	bringPause(t, c)
	programs, err := vm.Programs("dash", "sleep")
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(c.Files, programs)
}

// bringPause brings what holds a pod's namespaces open, in a cluster the image "pause".
func bringPause(t vm.TB, c *vm.Config) {
	t.Helper()
	layout, pause := "oci:"+filepath.Join(t.TempDir(), "layout"), filepath.Join(t.TempDir(), "pause.tar")
	for _, args := range [][]string{
		{"skopeo", "copy", "--quiet", "oci-archive:" + c.Files[plainFile] + ":app", layout + ":pause"},
		{"umoci", "config", "--image", strings.TrimPrefix(layout, "oci:") + ":pause", "--config.cmd", "/usr/bin/sleep", "--config.cmd", "1000000"},
		{"skopeo", "copy", "--quiet", layout + ":pause", "oci-archive:" + pause + ":app"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	c.Files[pauseFile] = pause
}

// makeNode makes of the guest what pods need, with the configuration of their runtime.
func makeNode(t *testing.T, file, config string) {
	t.Helper()
	for name, content := range map[string]string{
		file: config, "/etc/resolv.conf": "", "/etc/hosts": "127.0.0.1 localhost\n", "/etc/hostname": "node\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/var/log/pods", 0o755); err != nil {
		t.Fatal(err)
	}
}

// pods makes containers by the Container Runtime Interface, each in a pod of its own.
type pods struct {
	t       *testing.T
	cri     cri.RuntimeServiceClient
	seccomp cri.SecurityProfile_ProfileType // of containers to come
}

func newPods(t *testing.T, address string) *pods {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &pods{t: t, cri: cri.NewRuntimeServiceClient(conn), seccomp: cri.SecurityProfile_Unconfined}
}

// config is that of a pod.
func (p *pods) config(name string) *cri.PodSandboxConfig {
	labels := map[string]string{"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "default"}
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"},
		LogDirectory: "/var/log/pods",
		Labels:       labels,
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
			Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined},
		}},
	}
}

// start runs a shell command as the first process of a container, in a pod of its own. It gives the
// container's id and why it did not start.
func (p *pods) start(image, name, command string) (string, error) {
	p.t.Helper()
	pod := p.config(name)
	return p.startIn(p.sandbox(pod), pod, image, name, command)
}

// sandbox makes a pod, and gives its id.
func (p *pods) sandbox(pod *cri.PodSandboxConfig) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Minute)
	defer cancel()
	sandbox, err := p.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: pod})
	if err != nil {
		p.t.Fatalf("pod %s: %v", pod.Metadata.Name, err)
	}
	return sandbox.PodSandboxId
}

// startIn is start in a pod that is there.
func (p *pods) startIn(sandbox string, pod *cri.PodSandboxConfig, image, name, command string) (string, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Minute)
	defer cancel()
	labels := maps.Clone(pod.Labels)
	labels["io.kubernetes.container.name"] = name
	made, err := p.cri.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: sandbox, SandboxConfig: pod,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: image},
			Command: []string{"/usr/bin/dash", "-c", command}, LogPath: name, Labels: labels,
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
				Seccomp:          &cri.SecurityProfile{ProfileType: p.seccomp},
			}},
		},
	})
	if err != nil {
		return "", err
	}
	_, err = p.cri.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: made.ContainerId})
	return made.ContainerId, err
}

// ready makes three pods at once, and fails unless the sandbox of each still runs seconds later.
func (p *pods) ready(t *testing.T) {
	t.Helper()
	ids := make([]string, 3)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			made, err := p.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config(fmt.Sprintf("pod-%d", i))})
			if err != nil {
				t.Errorf("pod %d: %v", i, err)
				return
			}
			ids[i] = made.PodSandboxId
		})
	}
	wg.Wait()
	time.Sleep(5 * time.Second) // a program that was denied has ended by then
	for i, id := range ids {
		r, err := p.cri.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: id})
		if err != nil || r.Status.State != cri.PodSandboxState_SANDBOX_READY {
			t.Errorf("pod %d is not ready: %v %v", i, r, err)
		}
	}
}

// output waits for the end of a container and gives what it printed.
func (p *pods) output(id, name string) string {
	p.t.Helper()
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) { // the machine may be busy
		r, err := p.cri.ContainerStatus(p.t.Context(), &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			p.t.Fatal(err)
		}
		if r.Status.State == cri.ContainerState_CONTAINER_EXITED {
			break
		}
		if time.Now().After(end) {
			p.t.Fatalf("container %s is %s", name, r.Status.State)
		}
	}
	log, err := os.ReadFile("/var/log/pods/" + name)
	if err != nil {
		p.t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(log)) { // "2026-11-25T19:30:00.000000000Z stdout F text"
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 {
			out.WriteString(parts[3])
		}
	}
	return out.String()
}

// denyUnblessed lets nothing start that is not blessed. It has no word on what holds a pod open.
const denyUnblessed = "keys: [/key.crt]\nattestations: [{directory: /attestations}]\nwithout-agent: deny\nmode: enforce\nunblessed: deny\n" +
	"matches: [{container: left-alone, mode: ignore}]\n"

func underKubernetes(t *testing.T, _ vm.Kernel) {
	makeNode(t, "/etc/containerd/config.toml", criConfig)
	if err := os.WriteFile("/usr/bin/slow-runc", []byte(slowRunc), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERD_NAMESPACE", "k8s.io")
	c := startContainerd(t)
	for name, file := range map[string]string{"app": imageFile, "plain": plainFile, "pause": pauseFile} {
		c.ctr(t, "images", "import", "--base-name", registry+name, file)
	}
	p := newPods(t, "unix:///run/containerd/containerd.sock")
	app, plain := c.image(t, registry+"app"), c.image(t, registry+"plain")

	// The attack is all that the container does, from its first instruction on.
	attack := "( " + intrusions[0].command + " ) 2>&1; " + control
	t.Run("without the verifier", func(t *testing.T) { // and by containerd alone: Kubernetes asks for the agent
		if out := c.ctr(t, "run", "--rm", app, "open", "/usr/bin/dash", "-c", attack); out != "ran\ngood\n" {
			t.Errorf("%q", out)
		}
	})

	writePolicy(t, denyUnblessed)
	a := startAgent(t, "--policy", policyFile)
	a.must(t, event{Operation: "runtime", Action: "found", Message: "NRI"})
	t.Run("pods of an unblessed pause image", func(t *testing.T) {
		if err := os.WriteFile(slowFile, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		p.ready(t)
		if err := os.Remove(slowFile); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a container waits for its list", func(t *testing.T) {
		id, err := p.start(app, "blessed", attack)
		if err != nil {
			t.Fatal(err)
		}
		if out := p.output(id, "blessed"); strings.Contains(out, "ran\n") || !strings.Contains(out, "Operation not permitted") || !strings.HasSuffix(out, "good\n") {
			t.Errorf("%q", out)
		}
		a.must(t, event{Operation: "exec", Action: "denied", Container: "blessed", Reason: "writable-layer", Path: "/tmp/brought"})
	})
	t.Run("an unblessed image does not start", func(t *testing.T) {
		id, err := p.start(plain, "plain", control)
		if err == nil {
			t.Fatalf("it starts, and prints %q", p.output(id, "plain"))
		}
		if !strings.Contains(err.Error(), "no-attestation") {
			t.Errorf("it does not start, but for another reason: %v", err)
		}
	})
	t.Run("seccomp", func(t *testing.T) {
		defer func() { p.seccomp = cri.SecurityProfile_Unconfined }()
		want := map[string]string{}
		for profile, seccomp := range map[cri.SecurityProfile_ProfileType]string{
			cri.SecurityProfile_Unconfined: "none", cri.SecurityProfile_RuntimeDefault: "filter",
		} {
			p.seccomp = profile
			name := "seccomp-" + seccomp
			want[name] = seccomp
			if _, err := p.start(app, name, "exec sleep 1000000"); err != nil {
				t.Fatal(err)
			}
		}
		a.must(t, event{Operation: "container", Action: "reported", Container: "seccomp-none", Reason: "no-seccomp"})
		out, err := exec.Command(product, "enforce", "status", "--output", "json").Output()
		var status struct {
			Containers []struct{ Name, Seccomp string }
		}
		if err == nil {
			err = json.Unmarshal(out, &status)
		}
		got := map[string]string{}
		for _, c := range status.Containers {
			if want[c.Name] != "" {
				got[c.Name] = c.Seccomp
			}
		}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%v %v", err, got)
		}
		time.Sleep(3 * time.Second) // three looks
		if a.has(event{Operation: "container", Container: "seccomp-filter", Reason: "no-seccomp"}) {
			t.Error("a container with a profile is said to have none")
		}
	})
	t.Run("a late agent", func(t *testing.T) { underLateAgent(t, p, a, app) })
	t.Run("without an agent", func(t *testing.T) {
		a.kill(t)
		id, err := p.start(app, "late", control)
		if err == nil {
			t.Fatalf("it starts, and prints %q", p.output(id, "late"))
		}
		if !strings.Contains(err.Error(), `required plugin "sbom-bless" not present`) {
			t.Errorf("it does not start, but for another reason: %v", err)
		}
	})
	t.Run("with the next agent", func(t *testing.T) {
		a = startAgent(t, "--policy", policyFile)
		a.must(t, event{Operation: "runtime", Action: "found", Message: "NRI"})
		id, err := p.start(app, "again", attack)
		if err != nil {
			t.Fatal(err)
		}
		if out := p.output(id, "again"); strings.Contains(out, "ran\n") || !strings.HasSuffix(out, "good\n") {
			t.Errorf("%q", out)
		}
	})
}

// underLateAgent has the agent stopped while the runtime asks it: NRI drops the plugin that is late, and
// the runtime starts the container.
func underLateAgent(t *testing.T, p *pods, a *agent, app string) {
	attack := intrusions[0].command + "; " + control
	// As the kubelet names them.
	closed := func(name string) *cri.PodSandboxConfig {
		pod := p.config(name)
		pod.Metadata.Uid = "11111111-2222-3333-4444-555555555555"
		pod.Linux.CgroupParent = "/kubepods/besteffort/pod" + pod.Metadata.Uid
		return pod
	}
	// late starts a container while the agent is stopped, and gives what it printed.
	late := func(t *testing.T, sandbox string, pod *cri.PodSandboxConfig, name string) string {
		t.Helper()
		a.forget()
		if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		id, err := p.startIn(sandbox, pod, app, name, attack)
		out := ""
		if err == nil {
			out = p.output(id, name)
		}
		if err := a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatalf("NRI keeps a plugin that is late, and this test shows nothing: %v", err)
		}
		a.must(t, event{Operation: "runtime", Action: "found", Message: "NRI"})
		return out
	}
	t.Run("a pod without a cgroup of its own", func(t *testing.T) {
		pod := p.config("open-pod")
		if out := late(t, p.sandbox(pod), pod, "late-open"); out != "ran\ngood\n" {
			t.Errorf("%q", out)
		}
	})
	pod := closed("closed-pod")
	sandbox := p.sandbox(pod)
	t.Run("a closed pod", func(t *testing.T) {
		if out := late(t, sandbox, pod, "late-closed"); strings.Contains(out, "ran") || !strings.Contains(out, "operation not permitted") {
			t.Errorf("%q", out)
		}
		a.must(t, event{Operation: "exec", Action: "denied", Container: "pod default/closed-pod", Reason: "unannounced", Path: "/usr/bin/dash"})
	})
	runs := func(t *testing.T, sandbox, name string) {
		t.Helper()
		id, err := p.startIn(sandbox, pod, app, name, control)
		if err != nil {
			t.Fatal(err)
		}
		if out := p.output(id, name); out != "good\n" {
			t.Errorf("%q", out)
		}
	}
	t.Run("containers that are announced", func(t *testing.T) {
		runs(t, sandbox, "in-time")
		runs(t, sandbox, "left-alone") // the policy ignores it
		a.must(t, event{Operation: "container", Action: "ignored", Container: "left-alone"})
	})
	t.Run("another sandbox of the same pod", func(t *testing.T) {
		if _, err := p.cri.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
			t.Fatal(err)
		}
		pod.Metadata.Attempt++
		runs(t, p.sandbox(pod), "in-time-again")
	})
}
