// SPDX-License-Identifier: Apache-2.0

//go:build linux

package churn

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/sbom-bless/sbom-bless/enforce"
)

// traces are what containers and agents can leave behind, by name: numbers of
// things, which must come back to what they were.
type traces map[string]int

// beyond gives what there is more of than before, and how much more.
func (t traces) beyond(before traces) traces {
	more := traces{}
	for what, n := range t {
		if n > before[what] {
			more[what] = n - before[what]
		}
	}
	return more
}

// look counts what is there.
func look() (traces, error) {
	t := traces{}
	for kind, next := range map[string]func() error{
		"maps in the kernel":     func() error { return eachMap(t) },
		"programs in the kernel": func() error { return eachID(t, "programs", ebpf.ProgramGetNextID) },
		"links in the kernel": func() error {
			it := new(link.Iterator)
			defer it.Close()
			for it.Next() {
				t["links"]++
			}
			return it.Err()
		},
		"pins":    func() error { return eachFile(t, enforce.DefaultPins) },
		"state":   func() error { return eachFile(t, enforce.DefaultState) },
		"cgroups": func() error { return eachFile(t, "/sys/fs/cgroup") },
	} {
		if err := next(); err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
	}
	return t, nil
}

// eachMap counts the maps of each name, and the entries of those that name
// containers and files.
func eachMap(t traces) error {
	return each(ebpf.MapGetNextID, func(id ebpf.MapID) error {
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(info.Name, "bless_")
		t["maps "+name]++
		switch name {
		case "domains", "cgroups", "roots", "mounts", "sets", "objects":
			key, value := make([]byte, info.KeySize), make([]byte, info.ValueSize)
			it := m.Iterate()
			for it.Next(&key, &value) {
				t["entries of "+name]++
			}
			return it.Err()
		}
		return nil
	})
}

func eachID[ID ~uint32](t traces, name string, next func(ID) (ID, error)) error {
	return each(next, func(ID) error { t[name]++; return nil })
}

func each[ID ~uint32](next func(ID) (ID, error), f func(ID) error) error {
	for id := ID(0); ; {
		var err error
		if id, err = next(id); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if err := f(id); err != nil {
			return err
		}
	}
}

// eachFile counts the directories and files below dir, by the directory they are in.
func eachFile(t traces, dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		if d.IsDir() || !strings.HasPrefix(dir, "/sys/fs/cgroup") {
			t["files in "+digits.ReplaceAllString(filepath.Dir(name), "N")]++
		}
		return nil
	})
}

// digits of a name tell one container from the next.
var digits = regexp.MustCompile("[0-9]+$")

// kernelMemory is what the kernel keeps that nobody can take back, in KiB.
func kernelMemory() (int, error) {
	// Caches go; what waits for a grace period gets the time.
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return 0, err
	}
	time.Sleep(2 * time.Second)
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sum := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var name string
		var kib int
		if n, _ := fmt.Sscanf(lines.Text(), "%s %d", &name, &kib); n != 2 {
			continue
		}
		switch strings.TrimSuffix(name, ":") {
		case "Slab", "VmallocUsed", "Percpu", "PageTables", "Shmem": // stacks are in VmallocUsed
			sum += kib
		}
	}
	return sum, nil
}
