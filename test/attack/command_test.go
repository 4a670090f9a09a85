// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

// The session of docs/enforce.md, with the command itself.
func TestCommand(t *testing.T) {
	vm.Test(t, []vm.Kernel{"6.12"}, vm.Config{Memory: 3072, Host: func(t vm.TB, c *vm.Config) {
		for in, from := range guestFiles() {
			c.Files[strings.TrimPrefix(in, image)] = from
		}
		binary := filepath.Join(t.TempDir(), "sbom-bless")
		cmd := exec.Command("go", "build", "-o", binary, "../..")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c.Files["/usr/bin/sbom-bless"] = binary
	}}, testCommand)
}

func testCommand(t *testing.T, k vm.Kernel) {
	command := func(t *testing.T, args ...string) string {
		t.Helper()
		out, err := exec.Command("/usr/bin/sbom-bless", append([]string{"enforce"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("enforce %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	t.Run("check", func(t *testing.T) {
		var check struct {
			Abilities []enforce.Ability
			Trust     map[enforce.Trust]string
		}
		if err := json.Unmarshal([]byte(command(t, "check", "--output", "json")), &check); err != nil {
			t.Fatal(err)
		}
		if check.Trust["sbom"] != "" || !strings.Contains(check.Trust["keyring"], "signed files") {
			t.Errorf("%+v", check.Trust)
		}
		for _, a := range check.Abilities {
			if a.OK == (a.Name == "signed files") { // 6.12 cannot read security.bpf.*
				t.Errorf("%+v", a)
			}
		}
		out, err := exec.Command("/usr/bin/sbom-bless", "enforce", "check", "--trust", "both").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "signed files") {
			t.Errorf("trust both can be had? %s", out)
		}
	})

	const policyFile, address = "/etc/sbom-bless/policy.yaml", "127.0.0.1:9811"
	must(os.MkdirAll(filepath.Dir(policyFile), 0o755))
	must(os.WriteFile(policyFile, []byte("mode: ignore\n"), 0o644))
	run := exec.Command("/usr/bin/sbom-bless", "enforce", "run", "--policy", policyFile, "--metrics", address)
	var said strings.Builder
	run.Stderr = &said
	out, err := run.StdoutPipe()
	must(err)
	must(run.Start())
	events := make(chan enforce.Event, 100)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var ev enforce.Event
			if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
				t.Errorf("%s: %v", lines.Bytes(), err)
			}
			events <- ev
		}
	}()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if exec.Command("/usr/bin/sbom-bless", "enforce", "status").Run() == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the verifier does not load: %s", said.String())
		}
	}

	t.Run("exec", func(t *testing.T) {
		list := "/tmp/list"
		drop("/usr/bin/other")
		var lines strings.Builder
		for _, name := range []string{"/bin/dash", loader, libc} {
			lines.WriteString(sha256sum(name))
		}
		must(os.WriteFile(list, []byte(lines.String()), 0o644))
		out := command(t, "exec", "--files", list, "--name", "session", "--", "/bin/dash", "-c", "/usr/bin/other; echo $?")
		if !strings.Contains(out, "/usr/bin/other: Operation not permitted\n126\n") {
			t.Errorf("%s", out)
		}
		for {
			select {
			case ev := <-events:
				if ev.Container == "session" && ev.Action == "denied" && ev.Reason == "not-listed" && ev.Path == "/usr/bin/other" {
					return
				}
			case <-time.After(10 * time.Second):
				t.Fatal("no event")
			}
		}
	})
	t.Run("why", func(t *testing.T) {
		out := command(t, "why", "--container", "session", "/usr/bin/other")
		for _, want := range []string{
			"container session, image list@sha256:", "exec of /usr/bin/other was denied, reason not-listed", "None of its 3 listed files has this path, or this content (SHA-256 ",
			"What would allow it: No rule does",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("says nothing of %q: %s", want, out)
			}
		}
	})
	t.Run("metrics", func(t *testing.T) {
		conn, err := net.Dial("tcp", address)
		must(err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n")
		must(err)
		served, err := io.ReadAll(conn)
		must(err)
		for _, want := range []string{
			"\nsbom_bless_canary_ok 1\n", "\nsbom_bless_node_fit 1\n", "\nsbom_bless_events_lost_total 0\n",
			`sbom_bless_denials_total{namespace="",operation="exec",reason="not-listed",workload=""} `, `sbom_bless_judged_total{verdict="judged-good"} `,
		} {
			if !strings.Contains(string(served), want) {
				t.Errorf("says nothing of %q:\n%s", want, served)
			}
		}
	})
	t.Run("status", func(t *testing.T) {
		out := command(t, "status")
		for _, want := range []string{"canary    2", "in force", "digests   by the kernel", "trust     sbom     yes", "trust     keyring  ", "enforce   sbom    session", "not-listed"} {
			if !strings.Contains(out, want) {
				t.Errorf("says nothing of %q: %s", want, out)
			}
		}
	})
	t.Run("unload", func(t *testing.T) {
		must(run.Process.Kill())
		run.Wait()
		command(t, "unload")
		if out, err := exec.Command("/usr/bin/sbom-bless", "enforce", "status").CombinedOutput(); err == nil {
			t.Errorf("still loaded: %s", out)
		}
	})
}
