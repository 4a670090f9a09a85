// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

func qemuArgs(image *Image, initrd string, c Config) []string {
	// With a thread for each CPU, QEMU before 8.1 sometimes runs code that the
	// guest has just patched away, and the kernel dies of its own int3 (mended
	// by "accel/tcg: Always lock pages before translation"). One thread for all
	// CPUs costs nothing where as many guests run as the host has processors.
	accel := []string{"-accel", "tcg,thread=single", "-cpu", "max"}
	cpus := cmp.Or(c.CPUs, 2)
	switch {
	case c.Icount:
		cpus = 1
		// Each round of a string instruction counts as one: with erms and fsrm the
		// kernel would copy byte by byte, which no processor does.
		accel = []string{"-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-cpu", "max,-erms,-fsrm"}
	case kvm(image):
		accel = []string{"-accel", "kvm", "-cpu", "host"}
	}
	return append(accel,
		"-m", strconv.Itoa(cmp.Or(c.Memory, 1024)),
		"-smp", strconv.Itoa(cpus),
		"-nodefaults", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		// Descriptor 3 of QEMU is the pipe that Run reads.
		"-chardev", "file,id=result,path=/dev/fd/3", "-serial", "chardev:result",
		"-kernel", image.Vmlinuz, "-initrd", initrd,
		"-append", bootFlags+" "+c.Append,
	)
}

// bootFlags end the guest when its kernel panics. On a busy host an emulated
// timer may tick too late for the check that the kernel makes of it.
const bootFlags = "console=ttyS0 panic=-1 no_timer_check quiet"

var kvmTried struct {
	sync.Once
	works bool
}

// kvm reports whether KVM runs a guest here. That /dev/kvm is there and opens
// says little (nested virtualisation may be broken, some even run firmware and
// then hang), so a kernel is booted that has no root: it must come as far as
// its panic.
func kvm(image *Image) bool {
	kvmTried.Do(func() {
		if _, err := os.Stat("/dev/kvm"); err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host",
			"-m", "512", "-smp", "2", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
			"-kernel", image.Vmlinuz, "-append", bootFlags).CombinedOutput()
		kvmTried.works = err == nil && bytes.Contains(out, []byte("Kernel panic"))
	})
	return kvmTried.works
}
