// SPDX-License-Identifier: Apache-2.0

//go:build linux

package containerd

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/vm"
)

// Debian packages: podman, conmon, crun.
var podmanPrograms = []string{"podman", "conmon", "crun", "runc"}

// TestPodman runs the blessed image under podman, which asks the agent through its OCI hook. How a
// runtime calls a hook does not depend on the kernel.
func TestPodman(t *testing.T) {
	config := vm.Config{Memory: 3072, Timeout: 20 * time.Minute, Host: func(t vm.TB, c *vm.Config) {
		prepare(t, c)
		programs, err := vm.Programs(podmanPrograms...)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(c.Files, programs)
		bringHook(t, c)
	}}
	vm.Test(t, []vm.Kernel{"6.12"}, config, underPodman)
}

// bringHook brings the hook to where podman and CRI-O look for hooks by themselves.
func bringHook(t vm.TB, c *vm.Config) {
	t.Helper()
	hook, err := filepath.Abs("../../packaging/oci-hook.json")
	if err != nil {
		t.Fatal(err)
	}
	c.Files["/usr/share/containers/oci/hooks.d/sbom-bless.json"] = hook
}

// podman runs a command of it.
func podman(args ...string) (string, error) {
	global := []string{"--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	out, err := exec.Command("podman", append(global, args...)...).CombinedOutput()
	return string(out), err
}

// load brings an image into containers/storage.
func load(t *testing.T, file, name string) {
	t.Helper()
	for dir, mode := range map[string]os.FileMode{"/var/tmp": 0o1777, "/etc/containers": 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("/etc/containers/policy.json", []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := podman("pull", "--quiet", "oci-archive:"+file+":app")
	if err == nil {
		out, err = podman("tag", strings.TrimSpace(out), name)
	}
	if err != nil {
		t.Fatalf("%s: %v %s", name, err, out)
	}
}

func underPodman(t *testing.T, _ vm.Kernel) {
	must := func(out string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	load(t, imageFile, "registry.example/app:1")
	load(t, plainFile, "registry.example/plain:1")
	run := func(runtime, image, name string, command ...string) (string, error) {
		args := []string{"--runtime", runtime, "run", "--name", name, "--network", "none", "--log-driver", "none", "--security-opt", "seccomp=unconfined"}
		if len(command) == 0 {
			args, command = append(args, "--detach"), []string{"/usr/bin/sleep", "1000000"}
		}
		return podman(append(append(args, image), command...)...)
	}
	attack := "( " + intrusions[0].command + " ) 2>&1; " + control
	attacked := func(t *testing.T, out string, err error, works bool) {
		t.Helper()
		ran := strings.Contains(out, "ran\n")
		if err != nil || ran != works || !strings.HasSuffix(out, "good\n") || !works && !strings.Contains(out, "Operation not permitted") {
			t.Errorf("%v %q", err, out)
		}
	}
	digest := imageDigest(t)
	// No agent has run yet: the policy's file, which is not there, says nothing.
	must(run("crun", "registry.example/app:1", "early"))

	const enforced = "keys: [/key.crt]\nattestations: [{directory: /attestations}]\nwithout-agent: deny\nmode: enforce\nunblessed: deny\n" +
		"matches:\n- image: registry.example/plain\n  container: audited\n  unblessed: audit\n"
	writePolicy(t, enforced)
	a := startAgent(t, "--policy", policyFile)
	t.Run("a container that was there before", func(t *testing.T) {
		a.must(t, event{Operation: "container", Action: "listed", Container: "early", Image: "registry.example/app@" + digest})
		out, err := podman("exec", "early", "/usr/bin/dash", "-c", attack)
		attacked(t, out, err, false)
		a.must(t, event{Operation: "exec", Action: "denied", Container: "early", Reason: "writable-layer", Path: "/tmp/brought"})
	})
	for _, runtime := range []string{"crun", "runc"} {
		t.Run("by the hook, with "+runtime, func(t *testing.T) {
			name := "with-" + runtime
			out, err := run(runtime, "registry.example/app:1", name, "/usr/bin/dash", "-c", attack)
			attacked(t, out, err, false)
			a.must(t, event{Operation: "container", Action: "listed", Container: name, Image: "registry.example/app@" + digest})
			a.must(t, event{Operation: "exec", Action: "denied", Container: name, Reason: "writable-layer"})
			if out, err = run(runtime, "registry.example/plain:1", "refused-"+runtime, "/usr/bin/dash", "-c", control); err == nil || strings.Contains(out, "good") {
				t.Errorf("an unblessed image runs: %q", out)
			}
			a.must(t, event{Operation: "container", Action: "denied", Container: "refused-" + runtime, Reason: "no-attestation"})
		})
	}
	t.Run("an unblessed image that is only watched", func(t *testing.T) {
		out, err := run("crun", "registry.example/plain:1", "audited", "/usr/bin/dash", "-c", attack)
		attacked(t, out, err, true)
		a.must(t, event{Operation: "exec", Action: "reported", Container: "audited", Reason: "no-set"})
	})
	t.Run("a container that is started again", func(t *testing.T) {
		a.forget()
		out, err := podman("start", "--attach", "with-crun")
		attacked(t, out, err, false)
		a.must(t, event{Operation: "exec", Action: "denied", Container: "with-crun", Reason: "writable-layer"})
	})
	t.Run("without an agent", func(t *testing.T) {
		a.kill(t)
		if out, err := run("crun", "registry.example/app:1", "late", "/usr/bin/dash", "-c", control); err == nil || strings.Contains(out, "good") {
			t.Errorf("a container starts: %q", out)
		}
		out, err := podman("exec", "early", "/usr/bin/dash", "-c", attack)
		attacked(t, out, err, false)
	})
	t.Run("one that starts unwatched is found", func(t *testing.T) {
		// The policy that was in force is the one that counts, until an agent takes another.
		writePolicy(t, strings.Replace(enforced, "without-agent: deny", "without-agent: allow", 1))
		a = startAgent(t, "--policy", policyFile)
		a.must(t, event{Operation: "policy", Action: "applied"})
		a.kill(t)
		must(run("crun", "registry.example/app:1", "found"))
		a = startAgent(t, "--policy", policyFile)
		a.must(t, event{Operation: "container", Action: "listed", Container: "found"})
		out, err := podman("exec", "found", "/usr/bin/dash", "-c", attack)
		attacked(t, out, err, false)
	})
	t.Run("status names them", func(t *testing.T) {
		out, err := exec.Command(product, "enforce", "status", "--output", "json").Output()
		var status struct {
			Containers []struct{ Name, Image string }
		}
		if err == nil {
			err = json.Unmarshal(out, &status)
		}
		names := map[string]bool{}
		for _, c := range status.Containers {
			names[c.Name] = strings.HasSuffix(c.Image, digest)
		}
		if err != nil || !names["early"] || !names["found"] {
			t.Errorf("%v %s", err, out)
		}
	})
}
