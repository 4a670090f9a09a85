// SPDX-License-Identifier: Apache-2.0

// Package enforce lets a container execute only the files that its image
// lists, unmodified. Its BPF LSM programs (bpf/bless.bpf.c) decide in the
// kernel; the package loads and pins them, tells them which cgroups and root
// filesystems are containers and which SHA-256 digests each may run, and reads
// what they report.
//
// Start with [Probe], which tells what this kernel can do, then [Load]. A
// [Set] is the file list of one image, a [Domain] one container under one set.
//
// It does not fetch images or verify attestations: a set is trusted by whoever
// adds it.
package enforce

import "errors"

// ErrNotSupported is wrapped by errors that mean that this kernel, as it
// was booted and configured, lacks something the programs need.
var ErrNotSupported = errors.New("not supported by this kernel")

// ErrNotLoaded is wrapped by errors that mean that no programs are pinned.
var ErrNotLoaded = errors.New("the verifier is not loaded")

// ErrUnfit is wrapped by errors that mean that a container cannot be had under
// the rules asked for: its root filesystem or a mount is not as they need it.
var ErrUnfit = errors.New("does not fit the rules")

// Where a node's verifier is, unless told otherwise.
const (
	DefaultPins  = "/sys/fs/bpf/sbom-bless"
	DefaultState = "/run/sbom-bless"
)
