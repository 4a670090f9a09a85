// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"crypto/sha256"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// A program that is put in from outside, on a volume, as docker --init, Tekton and injected
// agents do, runs once the list of the image that it is from is joined, and no longer than that.
func TestJoin(t *testing.T) {
	vm.OnlyInAll(t)
	// No kernel does anything special here.
	vm.Test(t, []vm.Kernel{"6.12"}, vm.Config{Memory: 512, Timeout: 10 * time.Minute, Host: func(t vm.TB, c *vm.Config) {
		for in, from := range guestFiles() {
			c.Files[in] = from
		}
	}}, testJoin)
}

func testJoin(t *testing.T, _ vm.Kernel) {
	must(makeImage())
	set, err := imageSet()
	must(err)
	set.Sizes = true
	const tool = "registry.example/tool@sha256:2222222222222222222222222222222222222222222222222222222222222222"
	content := append(tiny(evil), "tool"...)
	listed := enforce.File{Path: "/tool", SHA256: sha256.Sum256(content), Size: uint64(len(content)), Package: "deb tool 1"}
	joined := set.Join(enforce.Set{Name: tool, Files: []enforce.File{listed}, Sizes: true})
	c := newContainer(t)
	must(unix.Mount("tmpfs", c.root+"/run", "tmpfs", 0, ""))
	must(os.WriteFile(c.root+"/run/tool", content, 0o755))
	must(os.WriteFile(c.root+"/run/other", append(tiny(evil), "loot"...), 0o755)) // of the same size
	runTool, runOther := &attack{name: executing + "/run/tool"}, &attack{name: executing + "/run/other"}
	tries := func(when string, a *attack, want syscall.Errno) {
		t.Helper()
		if o := a.run(t, c); o.Errno != want || want == 0 && o.Error != "" || o.Control != "" {
			t.Errorf("%s: %s: %+v, want %v", when, a.name, o, want)
		}
	}
	tries("without the verifier", runTool, 0)
	tries("without the verifier", runOther, 0)
	e, err := enforce.Load(enforce.Options{Pins: enforce.DefaultPins, State: enforce.DefaultState})
	must(err)
	id, err := e.Add(enforce.Domain{Name: "joined", Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true, Mounts: []string{"/run"}}}, set)
	must(err)
	update := func(set enforce.Set) {
		domains, err := e.Domains()
		must(err)
		must(e.Update(domains[slices.IndexFunc(domains, func(d enforce.Domain) bool { return d.ID == id })], set))
	}
	tries("not joined", runTool, unix.EPERM)
	update(joined)
	tries("joined", runTool, 0)
	tries("joined", runOther, unix.EPERM)
	var ran, denied bool
	must(e.Events(time.Now().Add(5*time.Second), func(ev enforce.Event) error {
		if ev.Domain == id && ev.Path == "/run/tool" && ev.Action == "allowed" {
			ran = true
			if ev.List != tool || ev.Package != "deb tool 1" || ev.Image != set.Name {
				t.Errorf("of list %q, package %q, image %q: %s", ev.List, ev.Package, ev.Image, ev.Message)
			}
		}
		denied = denied || ev.Domain == id && ev.Path == "/run/other" && ev.Action == "denied" && ev.Reason == "not-listed"
		return nil
	}))
	if !ran || !denied {
		t.Errorf("events: joined program %t, other one %t", ran, denied)
	}
	update(set)
	tries("no longer joined", runTool, unix.EPERM)
}
