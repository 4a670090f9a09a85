// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package node is the agent of a node. It learns from container runtimes which
// containers there are and which images they were made of, decides by a policy
// (package policy) under which file list each runs, and tells the verifier
// (package enforce), which does the rest in the kernel.
//
// An [Agent] decides; a [Runtime], by itself or asked by [NRI] or the OCI hook (through
// [Server]), brings it containers. No task ever waits for the agent but one that is about
// to start.
package node

import (
	"context"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/diagnose"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/refname"
	"github.com/sbom-bless/sbom-bless/policy"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Container is one, as its runtime tells of it.
type Container struct {
	// Runtime is "containerd", "podman", "cri-o" or "oci".
	Runtime string `json:"runtime"`
	// ID is unique in the runtime: of containerd's, with its namespace in front.
	ID string `json:"id"`
	// Image is its name as the runtime has it.
	Image     string            `json:"image"`
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Sandbox: the runtime itself made it to hold a pod's namespaces open. Its image is
	// the node operator's choice, and no word of a pod's author makes a container one.
	Sandbox bool `json:"sandbox,omitempty"`
	// Cgroup is its directory.
	Cgroup string `json:"cgroup"`
	// PID is a process of it, Root its root filesystem as the agent reaches it.
	PID  int    `json:"pid"`
	Root string `json:"root"`
	// RootAt is where that was when the verifier got it.
	RootAt place `json:"root-at,omitzero"`
	// Digest is that of the platform's manifest, as the runtime resolved it; if
	// it is empty, Problem says why.
	Digest  string `json:"digest,omitempty"`
	Problem string `json:"problem,omitempty"`

	// The image as the runtime keeps it; nil if it does not.
	content  transport.Fetcher
	manifest v1.Descriptor
	// runtime is containerd's name of what runs it.
	runtime string
}

// key tells containers apart.
func (c *Container) key() string { return c.Runtime + "/" + c.ID }

// cgroups is the cgroup above all others.
const cgroups = "/sys/fs/cgroup"

// match is what the policy looks at.
func (c *Container) match() policy.Container {
	return policy.Container{
		Image: c.Image, Name: c.Name, Namespace: c.Namespace, Labels: c.Labels,
		Cgroup: strings.TrimPrefix(c.Cgroup, cgroups),
	}
}

// pod is the name of its pod, where the runtime tells.
func (c *Container) pod() string { return c.Labels[labelPod] }

// image names the manifest: the name without its tag, and the digest.
func (c *Container) image() string {
	if c.Digest == "" {
		return c.Image
	}
	return refname.Repository(c.Image) + "@" + c.Digest
}

// Runtime is what runs containers, and knows which images they are of: [Containerd], or
// [Storage] for podman and CRI-O. Each brings its containers to the agent by [Agent.Admit].
type Runtime interface {
	// Scan brings the containers that run.
	Scan(ctx context.Context) error
	// AdmitStarting brings one that is made and waits to be started. The error is a *Refused if
	// the policy forbids the start.
	AdmitStarting(ctx context.Context, id string) error
	// Sandbox finds the container that holds a pod's namespaces open; nil: there is none that
	// a closed pod may rely on.
	Sandbox(ctx context.Context, id string) (*Container, error)
}

// Verifier is what the agent needs of an [enforce.Enforcer].
type Verifier interface {
	Prepare(d enforce.Domain, set enforce.Set) error
	Add(d enforce.Domain, set enforce.Set) (uint32, error)
	Update(d enforce.Domain, set enforce.Set) error
	SetEnforce(id uint32, enforce bool) error
	Remove(d enforce.Domain) error
	Domains() ([]enforce.Domain, error)
	Label() error
	Listing(domain uint32, path, sha256 string) (*enforce.Listing, error)
	// Counters and LastProof are for metrics.
	Counters() (map[string]uint64, error)
	LastProof() (*enforce.Proof, error)
}

// List is a verified file list.
type List struct {
	enforce.Set
	// Blessed is when the image was, as whoever signed the list says; zero: they do
	// not say.
	Blessed time.Time
}

// Lists gives the list of a container's image. An *Unblessed error says that there
// is none that counts.
type Lists func(ctx context.Context, c *Container) (List, error)

// Ready is a policy made ready: its keys are read, and this kernel can do what it asks.
type Ready struct {
	Lists Lists
	// Use makes the policy's keys those of the kernel.
	Use func() error
}

// Unblessed says why nothing vouches for a container.
type Unblessed struct {
	// Reason is a code of docs/enforce.md.
	Reason string
	Err    error
}

func (u *Unblessed) Error() string { return u.Err.Error() }
func (u *Unblessed) Unwrap() error { return u.Err }

// Reasons of Unblessed.
const (
	ReasonNoImage       = "no-image"        // the runtime cannot say which manifest it is of
	ReasonNoAttestation = "no-attestation"  // nobody says anything of that manifest
	ReasonUntrusted     = "untrusted"       // somebody does, but none that the policy trusts
	ReasonUnreachable   = "unreachable"     // who would know could not be asked
	ReasonDamaged       = "damaged"         // an attestation lacks a part, or was altered
	ReasonOtherDigest   = "other-digest"    // the policy names other digests for it
	ReasonTooOld        = "too-old"         // blessed before the policy's not-before
	ReasonNotEnforced   = "not-enforceable" // the verifier cannot take it as the policy wants
)

// ReasonNoSeccomp is that of a notice about an enforced container without a seccomp profile.
const ReasonNoSeccomp = "no-seccomp"

// Notice is what the agent reports of itself and of containers. Its JSON form
// goes into the stream of events, and shares their names.
type Notice struct {
	Time      time.Time `json:"time"`
	Container string    `json:"container,omitempty"`
	Image     string    `json:"image,omitempty"`
	Domain    uint32    `json:"domain,omitempty"`
	// Operation is "container", "drift", "policy", "break-glass", "runtime", "pins" or "verifier".
	Operation string `json:"operation"`
	Action    string `json:"action"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message"`
	Mode      string `json:"mode,omitempty"`
	Path      string `json:"path,omitempty"`
	SHA256    string `json:"sha256,omitempty"`
	PID       int    `json:"pid,omitempty"`
	Command   string `json:"command,omitempty"`
	// Namespace, Pod and Rules are those of a container that was decided about.
	Namespace string        `json:"namespace,omitempty"`
	Pod       string        `json:"pod,omitempty"`
	Rules     *policy.Rules `json:"rules,omitempty"`
}

// record is the notice as whoever reads events has it.
func (n *Notice) record() diagnose.Record {
	return diagnose.Record{
		Event: enforce.Event{
			Time: n.Time, Container: n.Container, Image: n.Image, Domain: n.Domain, Operation: n.Operation, Action: n.Action, Reason: n.Reason,
			Message: n.Message, Path: n.Path, SHA256: n.SHA256, PID: uint32(n.PID), Command: n.Command,
		},
		Namespace: n.Namespace, Pod: n.Pod, Rules: n.Rules,
	}
}
