// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"strings"
	"testing"
)

// The median batch counts, against the same operation of phase "none".
func TestTable(t *testing.T) {
	all, err := parse(strings.NewReader(`noise
COST none stat 1000.0 0.0
COST none stat 3000.0 0.0
COST none stat 1100.0 0.0
COST enforced stat 1111.0 2000000.0
`))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	printTable(&out, boot{"6.12", "verifier"}, all)
	if want := "| stat | enforced | 1100 | 1111 | +11, +1.00 % | 2.00 |\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("%s, want %s", out.String(), want)
	}
	if _, err := parse(strings.NewReader("nothing\n")); err == nil {
		t.Error("nothing was measured, and nobody says so")
	}
}

func TestChoose(t *testing.T) {
	got, err := choose([]string{"7.3/ima", "6.12"})
	if err != nil || len(got) != 6 || got[0] != (boot{"7.3", "ima"}) || got[4] != (boot{"6.12", "fapolicyd"}) || got[5] != (boot{"6.12", "seals"}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := choose([]string{"5.10"}); err == nil {
		t.Errorf("%v for a kernel that is none", got)
	}
}
