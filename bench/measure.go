// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// usage is what one run took. Peak is in bytes, and zero where it was not measured.
type usage struct {
	wall, cpu time.Duration
	peak      int64
}

// A contestant does its work in a directory of its own, which is fresh each time.
type contestant struct {
	name string
	run  func(dir string) (usage, error)
}

// long is what a run may take without being repeated.
const long = time.Minute

// compete runs all contestants a number of rounds, in turns and in alternating
// order, so that what else the machine does hits all of them alike. The result
// is the run of median wall time of each.
func compete(tmp, image string, contestants []contestant) (map[string]usage, error) {
	runs := map[string][]usage{}
	for round := range rounds {
		order := slices.Clone(contestants)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, c := range order {
			if had := runs[c.name]; len(had) > 0 && had[0].wall > long {
				continue
			}
			u, err := once(tmp, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Fprintf(os.Stderr, "bench: %s, round %d: %s %.2f s\n", image, round+1, c.name, u.wall.Seconds())
			runs[c.name] = append(runs[c.name], u)
		}
	}
	medians := map[string]usage{}
	for name, all := range runs {
		medians[name] = median(all)
	}
	return medians, nil
}

func once(tmp string, c contestant) (usage, error) {
	dir := filepath.Join(tmp, "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return usage{}, err
	}
	defer os.RemoveAll(dir)
	syscall.Sync() // what the last one wrote is not to slow this one down
	return c.run(dir)
}

func median(all []usage) usage {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b usage) int { return cmp.Compare(a.wall, b.wall) })
	return sorted[len(sorted)/2]
}

// measure runs a command. What it prints is shown when it fails.
func measure(cmd *exec.Cmd) (usage, error) {
	started := time.Now()
	out, err := cmd.CombinedOutput()
	wall := time.Since(started)
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, out)
	}
	rusage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return usage{
		wall: wall,
		cpu:  cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		peak: rusage.Maxrss << 10, // KiB on Linux
	}, nil
}
