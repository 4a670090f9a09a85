// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strings"
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
	// Rule is the one of the policy that would allow it, if there is one.
	Rule string `json:"rule,omitempty"`
	// Message says it in one line.
	Message string `json:"message"`
	Path    string `json:"path,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	// Package is the one that lists the file, or the path.
	Package string `json:"package,omitempty"`
	// Listed tells that the list has a file at Path, be it this one or not.
	Listed bool `json:"listed,omitempty"`
	// List is the image whose list that is, if it was joined to that of Image.
	List    string `json:"list,omitempty"`
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

// message says in one line what happened, and which rule would allow it.
func (e *Event) message() string {
	what := e.Path
	if what == "" {
		what = e.Operation
	}
	said, ok := sentences[fmt.Sprint(e.Reason, " ", e.Errno)]
	if !ok {
		said, ok = sentences[e.Reason]
	}
	if !ok {
		said = sentence{text: "was judged good"}
	}
	text := said.text
	if said.image {
		text = fmt.Sprintf(text, cmp.Or(e.List, e.Image, "this container's image"))
	}
	if e.Package != "" {
		text += " (" + e.Package + ")"
	}
	if r := e.remedy(); r.rule != "" {
		text += "; rule " + r.rule + " " + r.does
	}
	return fmt.Sprintf("%s: %s: %s %s", e.Action, e.Operation, what, text)
}

// sentence says a reason. If it names the image, %s in text is where.
type sentence struct {
	text  string
	image bool
}

// sentences are by reason, or by reason and errno where that says more.
var sentences = map[string]sentence{
	"no-domain":      {text: "was attempted by a task whose container was removed"},
	"rejected-fs":    {text: "is on a filesystem whose content the kernel cannot vouch for"},
	"foreign-fs":     {"is not on the root filesystem of %s", true},
	"writable-layer": {"is in the writable layer, not in %s", true},
	"writer":         {text: "is open for writing"},
	"too-large":      {text: "is larger than the policy allows"},
	"no-digest":      {text: "has no digest: the kernel gave none"},
	"no-digest -61":  {text: "has no digest: it was not hashed before the container started"},
	"no-digest -116": {text: "has no digest: it was changed since it was hashed"},
	"no-set":         {"cannot be judged: no file list is loaded for %s", true},
	"not-listed":     {"is not in the SBOM of %s", true},
	"not-signed":     {text: "has no signature of a blessing that the kernel can read"},
	"bad-signature":  {text: "is signed by no key of this node, or was modified since"},
	"modified":       {"was modified since it was listed for %s", true},
	"anonymous":      {text: "requests anonymous executable memory"},
	"write-exec":     {text: "would make writable memory executable"},
	"guarded":        {"is code of %s and may not be changed", true},
	"hardened":       {text: "is closed to enforced containers"},
	"self":           {text: "would weaken the verifier"},
	"unannounced":    {text: "was tried in a container that the runtime did not announce"},
	"takeover":       {text: "another executable made itself the agent"},
}

// remedy is a rule of the policy that would allow something, and what the rule does.
type remedy struct{ rule, does string }

// remedies are by reason, or by reason and operation where the rule allows that one alone.
var remedies = map[string]remedy{
	"anonymous":            {"jit", "allows it"},
	"write-exec":           {"jit", "allows it"},
	"hardened userfaultfd": {"jit", "allows it"},
	"foreign-fs":           {"mounts", "allows listed files there"},
	"writable-layer":       {"soft", "allows listed files there"},
	"too-large":            {"max-size", "sets the limit"},
	"guarded setattr":      {"soft", "allows another owner or mode"},
}

// memory are devices that no rule opens: memory, I/O ports, raw SCSI.
var memory = regexp.MustCompile(`^/dev/(k?mem|port|sg[0-9]+)$`)

// remedy of the zero value: no rule allows it.
func (e *Event) remedy() remedy {
	switch {
	case e.Reason == "foreign-fs" && strings.HasPrefix(path.Base(e.Path), "memfd:"):
		return remedies["anonymous"]
	case e.Reason == "hardened" && (e.Operation == "write" || e.Operation == "ioctl") && strings.HasPrefix(e.Path, "/dev/") && !memory.MatchString(e.Path):
		return remedy{"devices", "allows block devices"}
	}
	if r, ok := remedies[e.Reason+" "+e.Operation]; ok {
		return r
	}
	return remedies[e.Reason]
}
