// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestMedianIsTheRunOfMedianWallTime(t *testing.T) {
	runs := []usage{{wall: 3, cpu: 1}, {wall: 1, cpu: 2}, {wall: 2, cpu: 9}}
	if got := median(runs); got != runs[2] {
		t.Errorf("%+v", got)
	}
}

func TestMeasureSeesTheMemoryOfTheChild(t *testing.T) {
	u, err := measure(exec.Command("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"))
	if err != nil {
		t.Fatal(err)
	}
	if u.peak < 64<<20 || u.peak > 128<<20 || u.wall <= 0 {
		t.Errorf("%+v", u)
	}
}

func TestMeasureShowsWhatAFailedCommandSaid(t *testing.T) {
	_, err := measure(exec.Command("sh", "-c", "echo no such luck >&2; exit 3"))
	if err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Error(err)
	}
}

func TestRoundsAlternateAndLongRunsAreNotRepeated(t *testing.T) {
	var order []string
	take := func(name string, wall time.Duration) contestant {
		return contestant{name, func(string) (usage, error) {
			order = append(order, name)
			return usage{wall: wall}, nil
		}}
	}
	medians, err := compete(t.TempDir(), "test", []contestant{take("a", time.Second), take("b", time.Hour), take("c", time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "abccaac" {
		t.Error(got)
	}
	if len(medians) != 3 {
		t.Errorf("%+v", medians)
	}
}

func TestTheTableHasADashForWhatWasNotMeasured(t *testing.T) {
	var out strings.Builder
	printTable(&out, []row{{
		name: "large", in: layoutInfo{layers: []string{"a", "b"}, size: 2e6}, out: layoutInfo{size: 3e6},
		by: map[string]usage{"bless": {wall: 3 * time.Second, cpu: 4 * time.Second, peak: 5 << 20}, "gzip -dc": {wall: 2 * time.Second, cpu: time.Second}},
	}}, 2)
	if want := "| large | 2 | 2 | 3.00 | 4.00 | 5 | 1.500 | 1.50 | 4.00 | – | – | 0.00 | 0.00 | 0 | 0.00 | 0.00 | – | 0.00 | – | 0.00 |\n"; !strings.Contains(out.String(), want) {
		t.Error(out.String())
	}
}
