// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	ownCgroups = cgroupRoot + "/sbom-bless"
)

// NewCgroup makes the cgroup sbom-bless/NAME and gives its directory.
func NewCgroup(name string) (string, error) {
	dir := filepath.Join(ownCgroups, name)
	if err := probeCgroup(); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// JoinCgroup moves the calling process to the cgroup dir.
func JoinCgroup(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// CgroupOf gives the cgroup directory of a process.
func CgroupOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(cgroupRoot, path), nil
		}
	}
	return "", fmt.Errorf("process %d is in no cgroup of version 2", pid)
}

// Empty tells whether no process is left in the domain's cgroup, or below.
func (d *Domain) Empty() (bool, error) {
	b, err := os.ReadFile(filepath.Join(d.Cgroup, "cgroup.events"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return strings.Contains(string(b), "populated 0"), nil
}
