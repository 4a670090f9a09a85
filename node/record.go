// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// record is a container that the verifier has, as the agent remembers it across
// its own restarts.
type record struct {
	Container Container `json:"container"`
	Domain    uint32    `json:"domain"`
	// Inode is that of the cgroup: another container may come under the same name.
	Inode uint64 `json:"inode"`
	// Silent: the policy leaves it alone now. Its tasks stay labelled, so it stays
	// registered, and its events are dropped.
	Silent bool `json:"silent,omitempty"`
	// Exempt: the policy leaves it alone, and it is registered only because its pod is closed.
	Exempt bool `json:"exempt,omitempty"`
	// Enforce is what the policy says, be the glass broken or not.
	Enforce bool `json:"enforce,omitempty"`
	// Reason is that of an unblessed container.
	Reason string `json:"reason,omitempty"`
	// List is the digest of its list, Files how many that has.
	List  string `json:"list,omitempty"`
	Files int    `json:"files,omitempty"`
}

// known gives the record of the container, if it is of this life of it. Then c is in the
// cgroup that was recorded: systemd and others in a container move it below, and a runtime
// may name one above.
func (a *Agent) known(c *Container) *record {
	r := a.records[c.key()]
	if r == nil {
		return nil
	}
	cgroup := r.Container.Cgroup
	if ino, err := inode(cgroup); err != nil || ino != r.Inode || !below(cgroup, c.Cgroup) && !below(c.Cgroup, cgroup) {
		return nil
	}
	c.Cgroup = cgroup
	return r
}

// below tells whether a directory is another or below it.
func below(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }

func (a *Agent) recordPath(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(a.o.State, "containers", hex.EncodeToString(sum[:16])+".json")
}

// keep remembers r.
func (a *Agent) keep(r *record) error {
	a.records[r.Container.key()] = r
	return writeJSON(a.recordPath(r.Container.key()), r)
}

// drop forgets a record.
func (a *Agent) drop(key string) error {
	delete(a.records, key)
	delete(a.behind, key)
	delete(a.beginning, key)
	if err := os.Remove(a.recordPath(key)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readRecords reads what an agent before this one kept.
func (a *Agent) readRecords() error {
	files, err := filepath.Glob(filepath.Join(a.o.State, "containers", "*.json"))
	if err != nil {
		return err
	}
	for _, name := range files {
		r := new(record)
		if err := readJSON(name, r); err != nil {
			return err
		}
		a.records[r.Container.key()] = r
		a.begins(r.Container.key())
	}
	return nil
}

func inode(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	return st.Ino, nil
}

// writeJSON writes a file at once: readers, and whoever comes after a crash, see
// the old one or the new.
func writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(name, b)
}

func writeFile(name string, b []byte) error {
	staged, err := stageFile(name, b)
	if err != nil {
		return err
	}
	if err := os.Rename(staged, name); err != nil {
		return errors.Join(err, os.Remove(staged))
	}
	return nil
}

// stageFile writes what a rename to name makes the file.
func stageFile(name string, b []byte) (staged string, err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func readJSON(name string, v any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
