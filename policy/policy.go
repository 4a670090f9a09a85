// SPDX-License-Identifier: Apache-2.0

// Package policy is the file that tells a node which containers may run what:
// docs/policy.md describes it. Parse reads one, strictly, and For answers what
// holds for a container.
//
// It is pure: it reads no key, asks no kernel, and works on any system.
package policy

import (
	"maps"
	"slices"
	"time"
)

// Mode says what becomes of code that an image does not list.
type Mode string

// Audit reports, Enforce denies, Ignore does not look.
const (
	Audit   Mode = "audit"
	Enforce Mode = "enforce"
	Ignore  Mode = "ignore"
)

// Answer is what becomes of a container that nothing vouches for.
type Answer string

// AnswerAllow lets it run unwatched, AnswerAudit reports all that it runs, and
// AnswerDeny lets it run nothing.
const (
	AnswerAllow Answer = "allow"
	AnswerAudit Answer = "audit"
	AnswerDeny  Answer = "deny"
)

// Trust says what makes a file good: the image's list, a signature on the file
// itself, or both.
type Trust string

// The trust modes, as package enforce knows them.
const (
	TrustSBOM    Trust = "sbom"
	TrustKeyring Trust = "keyring"
	TrustBoth    Trust = "both"
)

// Kind is a kind of place to find attestations in.
type Kind string

// Directory is one on the node, Embedded is in the image itself, Registry is
// beside the image in its registry.
const (
	Directory Kind = "directory"
	Embedded  Kind = "embedded"
	Registry  Kind = "registry"
)

// Policy is a parsed file.
type Policy struct {
	// Keys are files or URIs of public keys or certificates.
	Keys []string
	// KeyLines has for each of Keys its line in the file.
	KeyLines   []int
	Identities []Identity
	// TrustRoot is the sigstore trusted root that Identities are checked with;
	// empty for the public one.
	TrustRoot string
	// Attestations are asked in their order.
	Attestations []Source
	// WithoutAgent tells the OCI hook what to do with a container while no agent
	// answers: AnswerAllow or AnswerDeny.
	WithoutAgent Answer
	// Default holds for containers that no match fits.
	Default Rules
	// Matches are asked in their order; the first that fits decides.
	Matches []Match
}

// Identity is a trusted signer without a key.
type Identity struct{ Subject, SubjectRegexp, Issuer, IssuerRegexp string }

// Source is a place to find attestations in.
type Source struct {
	Kind Kind
	// Path is that of a directory.
	Path string
}

// Rules say what holds in a container. Their JSON form has the names of the file's fields.
type Rules struct {
	Mode      Mode   `json:"mode"`
	Unblessed Answer `json:"unblessed"`
	Trust     Trust  `json:"trust"`

	JIT          bool `json:"jit,omitempty"`
	Soft         bool `json:"soft,omitempty"`
	Interpreters bool `json:"interpreters,omitempty"`
	GuardAll     bool `json:"guard-all,omitempty"`
	Devices      bool `json:"devices,omitempty"`
	// MaxSize denies larger files, unless 0.
	MaxSize uint64 `json:"max-size"`
	// Mounts are paths in the container.
	Mounts []string `json:"mounts,omitempty"`
	// Join names manifests whose lists count beside that of the container's image: NAME@sha256:…,
	// or a digest alone, which no registry can be asked for.
	Join []string `json:"join,omitempty"`

	// Digests are those of the manifests that count; none means any.
	Digests []string `json:"digests,omitempty"`
	// NotBefore refuses images that were blessed earlier, unless it is zero.
	NotBefore time.Time `json:"not-before,omitzero"`
}

// DefaultMaxSize is the size above which files are denied, unless a policy or a flag says
// otherwise. A task that waits for a hash cannot be killed before it is done.
const DefaultMaxSize = 1 << 30

// Match is a condition and what holds where it fits. Empty fields fit anything.
type Match struct {
	Image, Container, Namespace, Cgroup string
	Labels                              map[string]string
	Rules
	// Line is where it stands in the file.
	Line int
}

// Container is what is known of a container when it is matched.
type Container struct {
	// Image is its name as the runtime has it.
	Image string
	// Name is the container's, in a pod that of the pod's specification.
	Name string
	// Namespace is the pod's; outside of Kubernetes containerd's.
	Namespace string
	// Cgroup is the path below the root of the hierarchy.
	Cgroup string
	Labels map[string]string
}

// For gives the rules of a container, and the match they are from; nil means
// that none fits.
func (p *Policy) For(c Container) (Rules, *Match) {
	for i := range p.Matches {
		if m := &p.Matches[i]; m.fits(c) {
			return m.Rules, m
		}
	}
	return p.Default, nil
}

// Trusts lists the trust modes that the policy asks of the kernel.
func (p *Policy) Trusts() []Trust {
	asked := map[Trust]bool{}
	for r := range p.rules {
		if r.Mode != Ignore {
			asked[r.Trust] = true
		}
	}
	return slices.Sorted(maps.Keys(asked))
}

func (p *Policy) rules(yield func(*Rules) bool) {
	if !yield(&p.Default) {
		return
	}
	for i := range p.Matches {
		if !yield(&p.Matches[i].Rules) {
			return
		}
	}
}
