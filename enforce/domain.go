// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"time"
)

// Domain is a container as the verifier knows it.
type Domain struct {
	ID uint32 `json:"id"`
	// Name is for people: a container's name or id.
	Name string `json:"name"`
	// Image names the set.
	Image string `json:"image"`
	// Cgroup is a directory of the cgroup v2 hierarchy; the tasks in it and
	// below belong to the domain, and stay of it wherever they go.
	Cgroup string `json:"cgroup"`
	// Root is the directory where the container's root filesystem is mounted,
	// as the agent sees it.
	Root string `json:"root"`
	// HostRoot: the tasks see the host's root filesystem, and Root says only
	// where listed files may be.
	HostRoot bool `json:"hostRoot,omitempty"`
	// Closed: tasks in the cgroup and below it that no other domain has may execute nothing, but
	// for those in the host's root filesystem, which are a runtime's. It has no Root and no list.
	Closed bool `json:"closed,omitempty"`
	// Exempt: tasks in the cgroup belong to no domain, a closed one above it or not. No Root, no list.
	Exempt bool `json:"exempt,omitempty"`
	Rules
	SetID uint32    `json:"set"`
	List  string    `json:"list,omitempty"` // [Set.Digest]
	Added time.Time `json:"added"`
}

// Trust is what makes a file good.
type Trust string

// The values of Trust.
const (
	TrustSBOM    Trust = "sbom"    // its digest is in the set of the image; the empty Trust means this one
	TrustKeyring Trust = "keyring" // the kernel verifies its security.bpf.bless with the keys of SetKeys
	TrustBoth    Trust = "both"    // one and the other
)

// ParseTrust reads the name of a Trust.
func ParseTrust(s string) (Trust, error) {
	switch t := Trust(s); t {
	case "":
		return TrustSBOM, nil
	case TrustSBOM, TrustKeyring, TrustBoth:
		return t, nil
	}
	return "", fmt.Errorf("trust %q: sbom, keyring and both are known", s)
}

// Listed tells whether a file must be in the set.
func (t Trust) Listed() bool { return t != TrustKeyring }

// Signed tells whether a file must be signed.
func (t Trust) Signed() bool { return t == TrustKeyring || t == TrustBoth }

// Rules say what holds in a domain. The zero value only reports.
type Rules struct {
	Trust Trust `json:"trust,omitempty"`
	// Enforce denies; otherwise would-be denials are reported.
	Enforce bool `json:"enforce"`
	// Soft accepts files of the writable layer, if listed and while nobody can
	// write to them: for images whose entrypoint changes owner or mode of its files.
	Soft bool `json:"soft,omitempty"`
	// JIT allows executable memory that was written to: anonymous memory, and what listed
	// files ask for, as an executable stack.
	JIT bool `json:"jit,omitempty"`
	// Interpreters judges files with a code suffix when they are opened.
	Interpreters bool `json:"interpreters,omitempty"`
	// GuardAll guards every file of the image against change, not code alone.
	GuardAll bool `json:"guardAll,omitempty"`
	// Mounts are directories in Root on further filesystems that listed files may be run from.
	Mounts []string `json:"mounts,omitempty"`
	// Devices lets it open block devices for writing.
	Devices bool `json:"devices,omitempty"`
	// MaxSize denies larger files, unless 0.
	MaxSize uint64 `json:"maxSize,omitempty"`
}

var errNoCgroup = errors.New("a domain needs a cgroup")
