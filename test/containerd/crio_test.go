// SPDX-License-Identifier: Apache-2.0

//go:build linux

package containerd

import (
	"bytes"
	"context"
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sbom-bless/sbom-bless/internal/gotool"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

// crioConfig is what a machine without systemd and network needs; that of hooks and NRI is CRI-O's own.
const crioConfig = `[crio.image]
pause_image = "registry.example/pause:1"
pause_command = "" # the image's
[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
default_runtime = "runc"
disable_hostport_mapping = true
[crio.runtime.runtimes.runc]
[crio.nri]
nri_plugin_request_timeout = "60s" # the machine is emulated, and may be busy
`

// TestCRIO has CRI-O make pods, as a kubelet would: it asks the agent by the OCI hook and by NRI. How it
// asks does not depend on the kernel.
func TestCRIO(t *testing.T) {
	vm.OnlyInAll(t) // CRI-O is to be built
	config := vm.Config{Memory: 4096, Timeout: 20 * time.Minute, Host: func(t vm.TB, c *vm.Config) {
		prepare(t, c)
		bringPause(t, c)
		bringHook(t, c)
		programs, err := vm.Programs(append(podmanPrograms, "nsenter")...)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(c.Files, programs)
		crio, pinns, err := gotool.CRIO(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		c.Files["/usr/bin/crio"], c.Files["/usr/bin/pinns"] = crio, pinns
	}}
	vm.Test(t, []vm.Kernel{"6.12"}, config, underCRIO)
}

// startCRIO starts CRI-O, and gives what ends it.
func startCRIO(t *testing.T, p *pods, args ...string) (stop func()) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command("crio", append([]string{"--log-level", "warn"}, args...)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-ended
		if t.Failed() {
			t.Logf("crio:\n%s", log.Bytes())
		}
	}
	for {
		if _, err := p.cri.Version(t.Context(), &cri.VersionRequest{}); err == nil {
			return stop
		}
		select {
		case err := <-ended:
			t.Fatalf("crio: %v\n%s", err, log.Bytes())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func underCRIO(t *testing.T, _ vm.Kernel) {
	makeNode(t, "/etc/crio/crio.conf", crioConfig)
	const app, plain = registry + "app:1", registry + "plain:1"
	load(t, imageFile, app)
	load(t, plainFile, plain)
	load(t, pauseFile, registry+"pause:1")
	digest := imageDigest(t)
	p := newPods(t, "unix:///var/run/crio/crio.sock")
	attack := "( " + intrusions[0].command + " ) 2>&1; " + control
	stop := startCRIO(t, p, "--enable-nri=false")
	t.Run("without the verifier", func(t *testing.T) {
		id, err := p.start(app, "open", attack)
		if err != nil {
			t.Fatal(err)
		}
		if out := p.output(id, "open"); out != "ran\ngood\n" {
			t.Errorf("%q", out)
		}
	})
	if _, err := p.start(app, "early", "exec sleep 1000000"); err != nil {
		t.Fatal(err)
	}
	stop()
	writePolicy(t, denyUnblessed)
	a := startAgent(t, "--policy", policyFile)
	t.Run("a container that was there before", func(t *testing.T) {
		a.must(t, event{Operation: "container", Action: "listed", Container: "early", Image: registry + "app@" + digest})
	})
	t.Run("a sandbox that was there before", func(t *testing.T) {
		a.must(t, event{Operation: "container", Action: "allowed", Reason: "no-attestation", Message: registry + "pause@"})
	})
	for _, way := range []struct {
		name    string
		args    []string
		nri     bool
		refuses bool // CRI-O starts a container whatever NRI says
	}{
		{"hook", []string{"--enable-nri=false"}, false, true},
		{"hook and NRI", nil, true, true},
		{"NRI", []string{"--hooks-dir", "/nowhere"}, true, false},
	} {
		t.Run("by "+way.name, func(t *testing.T) {
			defer startCRIO(t, p, way.args...)()
			if way.nri {
				a.must(t, event{Operation: "runtime", Action: "found", Message: "NRI"})
			}
			name := strings.ReplaceAll(strings.ToLower(way.name), " ", "-")
			id, err := p.start(app, name, attack)
			if err != nil {
				t.Fatal(err)
			}
			if out := p.output(id, name); strings.Contains(out, "ran\n") || !strings.Contains(out, "Operation not permitted") || !strings.HasSuffix(out, "good\n") {
				t.Errorf("%q", out)
			}
			a.must(t, event{Operation: "container", Action: "listed", Container: name, Image: registry + "app@" + digest})
			a.must(t, event{Operation: "exec", Action: "denied", Container: name, Reason: "writable-layer", Path: "/tmp/brought"})

			name = "plain-" + name
			id, err = p.start(plain, name, control)
			if way.refuses != (err != nil) {
				t.Errorf("an unblessed image: %v", err)
			}
			if err == nil {
				if out := p.output(id, name); !strings.HasPrefix(out, "exec /usr/bin/dash: operation not permitted") {
					t.Errorf("an unblessed image runs, and prints %q", out)
				}
				a.must(t, event{Operation: "exec", Action: "denied", Container: name, Reason: "no-set", Path: "/usr/bin/dash"})
			}
			a.must(t, event{Operation: "container", Action: "denied", Container: name, Reason: "no-attestation"})
		})
	}
	t.Run("without an agent", func(t *testing.T) {
		defer startCRIO(t, p)()
		a.kill(t)
		id, err := p.start(app, "late", control)
		if err == nil {
			t.Fatalf("it starts, and prints %q", p.output(id, "late"))
		}
	})
}
