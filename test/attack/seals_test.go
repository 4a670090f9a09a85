// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// otherHash has IMA compute digests that no list has, as Flatcar and Ubuntu 22.04 do: then the agent
// computes them, as it does on kernels without IMA.
const otherHash = "ima_hash=sha1"

// TestSeals tries the attacks where the agent computes the digests, before a container starts.
func TestSeals(t *testing.T) {
	vm.Test(t, vm.Some("7.3"), vm.Config{
		Memory: 1536, Modules: guestModules, Timeout: 30 * time.Minute, Append: otherHash,
		Host: func(t vm.TB, c *vm.Config) {
			for in, from := range guestFiles() {
				c.Files[in] = from
			}
			c.Files[diskFile] = makeDisk(t)
		},
	}, testSeals)
}

func testSeals(t *testing.T, k vm.Kernel) {
	must(makeImage())
	set, err := imageSet()
	must(err)
	if a := probe(); a.Load != "" {
		t.Fatalf("%+v", a)
	}
	e, err := enforce.Load(enforce.Options{Pins: enforce.DefaultPins, State: enforce.DefaultState})
	if err != nil {
		t.Fatal(err)
	}
	if ahead, err := e.HashedAhead(); err != nil || !ahead {
		t.Fatalf("the kernel is to hash: %v", err)
	}
	events := watch(t, e)
	if err := e.Canary(); err != nil {
		t.Error(err)
	}
	t.Run("denied", func(t *testing.T) {
		for _, a := range attacks {
			if _, refused := a.refused[k]; refused || a.needsSoft() {
				continue
			}
			t.Run(a.slug(), func(t *testing.T) {
				c := a.container(t)
				list := set
				if a.layout.disk {
					list = alsoListed(set, onDisk, 0)
				}
				id := a.add(t, e, list, c)
				o := a.run(t, c)
				if o.Control != "" {
					t.Errorf("control: %s", o.Control)
				}
				if o.Errno != cmp.Or(a.errno, syscall.EPERM) {
					t.Fatalf("not denied by us: %q; events: %v", o.Error, events.of(id))
				}
				if a.anyDomain {
					id = 0
				}
				reason := a.reason
				if reason == "not-listed" {
					reason = "no-digest" // what is not listed is not sealed
				}
				if !events.wait(id, a.op, reason) {
					t.Fatalf("no event %s %s; events: %v", a.op, reason, events.of(id))
				}
			})
		}
	})
	t.Run("permitted", func(t *testing.T) {
		for _, a := range permitted {
			if a.needsSoft() {
				continue
			}
			t.Run(a.slug(), func(t *testing.T) {
				c := a.container(t)
				id := a.add(t, e, set, c)
				o := a.run(t, c)
				if a.copies {
					if o.Errno != syscall.EPERM || !events.wait(id, "exec", "no-digest") {
						t.Errorf("a copy that nobody hashed: %+v; events: %v", o, events.of(id))
					}
					return
				}
				if o.Error != "" || o.Control != "" || a.op == "" && len(events.of(id)) != 0 {
					t.Errorf("%+v; events: %v", o, events.of(id))
				}
			})
		}
	})
	testSealed(t, e, set, events)
}

// needsSoft tells that it is about files of the writable layer or a volume, of which nobody computes
// a digest in time.
func (a *attack) needsSoft() bool {
	var r enforce.Rules
	if a.rules != nil {
		a.rules(&r)
	}
	return r.Soft || a.layout.volume
}

// testSealed shows what a seal is good for, and for how long.
func testSealed(t *testing.T, e *enforce.Enforcer, set enforce.Set, events *watched) {
	const name = "/bin/fortytwo"
	add := func(t *testing.T, l layout) (*container, enforce.Domain) {
		t.Helper()
		c := l.container(t)
		id, err := e.Add(enforce.Domain{Name: t.Name(), Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}, set)
		if err != nil {
			t.Fatal(err)
		}
		domains, err := e.Domains()
		must(err)
		for _, d := range domains {
			if d.ID == id {
				return c, d
			}
		}
		t.Fatal("it is not registered")
		return nil, enforce.Domain{}
	}
	runs := func(t *testing.T, c *container, name string) {
		t.Helper()
		if err := c.execute(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	denied := func(t *testing.T, c *container, d enforce.Domain, name string, why unix.Errno) {
		t.Helper()
		if err := c.execute(name); !errors.Is(err, unix.EPERM) {
			t.Fatalf("%s: %v", name, err)
		}
		if !events.waitFor(func(ev enforce.Event) bool {
			return ev.Domain == d.ID && ev.Reason == "no-digest" && ev.Path == name && ev.Errno == -int32(why) && strings.Contains(ev.Message, whys[why])
		}) {
			t.Errorf("events: %v", events.of(d.ID))
		}
	}
	// asked is what a process of the agent's executable hears that asks for a seal.
	asked := func(t *testing.T, file string, uid uint32) string {
		t.Helper()
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "STAGE=sealer", "FILE="+file)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	t.Run("a layer is sealed once", func(t *testing.T) {
		first, _ := add(t, layout{})
		second := newContainer(t) // of the same layer, and not registered
		runs(t, first, name)
		if said := asked(t, second.root+name, 0); said != unix.EALREADY.Error() {
			t.Errorf("the programs say %s", said)
		}
		if said := asked(t, second.root+"/opt/unlisted", 0); said != unix.EINPROGRESS.Error() {
			t.Errorf("of a file that nobody sealed, the programs say %s", said)
		}
	})
	t.Run("who is not root cannot seal", func(t *testing.T) {
		c := newContainer(t)
		if said := asked(t, c.root+name, 65534); said != unix.ENOTTY.Error() {
			t.Errorf("the programs say %s", said)
		}
	})
	t.Run("a change while it is hashed voids it", func(t *testing.T) {
		const name = image + "/opt/between"
		must(os.WriteFile(name, tiny(evil), 0o755))
		defer os.Remove(name)
		f, err := os.Open(name)
		must(err)
		defer f.Close()
		sum := sha256.Sum256(tiny(evil))
		ask := func(command uintptr) unix.Errno {
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), command, uintptr(unsafe.Pointer(&sum)))
			return errno
		}
		if errno := ask(sealBegin); errno != unix.EINPROGRESS {
			t.Fatal(errno)
		}
		w, err := os.OpenFile(name, os.O_RDWR, 0) // and writes nothing: no time changes
		must(err)
		if errno := ask(sealEnd); errno != unix.EBUSY {
			t.Errorf("while it is open for writing: %v", errno)
		}
		must(w.Close())
		if errno := ask(sealEnd); errno != unix.ESTALE {
			t.Errorf("after that: %v", errno)
		}
		if errno := ask(sealBegin); errno != unix.EINPROGRESS {
			t.Fatal(errno)
		}
		if errno := ask(sealEnd); errno != unix.EALREADY {
			t.Errorf("begun anew: %v", errno)
		}
	})
	t.Run("a listed file of a volume has none", func(t *testing.T) {
		c := layout{volume: true}.container(t)
		must(os.WriteFile(c.root+"/run/x", tiny(evil), 0o755))
		id, err := e.Add(enforce.Domain{Name: t.Name(), Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true, Mounts: []string{"/run"}}},
			alsoListed(set, "/run/x", evil))
		must(err)
		denied(t, c, enforce.Domain{ID: id}, "/run/x", unix.ENODATA)
	})
	t.Run("the kernel hashes nothing", func(t *testing.T) {
		before, err := e.Counters()
		must(err)
		c, d := add(t, layout{})
		runs(t, c, name)
		denied(t, c, d, "/opt/unlisted", unix.ENODATA)
		after, err := e.Counters()
		must(err)
		if after["hashed"] != before["hashed"] {
			t.Errorf("%d files", after["hashed"]-before["hashed"])
		}
	})
	t.Run("it outlives the inode in memory", func(t *testing.T) {
		c, _ := add(t, layout{})
		must(os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
		_, err := os.Stat(image + name)
		must(err)
		runs(t, c, name)
	})
	t.Run("a change below voids it, until it is sealed anew", func(t *testing.T) {
		c, d := add(t, layout{})
		runs(t, c, name)
		good, err := os.ReadFile(image + name)
		must(err)
		must(os.WriteFile(image+name, good, 0o755))
		denied(t, c, d, name, unix.ESTALE)
		must(e.Update(d, set))
		runs(t, c, name)
	})
	t.Run("a file that is open for writing is not sealed", func(t *testing.T) {
		f, err := os.OpenFile(image+name, os.O_RDWR, 0)
		must(err)
		_, err = f.WriteAt([]byte{0x7f}, 0)
		must(err)
		c, d := add(t, layout{})
		must(f.Close())
		denied(t, c, d, name, unix.ESTALE)
		must(e.Update(d, set))
		runs(t, c, name)
	})
	t.Run("it goes with its filesystem", func(t *testing.T) {
		const onDisk = "/opt/disk/fortytwo"
		first := layout{disk: true}.container(t)
		must(os.WriteFile(first.disk+onDisk, tiny(evil), 0o755))
		listed := alsoListed(set, onDisk, evil)
		_, err := e.Add(enforce.Domain{Name: t.Name(), Cgroup: first.cgroup, Root: first.root, Rules: enforce.Rules{Enforce: true}}, listed)
		must(err)
		runs(t, first, onDisk)
		must(unix.Unmount(first.root, 0))
		must(unix.Unmount(first.disk, 0))
		// The device, the inode and its generation are the same again. In the other list
		// the digest is that of /bin/fortytwo alone, so nothing seals the file.
		must(unix.Mount(first.device, first.disk, "ext4", 0, ""))
		second := newContainer(t)
		must(unix.Unmount(second.root, 0))
		must(unix.Mount("overlay", second.root, "overlay", 0, fmt.Sprintf("lowerdir=%s:%s,upperdir=%s,workdir=%s/../work", first.disk, image, second.upper, second.upper)))
		id, err := e.Add(enforce.Domain{Name: t.Name(), Cgroup: second.cgroup, Root: second.root, Rules: enforce.Rules{Enforce: true}}, set)
		must(err)
		runs(t, second, name)
		denied(t, second, enforce.Domain{ID: id}, onDisk, unix.ENODATA)
	})
	t.Run("what is no file any more is not opened", func(t *testing.T) {
		c := newContainer(t)
		must(os.Remove(c.root + "/bin/true"))
		must(unix.Mkfifo(c.root+"/bin/true", 0o755)) // who opens it waits for a writer
		must(os.Remove(c.root + "/opt/code/x"))
		must(os.Symlink("/proc/self/exe", c.root+"/opt/code/x"))
		listed := alsoListed(set, "/"+strings.Repeat("x", 5000), evil) // no file can have this name
		id, err := e.Add(enforce.Domain{Name: t.Name(), Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}, listed)
		must(err)
		runs(t, c, name)
		if events := events.of(id); len(events) != 0 {
			t.Errorf("events: %v", events)
		}
	})
	t.Run("a container cannot seal", func(t *testing.T) {
		c, _ := add(t, layout{})
		out, err := c.start("sealer", "")
		if err != nil || string(out) != unix.ENOTTY.Error() {
			t.Errorf("%v: %q", err, out)
		}
	})
	t.Run("what needs the kernel's hashes is refused", func(t *testing.T) {
		c := newContainer(t)
		for _, trust := range []enforce.Trust{enforce.TrustKeyring, enforce.TrustBoth} {
			_, err := e.Add(enforce.Domain{Name: t.Name(), Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Trust: trust}}, set)
			if err == nil {
				t.Errorf("trust %s is taken", trust)
			}
			if err := enforce.Supports(enforce.Probe(), trust); !errors.Is(err, enforce.ErrNotSupported) {
				t.Errorf("trust %s: %v", trust, err)
			}
		}
		if err := enforce.Supports(enforce.Probe(), enforce.TrustSBOM); err != nil {
			t.Error(err)
		}
	})
}

// alsoListed is the list with a program that exits with code: what is in it by digest alone is not sealed.
func alsoListed(set enforce.Set, name string, code byte) enforce.Set {
	set.Name += "+"
	set.Files = append(slices.Clone(set.Files), enforce.File{Path: name, SHA256: sha256.Sum256(tiny(code))})
	return set
}

// enum seal_command of enforce/bpf/event.h.
const (
	sealBegin = 0x5b0b0001
	sealEnd   = 0x5b0b0002
)

// whys are what events say of errors.
var whys = map[unix.Errno]string{
	unix.ENODATA: "it was not hashed before the container started",
	unix.ESTALE:  "it was changed since it was hashed",
}

// sealer is a stage: it asks the programs for a seal.
func sealer() int {
	f, err := os.Open(cmp.Or(os.Getenv("FILE"), "/bin/true"))
	must(err)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), sealBegin, 0)
	_, err = os.Stdout.WriteString(errno.Error())
	must(err)
	return 0
}
