// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// CanarySet is the name of the canary's set, which no image can have; events
// about it are no news.
const CanarySet = "(canary)"

// canary is a container of the agent's own, with one good program and one
// that differs from it by a byte. They are on a tmpfs that is mounted nowhere:
// hosts mount /run and /tmp with noexec.
type canary struct {
	Domain
	mount *os.File
}

// Proof is what came of a canary.
type Proof struct {
	Time time.Time `json:"time"`
	// Error says what is wrong; empty if nothing is.
	Error string `json:"error,omitempty"`
}

// Canary proves that the verifier is in force and can see: a listed program
// must run, another must get EPERM, no IMA rule for files may have come where the
// kernel hashes them, and the kernel may not have skipped a program.
func (e *Enforcer) Canary() error {
	proof := Proof{Time: time.Now().UTC()}
	err := e.sing()
	if err != nil {
		err = fmt.Errorf("canary: %w", err)
		proof.Error = err.Error()
	}
	if e.options.State == "" {
		return err
	}
	b, failed := json.Marshal(proof)
	if failed == nil {
		failed = writeNew(e.proofPath(), b)
	}
	return errors.Join(err, failed)
}

func (e *Enforcer) sing() error {
	ahead, err := e.HashedAhead()
	if err == nil && !ahead {
		err = checkIMA()
	}
	if err := errors.Join(err, e.checkMisses()); err != nil {
		return err
	}
	if e.canary == nil {
		c, err := e.newCanary(TrustSBOM, nil)
		if err != nil {
			return err
		}
		e.canary = c
	}
	return e.canary.try()
}

// checkMisses refuses a kernel that skipped one of our programs: what that had
// to judge was allowed. Those that pass checkSkips never do.
func (e *Enforcer) checkMisses() error {
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	var key uint64
	var object uint8
	it := e.maps["objects"].Iterate()
	for it.Next(&key, &object) {
		if key>>32 != 1 { // no program
			continue
		}
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(key))
		if errors.Is(err, fs.ErrNotExist) { // of an older version
			continue
		}
		if err == nil {
			err = errors.Join(missed(p), p.Close())
		}
		if err != nil {
			return fmt.Errorf("program %d: %w", uint32(key), err)
		}
	}
	return it.Err()
}

func missed(p *ebpf.Program) error {
	info, err := p.Info()
	if err != nil {
		return err
	}
	stats, err := p.Stats()
	if err != nil {
		return err
	}
	if stats.RecursionMisses > 0 {
		return fmt.Errorf("the kernel skipped %s %d times, and what it had to judge was allowed\n"+
			"hint: boot another kernel, and report this with the output of uname -a", info.Name, stats.RecursionMisses)
	}
	return nil
}

// LastProof gives what came of the last Canary, of whatever process; nil if there was none.
func (e *Enforcer) LastProof() (*Proof, error) {
	b, err := os.ReadFile(e.proofPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := new(Proof)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("%s: %w", e.proofPath(), err)
	}
	return p, nil
}

func (e *Enforcer) proofPath() string { return filepath.Join(e.options.State, "canary.json") }

// newCanary registers a canary; signature, unless nil, is the
// security.bpf.bless of its good program.
func (e *Enforcer) newCanary(trust Trust, signature []byte) (*canary, error) {
	mount, err := detachedTmpfs()
	if err != nil {
		return nil, err
	}
	c := &canary{mount: mount}
	if err := e.addCanary(c, trust, signature); err != nil {
		return nil, errors.Join(err, mount.Close())
	}
	return c, nil
}

func (e *Enforcer) addCanary(c *canary, trust Trust, signature []byte) error {
	program := tiny()
	if program == nil {
		return fmt.Errorf("no test program for %s: %w", runtime.GOARCH, ErrNotSupported)
	}
	for name, content := range map[string][]byte{"good": program, "bad": append(program, 0)} {
		if err := os.WriteFile(c.path(name), content, 0o700); err != nil {
			return err
		}
	}
	// Where digests are computed ahead, the bad one has one, too: that no list has it is why it is denied.
	if err := e.Prepare(Domain{Root: c.path(".")}, Set{Files: []File{{Path: "/bad"}}}); err != nil {
		return err
	}
	if signature != nil {
		if err := unix.Setxattr(c.path("good"), "security.bpf.bless", signature, 0); err != nil {
			return fmt.Errorf("setxattr: %w", err)
		}
	}
	name := fmt.Sprintf("canary-%08x", rand.Uint32())
	cgroup, err := NewCgroup(name)
	if err != nil {
		return err
	}
	c.Domain, err = e.add(Domain{
		Name: name, Cgroup: cgroup, Root: c.path("."), HostRoot: true,
		Rules: Rules{Enforce: true, Soft: true, Trust: trust},
	}, Set{Name: CanarySet, Files: []File{{Path: "/good", SHA256: sha256.Sum256(program)}}})
	return err
}

// detachedTmpfs makes a tmpfs that goes when the file is closed.
func detachedTmpfs() (*os.File, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("tmpfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("tmpfs: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("tmpfs: %w", err)
	}
	return os.NewFile(uintptr(mount), "tmpfs"), nil
}

// inMount names a file of a mount that is nowhere.
func inMount(mount *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", mount.Fd(), name)
}

func (c *canary) path(name string) string { return inMount(c.mount, name) }

// try runs both programs.
func (c *canary) try() error {
	if err := runIn(c.Cgroup, c.path("good")); err != nil {
		return fmt.Errorf("a good program does not run: %w", err)
	}
	switch err := runIn(c.Cgroup, c.path("bad")); {
	case err == nil:
		return errors.New("a bad program runs: the verifier is not in force")
	case !errors.Is(err, syscall.EPERM):
		return fmt.Errorf("a bad program: %w", err)
	}
	return nil
}

// removeCanary takes a canary away; nil is none.
func (e *Enforcer) removeCanary(c *canary) error {
	if c == nil {
		return nil
	}
	return errors.Join(e.removeNow(c.Domain), c.mount.Close())
}

// runIn runs program in a new process of the cgroup.
func runIn(cgroup, program string) error {
	dir, err := os.Open(cgroup)
	if err != nil {
		return err
	}
	defer dir.Close()
	cmd := exec.Command(program)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return cmd.Run()
}
