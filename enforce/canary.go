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
	"syscall"
)

// Canary proves that the verifier is in force: in a container of its own, a
// listed program must run and one that differs by a byte must get EPERM.
func (e *Enforcer) Canary() (err error) {
	program := tiny()
	if program == nil {
		return fmt.Errorf("canary: %w: no test program for this architecture", ErrNotSupported)
	}
	dir, err := os.MkdirTemp(e.options.State, "canary-")
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	good, bad := filepath.Join(dir, "listed"), filepath.Join(dir, "unlisted")
	if err := errors.Join(os.WriteFile(good, program, 0o700), os.WriteFile(bad, append(program, 0), 0o700)); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	cgroup, err := NewCgroup(filepath.Base(dir))
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(cgroup)) }()
	d := Domain{Name: filepath.Base(dir), Cgroup: cgroup, Root: dir, HostRoot: true, Rules: Rules{Enforce: true, Soft: true}}
	d.ID, err = e.Add(d, Set{Name: "canary", Files: []File{{Path: good, SHA256: sha256.Sum256(program)}}})
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	domains, err := e.Domains()
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	for _, known := range domains {
		if known.ID == d.ID {
			d = known
		}
	}
	defer func() { err = errors.Join(err, e.Remove(d)) }()
	if err := runIn(cgroup, good); err != nil {
		return fmt.Errorf("canary: a listed program does not run: %w", err)
	}
	switch err := runIn(cgroup, bad); {
	case err == nil:
		return errors.New("canary: a program that is not listed runs: the verifier is not in force")
	case !errors.Is(err, syscall.EPERM):
		return fmt.Errorf("canary: a program that is not listed: %w", err)
	}
	return nil
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
