// SPDX-License-Identifier: Apache-2.0

//go:build linux

package containerd

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/vm"
)

const (
	policyFile = "/etc/sbom-bless/policy.yaml"
	glassFile  = "/etc/sbom-bless/break-glass"
)

// enforced is the policy that the tests begin with; its default denies.
const enforced = `
keys: [/key.crt]
attestations: [{directory: /attestations}]
without-agent: deny
mode: enforce
matches:
  - container: watched-not
    mode: ignore
  - image: plain*
    container: allowed
    unblessed: allow
  - image: plain*
    container: refused
    unblessed: deny
`

// audited is that policy, which denies nothing.
var audited = strings.NewReplacer("mode: enforce", "mode: audit", "unblessed: deny", "unblessed: audit").Replace(enforced)

func writePolicy(t *testing.T, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(policyFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(policyFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fails runs a command of the product that must fail, and gives what it said and its exit code.
func fails(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(product, append([]string{"enforce"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("enforce %s succeeds: %s", strings.Join(args, " "), out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// byPolicy runs an agent that finds its containers itself.
func byPolicy(t *testing.T, k vm.Kernel, c *containers) {
	image := imageDigest(t)
	writePolicy(t, enforced)
	works := func(t *testing.T, container string) {
		t.Helper()
		if out, err := c.exec(container, "/usr/bin/cp /usr/bin/cat /tmp/x; echo ran >/tmp/said; /tmp/x /tmp/said"); err != nil || out != "ran\n" {
			t.Errorf("%v %q", err, out)
		}
	}
	denied := func(t *testing.T, container string) {
		t.Helper()
		for n, out := range c.intrude(t, container) {
			if strings.Contains(out, "ran") || !strings.Contains(out, intrusions[n].refusal) {
				t.Errorf("%s: %q", intrusions[n].name, out)
			}
		}
	}
	reload := func(t *testing.T, text string, args ...string) {
		t.Helper()
		writePolicy(t, text)
		enforce(t, append([]string{"reload"}, args...)...)
	}

	enforce(t, "check", "--policy", policyFile)
	c.run(t, "early")
	if _, err := c.exec("early", "/usr/bin/cp /usr/bin/sleep /tmp/strange && echo >>/tmp/strange && /tmp/strange 1000000 &"); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, "--policy", policyFile)
	t.Run("a container that was there before", func(t *testing.T) {
		a.must(t, event{Operation: "container", Action: "listed", Container: "early"})
		a.must(t, event{Operation: "drift", Action: "reported", Container: "early", Reason: "not-listed", Path: "/tmp/strange"})
		denied(t, "early")
	})
	t.Run("a container that comes", func(t *testing.T) {
		c.run(t, "late")
		a.must(t, event{Operation: "container", Action: "listed", Container: "late"})
		denied(t, "late")
		a.must(t, event{Operation: "exec", Action: "denied", Container: "late", Reason: "writable-layer", Path: "/tmp/brought"})
		if a.mu.Lock(); !strings.Contains(fmt.Sprint(a.events), "@"+image) {
			t.Errorf("no event names the image: %v", a.events)
		}
		a.mu.Unlock()
	})
	t.Run("a key of the policy, on a volume", func(t *testing.T) {
		c.ctr(t, "run", "-d", "--mount", "type=bind,src="+keyFile+",dst=/tmp/key.crt,options=rbind:rw", c.image(t, "app"), "keyed", "/usr/bin/sleep", "1000000")
		a.must(t, event{Operation: "container", Action: "listed", Container: "keyed"})
		if out, err := c.exec("keyed", "echo >>/tmp/key.crt"); err == nil || !strings.Contains(out, "Operation not permitted") {
			t.Errorf("%v %q", err, out)
		}
		a.must(t, event{Action: "denied", Container: "keyed", Reason: "self"})
		if out, err := c.exec("keyed", control); err != nil {
			t.Errorf("%v %s", err, out)
		}
	})
	t.Run("one that the policy ignores", func(t *testing.T) {
		c.run(t, "watched-not")
		a.must(t, event{Operation: "container", Action: "ignored", Container: "watched-not"})
		works(t, "watched-not")
	})
	t.Run("an unblessed image", func(t *testing.T) {
		for name, action := range map[string]string{"allowed": "allowed", "audited": "reported", "refused": "denied"} {
			c.runOf(t, "plain", name)
			a.must(t, event{Operation: "container", Action: action, Container: name, Reason: "no-attestation"})
		}
		works(t, "allowed")
		works(t, "audited")
		a.must(t, event{Operation: "exec", Action: "reported", Container: "audited", Reason: "no-set"})
		if out, err := c.exec("refused", "echo ran"); err == nil || strings.Contains(out, "ran") {
			t.Errorf("a program runs: %q", out)
		}
		// At its exec, or if that was quicker than the agent at the next thing that it maps.
		a.must(t, event{Action: "denied", Container: "refused", Reason: "no-set"})
	})
	t.Run("a bad policy changes nothing", func(t *testing.T) {
		writePolicy(t, strings.Replace(enforced, "mode: enforce", "mode: enforced", 1))
		if said, code := fails(t, "", "reload"); code != 1 || !strings.Contains(said, policyFile+`:5: mode: "enforced" where something else belongs`) {
			t.Errorf("%d %s", code, said)
		}
		a.must(t, event{Operation: "policy", Action: "refused"})
		denied(t, "late")
	})
	t.Run("a good one holds at once", func(t *testing.T) {
		reload(t, audited)
		works(t, "late")
		a.must(t, event{Operation: "exec", Action: "reported", Container: "late", Reason: "writable-layer", Path: "/tmp/x"})
		reload(t, enforced)
		denied(t, "late")
	})
	t.Run("unless it is not confirmed", func(t *testing.T) {
		a.forget()
		reload(t, audited, "--confirm", "15s")
		works(t, "late")
		a.must(t, event{Operation: "policy", Action: "rolled-back"})
		denied(t, "late")
		reload(t, enforced)
	})
	t.Run("another key", func(t *testing.T) {
		reload(t, strings.Replace(strings.Replace(enforced, "/key.crt", "/other.crt", 1), "mode: enforce\n", "mode: enforce\nunblessed: deny\n", 1))
		a.must(t, event{Operation: "container", Action: "denied", Container: "late", Reason: "untrusted"})
		if out, err := c.exec("late", "echo ran"); err == nil || strings.Contains(out, "ran") {
			t.Errorf("a program runs: %q", out)
		}
		reload(t, enforced)
		denied(t, "late")
	})
	t.Run("trust in signed files", func(t *testing.T) {
		both := strings.Replace(enforced, "mode: enforce", "trust: both\nmode: enforce", 1)
		if k == "6.1" || k == "6.12" { // programs cannot read security.bpf.bless there
			writePolicy(t, both)
			if said, code := fails(t, "", "check", "--policy", policyFile); code != 3 || !strings.Contains(said, "signed files") {
				t.Errorf("%d %s", code, said)
			}
			if said, code := fails(t, "", "reload"); code != 1 || !strings.Contains(said, "not supported by this kernel") {
				t.Errorf("%d %s", code, said)
			}
			denied(t, "late")
			return
		}
		reload(t, both)
		denied(t, "late")
		reload(t, strings.Replace(both, "/key.crt", "/key.crt, /other.crt", 1))
		denied(t, "late")
		// The image by itself, without any list.
		reload(t, strings.Replace(both, "trust: both", "trust: keyring", 1))
		denied(t, "late")
		// With the other key alone nothing of it is signed by anybody.
		reload(t, strings.Replace(strings.Replace(both, "/key.crt", "/other.crt", 1), "trust: both", "trust: keyring", 1))
		if out, err := c.exec("late", control); err == nil || strings.Contains(out, "good") {
			t.Errorf("what nobody signed runs: %q", out)
		}
		a.must(t, event{Operation: "exec", Action: "denied", Container: "late", Reason: "bad-signature"})
		reload(t, enforced)
	})
	t.Run("broken glass", func(t *testing.T) {
		if err := os.WriteFile(glassFile, []byte("night shift\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		a.must(t, event{Operation: "break-glass", Action: "broken", Message: `"night shift"`})
		works(t, "late")
		if err := os.Remove(glassFile); err != nil {
			t.Fatal(err)
		}
		a.must(t, event{Operation: "break-glass", Action: "closed"})
		denied(t, "late")
	})
	t.Run("an upgrade", func(t *testing.T) {
		if err := copyFile(product+".new", product); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(product+".new", product); err != nil {
			t.Fatal(err)
		}
		a.kill(t)
		denied(t, "late")
		a = startAgent(t, "--policy", policyFile)
		if !a.adopted {
			t.Error("the new agent did not adopt the verifier")
		}
		a.must(t, event{Operation: "bpf", Action: "reported", Reason: "takeover"})
		a.must(t, event{Operation: "policy", Action: "applied"})
		denied(t, "late")
		a.must(t, event{Operation: "mmap", Action: "denied", Container: "late", Path: "/tmp/loaded"})
	})
	t.Run("which packages ran", func(t *testing.T) {
		c.run(t, "fresh") // its events are this agent's
		a.must(t, event{Operation: "container", Action: "listed", Container: "fresh"})
		if out, err := c.exec("fresh", control); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		var images []struct {
			Image    string
			Packages map[string]struct{ Ran []string }
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
			out, err := exec.Command(product, "enforce", "report", "--output", "json").Output()
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(out, &images); err != nil {
				t.Fatal(err)
			}
			ran := map[string]bool{}
			for _, i := range images {
				for name, p := range i.Packages {
					if f := strings.Fields(name); len(f) > 2 && strings.HasSuffix(i.Image, image) && len(p.Ran) > 0 {
						ran[f[1]] = true
					}
				}
			}
			if ran["dash"] && ran["coreutils"] && ran["libc6"] {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s", out)
			}
		}
	})
	t.Run("runc with the hook", func(t *testing.T) { withHook(t, c, a, image) })
	enforce(t, "unload")
}

// withHook runs containers by runc alone, which asks the agent through an OCI hook.
func withHook(t *testing.T, c *containers, a *agent, digest string) {
	const bundle = "/bundle"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(bundle+"/rootfs", 0o755))
	c.ctr(t, "images", "mount", "--rw", c.image(t, "app"), bundle+"/rootfs")
	out, err := exec.Command("runc", "spec", "--bundle", bundle).CombinedOutput()
	if err != nil {
		t.Fatalf("runc spec: %v %s", err, out)
	}
	raw, err := os.ReadFile(bundle + "/config.json")
	must(err)
	// run gives what a container of that image does with a program that it brings.
	run := func(t *testing.T, name, image string) (string, error) {
		t.Helper()
		var spec map[string]any
		must(json.Unmarshal(raw, &spec))
		spec["root"] = map[string]any{"path": "rootfs"}
		process := spec["process"].(map[string]any)
		process["terminal"] = false
		process["args"] = []string{"/usr/bin/dash", "-c", intrusions[0].command + "; " + control}
		spec["annotations"] = map[string]string{"dev.sbom-bless.image": image}
		spec["hooks"] = map[string]any{"createRuntime": []any{map[string]any{"path": product, "args": []string{"sbom-bless", "enforce", "hook"}}}}
		b, err := json.Marshal(spec)
		must(err)
		must(os.WriteFile(bundle+"/config.json", b, 0o600))
		out, err := exec.Command("runc", "run", "--bundle", bundle, name).CombinedOutput()
		return string(out), err
	}
	t.Run("blessed", func(t *testing.T) {
		out, err := run(t, "hooked", "app@"+digest)
		if err != nil || strings.Contains(out, "ran") || !strings.Contains(out, "Operation not permitted") || !strings.HasSuffix(out, "good\n") {
			t.Errorf("%v %q", err, out)
		}
		a.must(t, event{Operation: "exec", Action: "denied", Container: "hooked", Reason: "writable-layer"})
	})
	t.Run("another digest, which the policy denies", func(t *testing.T) {
		writePolicy(t, strings.Replace(enforced, "mode: enforce\n", "mode: enforce\nunblessed: deny\n", 1))
		enforce(t, "reload")
		if out, err := run(t, "hooked-not", "app@sha256:"+strings.Repeat("1", 64)); err == nil || strings.Contains(out, "good") || !strings.Contains(out, "may not start: no-attestation") {
			t.Errorf("%v %q", err, out)
		}
		a.must(t, event{Operation: "container", Action: "denied", Container: "hooked-not", Reason: "no-attestation"})
	})
	a.kill(t)
	t.Run("without an agent, which the policy denies", func(t *testing.T) {
		if out, err := run(t, "hooked-late", "app@"+digest); err == nil || strings.Contains(out, "good") || !strings.Contains(out, "may not start without an agent") {
			t.Errorf("%v %q", err, out)
		}
	})
	t.Run("with broken glass", func(t *testing.T) {
		must(os.WriteFile(glassFile, nil, 0o600))
		// It starts. That its root filesystem is one that the verifier knows stays so: no agent, no change.
		if out, err := run(t, "hooked-glass", "app@"+digest); err != nil || !strings.HasSuffix(out, "good\n") {
			t.Errorf("%v %q", err, out)
		}
	})
}
