// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// TestRaces has two threads of a container do at once what is harmless one
// after the other: one has a file judged, one changes it.
func TestRaces(t *testing.T) {
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprint(n, " processors"), func(t *testing.T) {
			if n > 2 {
				vm.OnlyInAll(t)
			}
			vm.Test(t, vm.Some("6.12"), vm.Config{Memory: 1536, CPUs: n, Modules: guestModules, Host: func(t vm.TB, c *vm.Config) {
				for in, from := range guestFiles() {
					c.Files[in] = from
				}
			}}, testRaces)
		})
	}
}

// race is a pair of things done at once with a file that is a copy of raced.
type race struct {
	name  string
	rules func(*enforce.Rules)
	dir   string
	// change makes bad code of the file, if it can.
	change func(name string)
	// use runs the file, or maps it, and tells whether that was bad code.
	use func(name string) (bad bool, err error)
	// clean: there is no bad code at any time; all tries must succeed.
	clean bool
}

const raced = "/bin/true" // exits with status 0

// badCode is what no list has: raced, with another exit status.
func badCode() []byte { return tiny(bad43) }

const (
	bad43    = 43
	statusAt = 121 // where the status is in the file
)

var races = []*race{
	{name: "opened for writing while it is executed (soft)", rules: soft, dir: "/home", change: rewrite, use: run},
	{name: "opened for writing while it is mapped (soft)", rules: soft, dir: "/home", change: rewrite, use: look},
	{name: "opened for writing while it is mapped (mounts)", dir: "/run", change: rewrite, use: look},
	{name: "mapped shared and writable while it is mapped as code (soft)", rules: soft, dir: "/home", change: rewriteMapped, use: look},
	{name: "mapped shared and writable while it is mapped as code (mounts)", dir: "/run", change: rewriteMapped, use: look},
	{name: "emptied, written and set to another mode while it is mapped (soft)", rules: soft, dir: "/home", change: empty, use: look},
	{name: "renamed over while it is executed (soft)", rules: soft, dir: "/home", change: replace, use: run},
	{name: "executed by many at once while it is hashed (soft)", rules: soft, dir: "/home", clean: true, use: runMany},
}

func testRaces(t *testing.T, k vm.Kernel) {
	must(makeImage())
	set, err := imageSet()
	must(err)
	tries := func(t *testing.T, c *container, r *race, d time.Duration) (s score) {
		t.Helper()
		out, err := c.start("race", fmt.Sprint(r.name, "\t", d))
		if err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		if err := json.Unmarshal(out, &s); err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		fmt.Printf("%s: %d tries, %d used, %d denied, %d with bad code\n", r.name, s.Tries, s.Used, s.Denied, s.Bad)
		if s.Untried != "" {
			t.Fatalf("could not try: %s", s.Untried)
		}
		return s
	}
	place := layout{volume: true}
	t.Run("baseline", func(t *testing.T) {
		for _, r := range races {
			t.Run(r.name, func(t *testing.T) {
				if s := tries(t, place.container(t), r, time.Second); s.Bad == 0 && !r.clean {
					t.Error("the bad code never runs, even without the verifier")
				}
			})
		}
	})
	e, err := enforce.Load(pinned)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("denied", func(t *testing.T) {
		for _, r := range races {
			t.Run(r.name, func(t *testing.T) {
				c := place.container(t)
				rules := enforce.Rules{Enforce: true, Mounts: []string{"/run"}}
				if r.rules != nil {
					r.rules(&rules)
				}
				if _, err := e.Add(enforce.Domain{Name: r.name, Cgroup: c.cgroup, Root: c.root, Rules: rules}, set); err != nil {
					t.Fatal(err)
				}
				s := tries(t, c, r, 2*time.Second)
				if s.Bad != 0 {
					t.Errorf("bad code ran in %d of %d tries", s.Bad, s.Tries)
				}
				if s.Tries == 0 || r.clean && s.Denied != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	})
}

// score is what came of the tries.
type score struct {
	Tries, Used, Denied, Bad int
	Untried                  string `json:",omitempty"`
}

// racer is the part in the container.
func racer(name string, d time.Duration) int {
	var s score
	err := tryIt(func() error {
		for _, r := range races {
			if r.name == name {
				s = r.run(d)
				return nil
			}
		}
		return untried{errors.New("no such race")}
	})
	if err != nil {
		s.Untried = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return 1
	}
	return 0
}

func (r *race) run(d time.Duration) (s score) {
	for end := time.Now().Add(d); time.Now().Before(end); s.Tries++ {
		name := fmt.Sprintf("%s/x%d", r.dir, s.Tries)
		copyOf(raced, name)
		var both sync.WaitGroup
		start := make(chan struct{})
		if r.change != nil {
			both.Go(func() { <-start; spin(); r.change(name) })
		}
		var wrong bool
		var err error
		both.Go(func() { <-start; spin(); wrong, err = r.use(name) })
		close(start)
		both.Wait()
		switch {
		case wrong:
			s.Bad++
		case err != nil:
			s.Denied++
		default:
			s.Used++
		}
		_ = os.Remove(name) // denied where the file was judged
	}
	return s
}

// spin takes some microseconds.
func spin() {
	for range rand.IntN(2000) {
		_ = time.Now()
	}
}

func rewrite(name string) {
	fd, err := unix.Open(name, unix.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Pwrite(fd, badCode(), 0)
}

func rewriteMapped(name string) {
	fd, err := unix.Open(name, unix.O_RDWR, 0)
	if err != nil {
		return
	}
	b, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	_ = unix.Close(fd)
	if err != nil {
		return
	}
	spin()
	b[statusAt] = bad43
	_ = unix.Munmap(b)
}

func empty(name string) {
	_ = open(name, unix.O_RDONLY|unix.O_TRUNC)
	_ = unix.Chmod(name, 0o777)
	rewrite(name)
	_ = unix.Truncate(name, 4096)
}

func replace(name string) {
	must(os.WriteFile(name+".bad", badCode(), 0o755))
	_ = os.Rename(name+".bad", name)
}

// run executes the file.
func run(name string) (bool, error) {
	err := exec.Command(name).Run()
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == bad43, err
}

// look maps the file as code and looks at that for a while.
func look(name string) (bad bool, err error) {
	f, err := os.Open(name)
	must(err)
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return false, err
	}
	defer unix.Munmap(b)
	debug.SetPanicOnFault(true) // where the file was emptied, there is no page
	defer func() {
		if recover() != nil {
			bad, err = false, nil
		}
	}()
	for range 20 {
		if b[statusAt] == bad43 {
			return true, nil
		}
		time.Sleep(50 * time.Microsecond)
	}
	return false, nil
}

// runMany executes the file by eight at once.
func runMany(name string) (bool, error) {
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = run(name) })
	}
	all.Wait()
	return false, errors.Join(errs...)
}
