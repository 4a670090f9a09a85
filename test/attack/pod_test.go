// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// TestPod has containers start whose runtime did not announce them, and tasks come into a container
// without an execve.
func TestPod(t *testing.T) {
	vm.Test(t, vm.Some("6.1"), vm.Config{Memory: 1536, Host: func(t vm.TB, c *vm.Config) {
		for in, from := range guestFiles() {
			c.Files[in] = from
		}
	}}, testPod)
}

func testPod(t *testing.T, _ vm.Kernel) {
	must(makeImage())
	set, err := imageSet()
	must(err)
	e, err := enforce.Load(pinned)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	events := watch(t, e)
	const run = executing + "/bin/fortytwo" // which is listed
	runs := func(t *testing.T, c *container) {
		t.Helper()
		if err := c.execute("/bin/fortytwo"); err != nil {
			t.Errorf("it does not run: %v", err)
		}
	}
	t.Run("a closed pod", func(t *testing.T) {
		pod := "/sys/fs/cgroup/pod"
		in := func() *container {
			c := newContainer(t)
			c.cgroup = filepath.Join(pod, filepath.Base(c.cgroup))
			must(os.MkdirAll(c.cgroup, 0o755))
			return c
		}
		unannounced, left, listed, early := in(), in(), in(), in()
		runs(t, unannounced) // the pod is open
		// Made before the pod is closed, announced after: a task of it must not keep the pod's verdict.
		cmd, goOn := enterOnly(t, early)
		id, err := e.Add(enforce.Domain{Name: "pod", Cgroup: pod, Closed: true, Rules: enforce.Rules{Enforce: true}}, enforce.Set{})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := unannounced.start("attacker", run); err == nil {
			t.Errorf("it runs: %s", out)
		}
		if !events.wait(id, "exec", "unannounced") {
			t.Errorf("no event; %v", events.of(id))
		}
		if _, err := e.Add(enforce.Domain{Name: "left", Cgroup: left.cgroup, Exempt: true}, enforce.Set{}); err != nil {
			t.Fatal(err)
		}
		runs(t, left)
		d := enforce.Domain{Name: "listed", Cgroup: listed.cgroup, Root: listed.root, Rules: enforce.Rules{Enforce: true}}
		if _, err := e.Add(d, set); err != nil {
			t.Fatal(err)
		}
		runs(t, listed)
		// Every Add looks at all tasks: that of early has no label by it, and gets its own.
		d = enforce.Domain{Name: "early", Cgroup: early.cgroup, Root: early.root, Rules: enforce.Rules{Enforce: true}}
		if _, err := e.Add(d, set); err != nil {
			t.Fatal(err)
		}
		if said := goOn(); said != guardedOnly {
			t.Errorf("a container that was announced late: %q", said)
		}
		must(cmd())
		must(e.SetEnforce(id, false))
		runs(t, unannounced)
		must(e.SetEnforce(id, true))
		must(e.Remove(enforce.Domain{ID: id, Cgroup: pod}))
		runs(t, unannounced)
	})
	t.Run("a task that comes without an execve", func(t *testing.T) {
		c := newContainer(t)
		id, err := e.Add(enforce.Domain{Name: "restored", Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}, set)
		if err != nil {
			t.Fatal(err)
		}
		end, goOn := enterOnly(t, c)
		if said := goOn(); said != "open: <nil>, execute: <nil>" {
			t.Errorf("without a label: %q, and this test shows nothing", said)
		}
		must(e.Label())
		if said := goOn(); said != guardedOnly {
			t.Errorf("with a label: %q", said)
		}
		if !events.wait(id, "write", "guarded") {
			t.Errorf("no event; %v", events.of(id))
		}
		must(end())
	})
}

// guardedOnly is what the process of enterOnly says that has its container's label.
const guardedOnly = "open: operation not permitted, execute: <nil>"

// enterOnly has a process come into a container as CRIU's do, by a fork: it executes nothing
// there. goOn has it open a program of the image for writing, and execute another.
func enterOnly(t *testing.T, c *container) (end func() error, goOn func() string) {
	t.Helper()
	cmd, err := c.command(context.Background(), "", "")
	must(err)
	cmd.Env = append(cmd.Env, "STAGE=restored")
	in, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	lines := bufio.NewReader(out)
	said := func() string {
		t.Helper()
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return strings.TrimSpace(line)
	}
	if line := said(); line != "ready" {
		t.Fatalf("%q", line)
	}
	end = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	return end, func() string {
		t.Helper()
		_, err := in.Write([]byte{'\n'})
		must(err)
		return said()
	}
}

// restored is that process.
func restored() int {
	if err := enter(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	for _, name := range []string{"/bin/true", "/bin/control", ""} { // each is the container's own once it is open
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			return 0
		}
		fmt.Printf("open: %v, execute: %v\n", open(name, unix.O_WRONLY), execute("/bin/fortytwo"))
	}
	return 0
}
