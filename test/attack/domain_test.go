// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"golang.org/x/sys/unix"
)

// Attacks of TestAgent alone.
var (
	// writeAndExecute maps anonymous memory writable and executable, as a JIT does.
	writeAndExecute = &attack{name: "jit", try: func() error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	}}
	fromMemfd = &attack{name: "memfd", try: func() error {
		fd, err := unix.MemfdCreate("x", 0)
		must(err)
		_, err = unix.Write(fd, tiny(evil))
		must(err)
		return execute(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd))
	}}
	// flood has floodSize files denied.
	flood = &attack{name: "flood", try: func() error {
		for n := range floodSize {
			if _, err := mapExec(fmt.Sprint("/home/x", n), unix.PROT_READ|unix.PROT_EXEC); !errors.Is(err, unix.EPERM) {
				return fmt.Errorf("file %d: %v", n, err)
			}
		}
		return nil
	}}
)

const floodSize = 1000

// testRules tries what a rule allows, and what it leaves forbidden.
func testRules(t *testing.T, e *enforce.Enforcer, set enforce.Set) {
	add := func(t *testing.T, c *container, rules enforce.Rules) {
		t.Helper()
		rules.Enforce = true
		if _, err := e.Add(enforce.Domain{Name: t.Name(), Cgroup: c.cgroup, Root: c.root, Rules: rules}, set); err != nil {
			t.Fatal(err)
		}
	}
	tries := func(t *testing.T, c *container, a *attack, want syscall.Errno) {
		t.Helper()
		if o := a.run(t, c); o.Errno != want || want == 0 && o.Error != "" || o.Control != "" {
			t.Errorf("%s: %+v, want %v", a.name, o, want)
		}
	}
	t.Run("rule jit", func(t *testing.T) {
		without, with := newContainer(t), newContainer(t)
		add(t, without, enforce.Rules{})
		add(t, with, enforce.Rules{JIT: true})
		tries(t, without, writeAndExecute, unix.EPERM)
		tries(t, with, writeAndExecute, 0)
		tries(t, with, fromMemfd, unix.EPERM)
	})
	t.Run("an update that cannot be written down changes nothing", func(t *testing.T) {
		c := newContainer(t)
		add(t, c, enforce.Rules{})
		domains, err := e.Domains()
		must(err)
		d := domains[slices.IndexFunc(domains, func(d enforce.Domain) bool { return d.Cgroup == c.cgroup })]
		d.JIT, d.Mounts = true, []string{"/data"}
		obstacle := fmt.Sprintf("%s/domains/%d.json.new", enforce.DefaultState, d.ID)
		must(os.Mkdir(obstacle, 0o700))
		if err := e.Update(d, set); err == nil {
			t.Error("it claims to have written it")
		}
		tries(t, c, writeAndExecute, unix.EPERM)
		must(os.Remove(obstacle))
		must(e.Update(d, set))
		tries(t, c, writeAndExecute, 0)
	})
	t.Run("two lists of one name", func(t *testing.T) {
		first, second := newContainer(t), newContainer(t)
		add(t, first, enforce.Rules{})
		shorter := set
		shorter.Files = slices.DeleteFunc(slices.Clone(set.Files), func(f enforce.File) bool { return f.Path == "/bin/fortytwo" })
		d := enforce.Domain{Name: t.Name(), Cgroup: second.cgroup, Root: second.root, Rules: enforce.Rules{Enforce: true}}
		if _, err := e.Add(d, shorter); err != nil {
			t.Fatal(err)
		}
		run := &attack{name: executing + "/bin/fortytwo"}
		tries(t, first, run, 0)
		tries(t, second, run, unix.EPERM)
	})
	t.Run("rule mounts", func(t *testing.T) {
		without, with := newContainer(t), newContainer(t)
		for _, c := range []*container{without, with} {
			must(unix.Mount("tmpfs", c.root+"/run", "tmpfs", 0, ""))
			must(os.WriteFile(c.root+"/run/listed", tiny(evil), 0o755))
			must(os.WriteFile(c.root+"/run/other", append(tiny(evil), 0), 0o755))
		}
		add(t, without, enforce.Rules{})
		add(t, with, enforce.Rules{Mounts: []string{"/run"}})
		listed, other := &attack{name: executing + "/run/listed"}, &attack{name: executing + "/run/other"}
		tries(t, without, listed, unix.EPERM)
		tries(t, with, listed, 0)
		tries(t, with, other, unix.EPERM)
	})
}

// testHost does on the host what a container's list knows nothing of.
func testHost(t *testing.T, e *enforce.Enforcer, set enforce.Set) {
	t.Run("a listed file is changed below", func(t *testing.T) {
		const name = "/bin/changed"
		content := append(tiny(evil), 1, 1)
		must(os.WriteFile(image+name, content, 0o755))
		set := enforce.Set{Name: set.Name[:len(set.Name)-1] + "2", Files: append([]enforce.File{{Path: name, SHA256: sha256.Sum256(content)}}, set.Files...)}
		c := newContainer(t)
		if _, err := e.Add(enforce.Domain{Name: "below", Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}, set); err != nil {
			t.Fatal(err)
		}
		run := &attack{name: executing + name}
		for range 2 { // judged, and remembered
			if o := run.run(t, c); o.Error != "" || o.Control != "" {
				t.Fatalf("%+v", o)
			}
		}
		f, err := os.OpenFile(image+name, os.O_WRONLY, 0)
		must(err)
		write := func(last byte) {
			_, err := f.WriteAt([]byte{last}, int64(len(content)-1))
			must(err)
		}
		write(2)
		if o := run.run(t, c); o.Errno != unix.EPERM || o.Control != "" {
			t.Errorf("changed: %+v", o)
		}
		write(1)
		if o := run.run(t, c); o.Errno != unix.EPERM || o.Control != "" {
			t.Errorf("as it was, but somebody may write to it: %+v", o)
		}
		must(f.Close())
		if o := run.run(t, c); o.Error != "" || o.Control != "" {
			t.Errorf("as it was: %+v", o)
		}
	})

	t.Run("a device number is given again", func(t *testing.T) {
		c := newContainer(t)
		id, err := e.Add(enforce.Domain{Name: "gone", Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}, set)
		must(err)
		var st unix.Stat_t
		must(unix.Stat(c.root, &st))
		dev := st.Dev
		must(unix.Unmount(c.root, 0))
		dir := t.TempDir()
		defer unix.Unmount(dir, unix.MNT_DETACH)
		for n := 0; ; n++ { // another filesystem may have got it
			must(unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
			must(unix.Stat(dir, &st))
			if st.Dev == dev {
				break
			}
			if n == 100 {
				t.Fatal("no filesystem gets the number of the one that is gone")
			}
			dir = t.TempDir()
			defer unix.Unmount(dir, unix.MNT_DETACH)
		}
		must(os.WriteFile(dir+"/x", tiny(evil), 0o755))
		if err := execute(dir + "/x"); err != nil {
			t.Errorf("the host's program is judged by a list of a container that is gone: %v", err)
		}
		if err := e.Remove(enforce.Domain{ID: id, Cgroup: c.cgroup}); err != nil {
			t.Error(err)
		}
	})
}

// testEvents looks at what is written down of denials.
func testEvents(t *testing.T, e *enforce.Enforcer, set enforce.Set) {
	c := newContainer(t)
	if _, err := e.Add(enforce.Domain{Name: "events", Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}, set); err != nil {
		t.Fatal(err)
	}
	of := func(enough int) (list []enforce.Event) {
		done := errors.New("done")
		err := e.Events(time.Now().Add(5*time.Second), func(ev enforce.Event) error {
			if ev.Container != "events" || ev.Action != "denied" {
				return nil
			}
			if list = append(list, ev); len(list) == enough {
				return done
			}
			return nil
		})
		if err != nil && err != done {
			t.Error(err)
		}
		return list
	}
	t.Run("an event has who, when and what", func(t *testing.T) {
		const name = "/opt/unlisted"
		if o := (&attack{name: executing + name}).run(t, c); o.Errno != unix.EPERM {
			t.Fatalf("%+v", o)
		}
		content, err := os.ReadFile(image + name)
		must(err)
		list := of(1)
		if len(list) != 1 || list[0].Path != name || list[0].SHA256 != fmt.Sprintf("%x", sha256.Sum256(content)) || list[0].Reason != "not-listed" ||
			time.Since(list[0].Time).Abs() > time.Minute || list[0].PID == 0 || list[0].Command == "" || len(list[0].Ancestors) == 0 {
			t.Errorf("%+v", list)
		}
	})
	t.Run("a flood is counted, not written", func(t *testing.T) {
		before, err := e.Counters()
		must(err)
		started := time.Now()
		if o := flood.run(t, c); o.Error != "" || o.Control != "" {
			t.Fatalf("%+v", o)
		}
		seconds := int(time.Since(started).Seconds()) + 2 // what began before may end within
		after, err := e.Counters()
		must(err)
		list := of(floodSize)
		denied, kept := after["writable-layer"]-before["writable-layer"], after["repeated"]-before["repeated"]
		if denied != floodSize || uint64(len(list))+kept+after["lost-events"]-before["lost-events"] != floodSize {
			t.Errorf("of %d denials %d were counted, %d written and %d not", floodSize, denied, len(list), kept)
		}
		if len(list) == 0 || len(list) > 100*seconds {
			t.Errorf("%d events in %d seconds", len(list), seconds)
		}
	})
}
