// SPDX-License-Identifier: Apache-2.0

//go:build linux

package containerd

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// Debian package: criu. It packs the content of a tmpfs with tar, which starts gzip by a shell.
var restorePrograms = []string{"criu", "tar", "gzip", "dash"}

// TestRestore has CRIU restore a container: its tasks come into its cgroup by a fork of CRIU's, and execute
// nothing there. What they do is judged all the same.
func TestRestore(t *testing.T) {
	vm.OnlyInAll(t)
	config := vm.Config{
		Memory: 3072, Timeout: 20 * time.Minute,
		Modules: []string{"tcp_diag", "udp_diag", "unix_diag", "af_packet_diag", "netlink_diag", "nf_tables", "veth"},
		Host: func(t vm.TB, c *vm.Config) {
			prepare(t, c)
			programs, err := vm.Programs(restorePrograms...)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(c.Files, programs)
			c.Files["/bin/sh"] = "/usr/bin/dash"
		},
	}
	vm.Test(t, []vm.Kernel{"6.12"}, config, underCRIU)
}

// restored is what the container's first process does, by itself, once it has been restored.
const restored = "read name </go; ( echo '#!/usr/bin/dash' >/usr/bin/$name && echo written || echo refused ) >/said 2>&1; read name </go"

func underCRIU(t *testing.T, _ vm.Kernel) {
	const bundle, root, images = "/bundle", "/bundle/rootfs", "/checkpoint"
	c := start(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		// What it writes to is the container's, too: /dev/null, which CRIU can restore.
		err := exec.Command("runc", append([]string{"--log", "/runc.log"}, args...)...).Run()
		if err == nil {
			return
		}
		var said []byte
		for _, name := range []string{"/runc.log", "/criu/dump.log", "/criu/restore.log"} {
			log, _ := os.ReadFile(name)
			for line := range strings.Lines(string(log)) {
				if name == "/runc.log" || strings.Contains(line, "Error") || !strings.HasPrefix(line, "(") && !strings.HasPrefix(line, "pie") {
					said = append(said, line...)
				}
			}
		}
		t.Fatalf("runc %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	must(os.MkdirAll(root, 0o755))
	c.ctr(t, "images", "mount", "--rw", c.image(t, "app"), root)
	run("spec", "--bundle", bundle)
	raw, err := os.ReadFile(bundle + "/config.json")
	must(err)
	var spec map[string]any
	must(json.Unmarshal(raw, &spec))
	spec["root"] = map[string]any{"path": "rootfs"}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, []string{"/usr/bin/dash", "-c", restored}
	linux := spec["linux"].(map[string]any) // the host's network: there is no state of one to restore
	linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]any), func(n any) bool { return n.(map[string]any)["type"] == "network" })
	spec["annotations"] = map[string]string{"org.sbom-bless.image": "app@" + imageDigest(t)}
	spec["hooks"] = map[string]any{"createRuntime": []any{map[string]any{"path": product, "args": []string{"sbom-bless", "enforce", "hook"}}}}
	raw, err = json.Marshal(spec)
	must(err)
	must(os.WriteFile(bundle+"/config.json", raw, 0o600))
	must(unix.Mkfifo(root+"/go", 0o600))
	run("run", "--detach", "--bundle", bundle, "saved")
	time.Sleep(2 * time.Second) // it waits at the FIFO by then
	run("checkpoint", "--image-path", images, "--work-path", "/criu", "saved")
	// said restores the container, has its first process write to a program, and gives what it said.
	said := func(t *testing.T, name, program string) string {
		t.Helper()
		if err := os.Remove(root + "/said"); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		run("restore", "--detach", "--bundle", bundle, "--image-path", images, "--work-path", "/criu", name)
		defer run("delete", "--force", name)
		time.Sleep(3 * time.Second) // the agent looks at it each second
		f, err := os.OpenFile(root+"/go", os.O_WRONLY, 0)
		must(err)
		_, err = f.WriteString(program + "\n")
		must(err)
		must(f.Close())
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			out, _ := os.ReadFile(root + "/said")
			if strings.HasSuffix(string(out), "\n") || time.Now().After(end) {
				return string(out)
			}
		}
	}
	t.Run("without the verifier", func(t *testing.T) {
		if out := said(t, "open", "chmod"); out != "written\n" {
			t.Errorf("%q", out)
		}
	})
	writePolicy(t, "keys: [/key.crt]\nattestations: [{directory: /attestations}]\nmode: enforce\n")
	a := startAgent(t, "--policy", policyFile)
	defer a.kill(t)
	t.Run("with it", func(t *testing.T) {
		if out := said(t, "watched", "cp"); !strings.HasSuffix(out, "refused\n") || !strings.Contains(out, "Operation not permitted") {
			t.Errorf("%q", out)
		}
		a.must(t, event{Operation: "write", Action: "denied", Container: "watched", Reason: "guarded", Path: "/usr/bin/cp"})
	})
	enforce(t, "unload")
}
