// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// CanarySet is the name of the canary's set; events about it are no news.
const CanarySet = "canary"

// canary is a container of the agent's own, with one listed program.
type canary struct {
	Domain
	good, bad string
}

// Canary proves that the verifier is in force: in a container of its own, a
// listed program must run and one that differs by a byte must get EPERM.
func (e *Enforcer) Canary() error {
	if e.canary == nil {
		if err := e.addCanary(); err != nil {
			return fmt.Errorf("canary: %w", err)
		}
	}
	if err := runIn(e.canary.Cgroup, e.canary.good); err != nil {
		return fmt.Errorf("canary: a listed program does not run: %w", err)
	}
	switch err := runIn(e.canary.Cgroup, e.canary.bad); {
	case err == nil:
		return errors.New("canary: a program that is not listed runs: the verifier is not in force")
	case !errors.Is(err, syscall.EPERM):
		return fmt.Errorf("canary: a program that is not listed: %w", err)
	}
	return nil
}

func (e *Enforcer) addCanary() error {
	program := tiny()
	if program == nil {
		return fmt.Errorf("no test program for %s: %w", runtime.GOARCH, ErrNotSupported)
	}
	dir, err := os.MkdirTemp(e.options.State, "canary-")
	if err != nil {
		return err
	}
	c := &canary{good: filepath.Join(dir, "listed"), bad: filepath.Join(dir, "unlisted")}
	if err := errors.Join(os.WriteFile(c.good, program, 0o700), os.WriteFile(c.bad, append(program, 0), 0o700)); err != nil {
		return err
	}
	cgroup, err := NewCgroup(filepath.Base(dir))
	if err != nil {
		return err
	}
	c.Domain = Domain{Name: filepath.Base(dir), Cgroup: cgroup, Root: dir, HostRoot: true, Rules: Rules{Enforce: true, Soft: true}}
	set := Set{Name: CanarySet, Files: []File{{Path: c.good, SHA256: sha256.Sum256(program)}}}
	if c.Domain, err = e.add(c.Domain, set); err != nil {
		return err
	}
	e.canary = c
	return nil
}

// removeCanary takes the canary's container away.
func (e *Enforcer) removeCanary() error {
	if e.canary == nil {
		return nil
	}
	return errors.Join(e.Remove(e.canary.Domain), os.RemoveAll(e.canary.Root))
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
