// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command guest is PID 1 of the virtual machines that package vm boots. It
// moves the initrd to a tmpfs (from the first root of the kernel nobody can
// pivot_root, and container runtimes want to), mounts what a Debian system has
// mounted, loads modules, runs the one program and ends the machine.
package main

import "github.com/sbom-bless/sbom-bless/internal/vm"

func main() { vm.Init() }
