// SPDX-License-Identifier: Apache-2.0

//go:build linux

package containerd

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// intrusion is what an intruder does who has a shell in the container. It
// prints "ran" where it works.
type intrusion struct{ name, command, operation, reason, refusal string }

var intrusions = []intrusion{
	{
		"a program brought in",
		"/usr/bin/cp /usr/bin/cat /tmp/brought && echo ran >/tmp/said && /tmp/brought /tmp/said",
		"exec", "writable-layer", "Operation not permitted",
	},
	{
		"a script brought in",
		"echo '#!/usr/bin/dash' >/tmp/script && echo 'echo ran' >>/tmp/script && /usr/bin/chmod +x /tmp/script && /tmp/script",
		"exec", "writable-layer", "Operation not permitted",
	},
	{
		"a program brought in, run by the loader",
		"/usr/bin/cp /usr/bin/cat /tmp/loaded && echo ran >/tmp/said && /lib64/ld-linux-x86-64.so.2 /tmp/loaded /tmp/said",
		"mmap", "writable-layer", "failed to map segment",
	},
	{
		"a program of the image changed",
		"echo '#!/usr/bin/dash' >/usr/bin/chmod && echo ran",
		"write", "guarded", "Operation not permitted",
	},
}

// control is what the image does by itself.
const control = "echo good >/tmp/file && /usr/bin/cat /tmp/file"

// intrude tries all of them in a container with one exec, then the control, and
// gives what each printed.
func (c *containers) intrude(t *testing.T, container string) []string {
	t.Helper()
	var script strings.Builder
	for _, i := range intrusions {
		fmt.Fprintf(&script, "( %s ) 2>&1; echo ====\n", i.command)
	}
	fmt.Fprintf(&script, "%s\n", control)
	out, err := c.exec(container, script.String())
	said := strings.Split(out, "====\n")
	if err != nil || len(said) != len(intrusions)+1 {
		t.Fatalf("exec: %v %q", err, out)
	}
	if last := said[len(intrusions)]; last != "good\n" {
		t.Errorf("the image itself does not work: %q", last)
	}
	return said[:len(intrusions)]
}

func underContainerd(t *testing.T, k vm.Kernel) {
	c := start(t)
	c.run(t, "before")
	t.Run("the attributes are on the files of the container", func(t *testing.T) {
		for _, name := range []string{"security.ima", "security.bpf.bless"} {
			n, err := unix.Getxattr("/proc/"+c.pid(t, "before")+"/root/usr/bin/dash", name, make([]byte, 4096))
			if err != nil || n < 40 {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		}
	})
	t.Run("without the verifier", func(t *testing.T) {
		c.run(t, "open")
		for n, out := range c.intrude(t, "open") {
			if !strings.HasSuffix(out, "ran\n") {
				t.Errorf("%s: does not work even so: %q", intrusions[n].name, out)
			}
		}
	})

	image := "registry.example/app@" + imageDigest(t)
	a := startAgent(t)
	add := func(t *testing.T, name string) {
		t.Helper()
		enforce(t, "add", "--pid", c.pid(t, name), "--image", image, "--key", keyFile, "--attestations", attestations, "--name", name)
	}
	denied := func(t *testing.T, a *agent, container string) {
		t.Helper()
		for n, out := range c.intrude(t, container) {
			i := intrusions[n]
			switch {
			case strings.Contains(out, "ran"):
				t.Errorf("%s: works: %q", i.name, out)
			case !strings.Contains(out, i.refusal):
				t.Errorf("%s: refused, but not by the verifier: %q", i.name, out)
			case a != nil && !a.said(container, i.operation, i.reason):
				t.Errorf("%s: no event %s %s of %s; events: %v", i.name, i.operation, i.reason, container, a.messages())
			}
		}
	}
	t.Run("a container that was there before the agent", func(t *testing.T) {
		add(t, "before")
		denied(t, a, "before")
		if said := strings.Join(a.messages(), "\n"); !strings.Contains(said, "(deb coreutils ") {
			t.Errorf("no event names the package of the file: %s", said)
		}
	})
	t.Run("a container that came after it", func(t *testing.T) {
		c.run(t, "after")
		add(t, "after")
		denied(t, a, "after")
	})
	t.Run("while no agent lives", func(t *testing.T) {
		a.kill(t)
		denied(t, nil, "before")
		denied(t, nil, "after")
	})
	t.Run("with the next agent", func(t *testing.T) {
		next := startAgent(t)
		if !next.adopted {
			t.Error("the agent did not adopt the verifier that was in force")
		}
		denied(t, next, "after")
		next.kill(t)
	})
	t.Run("containers outside of any domain are left alone", func(t *testing.T) {
		if out, err := c.exec("open", "/tmp/brought /tmp/said"); err != nil || out != "ran\n" {
			t.Errorf("%v %q", err, out)
		}
	})
	t.Run("after unload", func(t *testing.T) {
		enforce(t, "unload")
		// The kernel lets go of programs some time after the last pin.
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
			out, err := c.exec("after", "/tmp/brought /tmp/said")
			if err == nil && out == "ran\n" {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%v %q", err, out)
			}
		}
	})
	// The agent asks little of the kernel: the oldest and the newest, of which one verifies signed files.
	if k == "6.1" || k == "7.3" {
		t.Run("by policy", func(t *testing.T) { byPolicy(t, k, c) })
	}
}

func imageDigest(t *testing.T) string {
	t.Helper()
	digest, err := os.ReadFile(digestFile)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(digest))
}
