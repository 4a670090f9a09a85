// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"golang.org/x/sys/unix"
)

// testHashes counts what the verifier has hashed, and what it says of that.
func testHashes(t *testing.T, e *enforce.Enforcer, set enforce.Set, events *watched) {
	add := func(t *testing.T, set enforce.Set) (*container, uint32) {
		t.Helper()
		c := newContainer(t)
		id, err := e.Add(enforce.Domain{Name: t.Name(), Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}, set)
		if err != nil {
			t.Fatal(err)
		}
		return c, id
	}
	// hashed counts the hashes that the kernel made while f ran.
	hashed := func(f func()) uint64 {
		t.Helper()
		before, err := e.Counters()
		must(err)
		f()
		after, err := e.Counters()
		must(err)
		return after["hashed"] - before["hashed"]
	}
	t.Run("a good file is hashed once, though its times are asked for", func(t *testing.T) {
		const name = "/bin/fortytwo"
		// From 6.13 on the kernel marks a change time that was looked at since it changed: so this is one that was not.
		must(os.Chtimes(image+name, time.Time{}, time.Unix(1, 0)))
		c, _ := add(t, set)
		run := func() {
			if err := c.execute(name); err != nil {
				t.Error(err)
			}
		}
		if n := hashed(run); n == 0 {
			t.Error("the first execution hashed nothing")
		}
		if n := hashed(run); n != 0 {
			t.Errorf("the second execution hashed %d files", n)
		}
		for _, file := range []string{image + name, c.root + name} {
			_, err := os.Stat(file)
			must(err)
		}
		if n := hashed(run); n != 0 {
			t.Errorf("after stat(2), an execution hashed %d files", n)
		}
	})
	t.Run("a bad file is hashed once", func(t *testing.T) {
		c, id := add(t, set)
		run := func() {
			if err := c.execute("/opt/unlisted"); !errors.Is(err, unix.EPERM) {
				t.Error(err)
			}
		}
		run()
		if n := hashed(run); n != 0 {
			t.Errorf("the second execution hashed %d files", n)
		}
		if !events.wait(id, "exec", "not-listed") {
			t.Errorf("events: %v", events.of(id))
		}
	})
	t.Run("a bad file that changed is hashed again", func(t *testing.T) {
		const name = "/opt/fixed"
		good, err := os.ReadFile(image + "/bin/fortytwo")
		must(err)
		bad := slices.Clone(good)
		bad[len(bad)-1] = 0x90
		must(os.WriteFile(image+name, bad, 0o755))
		defer os.Remove(image + name)
		c, _ := add(t, set)
		if err := c.execute(name); !errors.Is(err, unix.EPERM) {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond) // the change time is that of a tick
		must(os.WriteFile(image+name, good, 0o755))
		if err := c.execute(name); err != nil {
			t.Errorf("it is as listed now: %v", err)
		}
	})
	t.Run("a file of a size that no file of the list has is not hashed", func(t *testing.T) {
		const name = "/opt/odd"
		must(os.WriteFile(image+name, append(tiny(evil), make([]byte, 12345)...), 0o755))
		defer os.Remove(image + name)
		sized := set
		sized.Name, sized.Sizes = set.Name[:len(set.Name)-1]+"4", true
		c, _ := add(t, sized)
		if err := c.execute("/bin/fortytwo"); err != nil { // all else is hashed then
			t.Error(err)
		}
		n := hashed(func() {
			if err := c.execute(name); !errors.Is(err, unix.EPERM) {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%d files were hashed", n)
		}
	})
	t.Run("events of what is allowed have a budget, too", func(t *testing.T) {
		many := set
		many.Files = slices.Clone(set.Files)
		many.Name = set.Name[:len(set.Name)-1] + "3"
		must(os.Mkdir(image+manyFiles, 0o755))
		defer os.RemoveAll(image + manyFiles)
		for n := range manySize {
			name, content := fmt.Sprint(manyFiles, "/x", n), fmt.Append(nil, "program ", n)
			must(os.WriteFile(image+name, content, 0o755))
			many.Files = append(many.Files, enforce.File{Path: name, SHA256: sha256.Sum256(content), Size: uint64(len(content))})
		}
		c, id := add(t, many)
		before, err := e.Counters()
		must(err)
		started := time.Now()
		if o := mapMany.run(t, c); o.Error != "" || o.Control != "" {
			t.Fatalf("%+v", o)
		}
		seconds := int(time.Since(started).Seconds()) + 2 // what began before may end within
		after, err := e.Counters()
		must(err)
		kept := after["repeated"] - before["repeated"] + after["lost-events"] - before["lost-events"]
		var written uint64
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && written+kept < manySize; time.Sleep(50 * time.Millisecond) {
			written = events.allowed(id)
		}
		if written+kept < manySize { // what starts the container is allowed, too
			t.Errorf("of %d files %d are in events and %d counted", manySize, written, kept)
		}
		if written > uint64(1000*seconds) {
			t.Errorf("%d events in %d seconds", written, seconds)
		}
	})
}

const (
	manyFiles = "/opt/many"
	manySize  = 1000
)

// mapMany maps that many listed files as code.
var mapMany = &attack{name: "(many listed files mapped)", try: func() error {
	for n := range manySize {
		if _, err := mapCode(fmt.Sprint(manyFiles, "/x", n)); err != nil {
			return err
		}
	}
	return nil
}}

// decoy executes two programs of one inode number, on two filesystems.
var decoy = &attack{name: "(a decoy and a program of the same inode number)", try: func() error {
	var numbers [2]uint64
	for n, dir := range []string{"/tmp/decoy", "/tmp/other"} {
		must(os.Mkdir(dir, 0o755))
		must(unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
		var st unix.Stat_t
		must(unix.Stat(drop(dir+"/x"), &st))
		numbers[n] = st.Ino
	}
	if numbers[0] != numbers[1] {
		must(fmt.Errorf("inode numbers %v", numbers))
	}
	return errors.Join(execute("/tmp/decoy/x"), execute("/tmp/other/x"))
}}

// testDecoy looks whether both are reported where nothing is denied.
func testDecoy(t *testing.T, e *enforce.Enforcer, set enforce.Set, events *watched) {
	t.Run("a decoy hides no other program", func(t *testing.T) {
		c := newContainer(t)
		id, err := e.Add(enforce.Domain{Name: "decoy", Cgroup: c.cgroup, Root: c.root}, set)
		must(err)
		if o := decoy.run(t, c); o.Error != "" || o.Control != "" {
			t.Fatalf("%+v", o)
		}
		for _, name := range []string{"/tmp/decoy/x", "/tmp/other/x"} {
			found := func(ev enforce.Event) bool { return ev.Domain == id && ev.Action == "reported" && ev.Path == name }
			if !events.waitFor(found) {
				t.Errorf("no event of %s; events: %v", name, events.of(id))
			}
		}
	})
}
