// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"fmt"
	"time"
)

// Event is one report of the verifier. Field names of the JSON form are
// documented in docs/enforce.md.
type Event struct {
	Time      time.Time `json:"time"`
	Container string    `json:"container,omitempty"`
	Image     string    `json:"image,omitempty"`
	Domain    uint32    `json:"domain"`
	Cgroup    uint64    `json:"cgroup"`
	// Action is "denied", "reported" (it would have been denied) or "allowed"
	// (the first time this file was judged).
	Action string `json:"action"`
	// Operation is what was tried, such as "exec" or "mmap".
	Operation string `json:"operation"`
	// Reason is a code of docs/enforce.md; empty when allowed.
	Reason string `json:"reason,omitempty"`
	// Message says it in one line.
	Message string `json:"message"`
	Path    string `json:"path,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	// Package is the one that lists the file, or the path.
	Package string `json:"package,omitempty"`
	PID     uint32 `json:"pid"`
	Command string `json:"command"`
	// Ancestors are the parent and those above it, four at most.
	Ancestors []Process `json:"ancestors,omitempty"`
	UID       uint32    `json:"uid"`
	Device    uint32    `json:"device,omitempty"`
	Inode     uint64    `json:"inode,omitempty"`
	// Errno is the error of the kernel function that gave no answer.
	Errno int32 `json:"errno,omitempty"`
}

// Process is one of the chain that an event has.
type Process struct {
	PID     uint32 `json:"pid"`
	Command string `json:"command"`
}

// message says in one line what happened.
func (e *Event) message() string {
	what := e.Path
	if what == "" {
		what = e.Operation
	}
	said, ok := sentences[e.Reason]
	if !ok {
		said = "was judged good%.0s"
	}
	pkg := ""
	if e.Package != "" {
		pkg = " (" + e.Package + ")"
	}
	image := e.Image
	if image == "" {
		image = "this container's image"
	}
	return fmt.Sprintf("%s: %s: %s %s%s", e.Action, e.Operation, what, fmt.Sprintf(said, image), pkg)
}

// sentences say each reason; %s is the image.
var sentences = map[string]string{
	"no-domain":      "was tried by a task whose container is gone%.0s",
	"rejected-fs":    "is on a filesystem whose content the kernel cannot vouch for%.0s",
	"foreign-fs":     "is not on the root filesystem of %s",
	"writable-layer": "is in the writable layer, not in %s",
	"writer":         "is open for writing%.0s",
	"too-large":      "is larger than the policy allows%.0s",
	"no-digest":      "has no digest: the kernel gave none%.0s",
	"no-set":         "cannot be judged: no file list is loaded for %s",
	"not-listed":     "is not in the SBOM of %s",
	"not-signed":     "carries no signature of a blessing that the kernel can read%.0s",
	"bad-signature":  "is signed by no key of this node, or was modified since%.0s",
	"modified":       "was modified since it was listed for %s",
	"anonymous":      "asks for executable memory that no file stands behind%.0s",
	"write-exec":     "would make writable memory executable%.0s",
	"guarded":        "is code of %s and may not be changed",
	"hardened":       "is closed to enforced containers%.0s",
	"self":           "would weaken the verifier%.0s",
	"unannounced":    "was tried in a container that the runtime did not announce%.0s",
	"takeover":       "another executable made itself the agent%.0s",
}
