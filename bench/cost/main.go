// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command cost counts what the verifier costs, in instructions of a guest whose
// clock counts them (QEMU's -icount): the figures repeat to well under 1 %
// however busy the machine is. What is compared is measured in one boot.
//
//	go run ./bench/cost [KERNEL[/SCENARIO]...]
//
// Scenarios are verifier, wall (the same in wall time, which repeats to some per
// cent at best), ima (the kernel's own appraisal), fapolicyd (Debian's), and seals
// (the verifier where the agent hashes). Without arguments it takes every kernel with
// the first three, and the others on one.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/testfapolicyd"
	"github.com/sbom-bless/sbom-bless/internal/testima"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

//go:embed loop/loop.c
var loopSource []byte

// someKernel is the one kernel that fapolicyd and seals are measured on.
const someKernel = "6.12"

func main() {
	if vm.Guest() != "" {
		if err := guest(os.Args[1]); err != nil {
			fmt.Println("cost:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := host(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cost:", err)
		os.Exit(1)
	}
}

func host(ctx context.Context, names []string) error {
	runs, err := choose(names)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "sbom-bless-cost-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b, err := newBoots(ctx, tmp)
	if err != nil {
		return err
	}
	for _, r := range runs {
		fmt.Fprintf(os.Stderr, "cost: %s: %s\n", r.kernel, r.scenario)
		results, err := b.run(ctx, r.kernel, r.scenario)
		if err != nil {
			return fmt.Errorf("%s: %w", r.scenario, err)
		}
		printTable(os.Stdout, r, results)
	}
	return nil
}

// boot is one guest to measure in.
type boot struct {
	kernel   vm.Kernel
	scenario string
}

// choose gives what the arguments name: "7.3", or "7.3/ima".
func choose(names []string) ([]boot, error) {
	if len(names) == 0 {
		for _, k := range vm.Kernels {
			names = append(names, string(k))
		}
	}
	var list []boot
	for _, name := range names {
		kernel, only, some := strings.Cut(name, "/")
		k := vm.Kernel(kernel)
		if !slices.Contains(vm.Kernels, k) {
			return nil, fmt.Errorf("kernel %q is not one of %v", kernel, vm.Kernels)
		}
		if some {
			list = append(list, boot{k, only})
			continue
		}
		for _, scenario := range scenarios(k) {
			list = append(list, boot{k, scenario})
		}
	}
	return list, nil
}

func scenarios(k vm.Kernel) []string {
	list := []string{"verifier", "wall", "ima"}
	if k == someKernel {
		list = append(list, "fapolicyd", "seals")
	}
	return list
}

// boots is what every guest gets.
type boots struct {
	program string
	files   map[string]string
}

// newBoots compiles the guest's programs and makes its keys.
func newBoots(ctx context.Context, tmp string) (*boots, error) {
	in := func(name string) string { return filepath.Join(tmp, name) }
	b := &boots{program: in("cost"), files: map[string]string{"/image/bin/loop": in("loop"), keyDir: in("keys")}}
	if err := os.WriteFile(in("loop.c"), loopSource, 0o644); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"gcc", "-static", "-O2", "-Wall", "-Werror", "-o", in("loop"), in("loop.c")},
		{"env", "CGO_ENABLED=0", "go", "build", "-o", b.program, "github.com/sbom-bless/sbom-bless/bench/cost"},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", args[0], err, out)
		}
	}
	if err := os.Mkdir(in("keys"), 0o755); err != nil {
		return nil, err
	}
	for _, kind := range []string{"rsa-2048", "ecdsa-p256"} {
		if err := testima.MakeKey(in("keys/"+kind), kind); err != nil {
			return nil, err
		}
	}
	programs, err := vm.Programs("true")
	if err != nil {
		return nil, err
	}
	for name, from := range programs {
		b.files["/image"+name] = from
	}
	return b, nil
}

func (b *boots) run(ctx context.Context, k vm.Kernel, scenario string) (results, error) {
	c := vm.Config{
		Kernel: k, Program: b.program, Args: []string{scenario}, Files: b.files,
		Icount: scenario != "wall", CPUs: 1, Memory: 1536, Timeout: 30 * time.Minute,
		Append: "norandmaps", // addresses that vary make page tables that vary
	}
	switch scenario {
	case "ima":
		c.Append += " ima_appraise=enforce"
	case "seals":
		c.Append += " ima_hash=sha1"
	case "fapolicyd":
		daemon, err := testfapolicyd.Files(ctx)
		if err != nil {
			return nil, err
		}
		c.Files = map[string]string{}
		for _, m := range []map[string]string{b.files, daemon} {
			for name, from := range m {
				c.Files[name] = from
			}
		}
	}
	r, err := vm.Run(ctx, c)
	if err != nil {
		return nil, err
	}
	if r.Exit != 0 {
		return nil, fmt.Errorf("kernel %s: exit status %d\n%s", k, r.Exit, r.Output)
	}
	return parse(bytes.NewReader(r.Output))
}
