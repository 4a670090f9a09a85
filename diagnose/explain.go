// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sbom-bless/sbom-bless/enforce"
)

// Explanation is a denial in plain words.
type Explanation struct {
	Denial
	// Layer is where the data of the file lies, as far as the reason tells.
	Layer string `json:"layer,omitempty"`
	// Why says what the reason means.
	Why string `json:"why"`
	// Listed says what the container's list has about path and digest.
	Listed string `json:"listed,omitempty"`
	// Allow says what would allow it, Weakens what that gives up.
	Allow   string `json:"allow"`
	Weakens string `json:"weakens,omitempty"`
}

// meaning is what a reason means. allow is for where no rule of the policy helps.
type meaning struct{ layer, why, allow string }

const (
	inImage    = "the image"
	inWritable = "the writable layer of the container"
	elsewhere  = "another filesystem than the container's root"
	inMemory   = "memory"
)

// meanings are by the reasons of events (docs/enforce.md) and those of unblessed containers (docs/policy.md).
var meanings = map[string]meaning{
	"no-domain": {"", "The container that the task belongs to was removed, so nothing says any more what the task may do.",
		"Nothing would: end the task, or start the container anew."},
	"rejected-fs": {"a filesystem that the kernel cannot vouch for", "FUSE, network filesystems and those mounted in a user namespace can give other content each time they are read.",
		"No rule does: put the file into the image, or on another filesystem."},
	"foreign-fs": {elsewhere, "A listed file runs from the container's root filesystem alone. This one is on a volume, a tmpfs, a memfd, or the host's.",
		"No rule does for this kind of file."},
	"writable-layer": {inWritable, "The data was written after the container was made, or copied there by a change of the file.",
		"No rule does for this operation."},
	"writer": {"", "Somebody has the file open for writing, or has it mapped writable and shared, so its content can change after it was judged.",
		"No rule does: it runs when nobody can write to it any more."},
	"too-large": {"", "The file is larger than the policy allows. A task that waits for a hash cannot be killed before it is done.",
		"A higher limit does."},
	"no-digest": {"", "There is no SHA-256 of the file that holds, so there is nothing to compare: the kernel computed none, or, where the agent does that before a container starts, the file was not there then or was changed since.",
		"No rule does. The message and the field errno of the event say which it is; `sbom-bless enforce status` says who computes digests on this node."},
	"no-set": {"", "No file list is loaded for the container: it is unblessed, and nothing that it executes is known.",
		"An attestation does. The event of operation container for it says why there is none that counts."},
	"not-listed": {"", "The file lies where listed files may run from, but no list of the container has a file of this content.",
		"No rule does, for nobody vouches for this content. Find out where it comes from. If it belongs there, put it into the image and bless that again, or bless it in another image and `join` that."},
	"modified": {"", "The list has a file at this path, but of other content: it was changed since the image was blessed.",
		"No rule does. Find out who changed it. If the change belongs there, make it in the image, and bless that again."},
	"not-signed": {"", "The policy asks for a signature on the file itself (`trust: keyring` or `both`), and the kernel finds none: it was not signed, or the program that unpacked the image dropped it.",
		"Blessing the image does, or `trust: sbom`, which asks for the list of the image instead."},
	"bad-signature": {"", "The file has a signature, but of no key of this node, or of other content.",
		"The right certificate in `keys` does, if the signer is to be trusted."},
	"anonymous":  {inMemory, "The task asked for executable memory that no file stands behind: just-in-time compilers do, and so does code that an attacker injects.", ""},
	"write-exec": {inMemory, "Memory that is, or was, writable was to become executable: just-in-time compilers and executable stacks do that, and so does code that an attacker injects.", ""},
	"guarded": {inImage, "Code that came with the image, and files that were judged good, may not be changed in the container.",
		"No rule does for this operation. Make the change when the image is built, or write to another path or a volume."},
	"hardened": {"", "This way leads past the verifier, or to the memory of other processes, so it is closed to every enforced container.",
		"No rule does. If the workload cannot do without it, `mode: audit` for it reports and denies nothing."},
	"self": {"", "This would have weakened the verifier, or changed what belongs to its agent.",
		"Nothing does. As an administrator, use `sbom-bless enforce unload`, or the break-glass file."},
	"takeover": {"", "Another executable than before made itself the agent. That is so once after each upgrade of the agent.",
		"It was not denied. What no upgrade explains is an attack."},
	"unannounced": {"", "The pod is closed (`without-agent: deny`), and the runtime announced no such container: it had not waited for the agent.",
		"Starting the container again does, while the agent answers."},
	"no-image": {"", "The container runtime cannot say which manifest the container was made of: the name means another image by now, or the image was never in a registry.",
		"Pulling the image by its digest and making the container anew does."},
	"no-attestation": {"", "No place that the policy names has an attestation for this manifest.",
		"Blessing the image does, or a further place in `attestations`."},
	"untrusted": {"", "There is an attestation, but no key or identity of the policy signed it, or it is about another image.",
		"Blessing the image with a trusted key does, or that signer in `keys` or `identities`."},
	"unreachable": {"", "Who has the attestation gave no answer, or none in time. The agent asks again every minute.",
		"The registry or the runtime does, when it answers. Embedded attestations need neither (`bless --embed`)."},
	"damaged": {"", "An attestation lacks a part, or was altered.",
		"Blessing the image again does."},
	"other-digest": {"", "The policy names the manifests that count in `digests`, and this one is not among them.",
		"Its digest in `digests` does, if this version is to run."},
	"too-old": {"", "The image was blessed before the policy's `not-before`.",
		"A newer version of the image does. An earlier `not-before` lets older ones in, with what was fixed since."},
	"not-enforceable": {"", "The container does not fit the rules: its root filesystem is no overlay, or a path of `mounts` is not there.",
		"Rules that fit it do; the message of the event names what does not."},
	"no-seccomp": {"", "The container runs without a seccomp profile, so a hole in the kernel that a listed program can reach ends what the verifier promises.",
		"Nothing was denied. `seccompProfile: RuntimeDefault` in the pod gives it one."},
	"unread": {"", "A drift report has a budget, and what exceeded it was counted only.",
		"Nothing was denied. Start the container anew: then all that it executes is judged."},
}

// Rule is what a rule of the policy allows, and what it weakens.
type rule struct{ does, weakens string }

// rules are those that an event can name, and join, which no event does.
var rules = map[string]rule{
	"jit":      {"allows executable memory that was written to", "Who has taken over a program by its memory can then run machine code of his own in it, without a file."},
	"soft":     {"allows listed files in the writable layer, and other owners and modes", "The place of a file then proves nothing any more, its digest alone does, while nobody has it open for writing."},
	"mounts":   {"allows listed files on that filesystem", "Listed files then run from any place of that filesystem, by their digest alone, while nobody has them open for writing."},
	"max-size": {"sets the limit", "A task that waits for the hash of a larger file cannot be killed before that is done."},
	"devices":  {"allows block devices to be opened for writing", "Through a disk the container can then change any file below its filesystem, also those that were judged already."},
	"join":     {"lets the list of a further blessed image count", "Every file of that image may then run, its shell too."},
}

// Explain says in plain words what a denial means. The listing may be nil: nobody could look.
func Explain(d Denial, l *enforce.Listing) Explanation {
	m := meanings[d.Reason]
	e := Explanation{Denial: d, Layer: m.layer, Why: m.why, Allow: m.allow}
	switch {
	case e.Why == "":
		e.Why, e.Allow = "This version does not know the reason.", "Not known."
	case d.Operation == "drift":
		e.Why += " The process had it before the verifier knew of the container, and it is not judged again."
		e.Allow = "Nothing was denied. Start the container anew: then this is judged like the rest."
		return e
	}
	if r, ok := rules[d.Rule]; ok {
		e.Allow, e.Weakens = fmt.Sprintf("Rule `%s` %s.", d.Rule, r.does), r.weakens
	}
	if d.Path == "" || d.Reason == "hardened" || d.Reason == "self" {
		return e
	}
	unlisted := false
	e.Listed, unlisted = listed(&d, l)
	if unlisted && (d.Rule == "soft" || d.Rule == "mounts") && d.Operation != "setattr" {
		e.Allow += " That alone is not enough, for no list has the file: bless an image that has it, and `join` that."
	}
	return e
}

// listed says what the list has, and whether it is known to have nothing.
func listed(d *Denial, l *enforce.Listing) (text string, unlisted bool) {
	of := "The list of its image"
	if d.List != "" {
		of = "The joined list of " + d.List
	}
	switch {
	case l == nil && d.Listed && d.Package != "":
		return fmt.Sprintf("%s has this path, of package %s.", of, d.Package), false
	case l == nil && d.Listed:
		return of + " has this path, of no package.", false
	case l == nil && d.Image != "" && d.Reason != "no-set":
		return "No list of the container has a file at this path.", true
	case l == nil: // it was gone when the event came, or had none
		return "", false
	}
	if l.Files == 0 {
		return "No list is loaded for it any more.", false
	}
	if l.SHA256 != "" {
		pkg := "no package"
		if l.Package != "" {
			pkg = "package " + l.Package
		}
		text = fmt.Sprintf("%s has this path, of %s, with SHA-256 %s", of, pkg, l.SHA256)
		switch d.SHA256 {
		case "":
			text += "; this file was not hashed."
		case l.SHA256:
			text += ", which this file has."
		default:
			text += fmt.Sprintf("; this file has %s.", d.SHA256)
		}
	} else {
		text = fmt.Sprintf("None of its %d listed files has this path", l.Files)
		switch {
		case d.SHA256 == "":
			text += "; this file was not hashed."
		case len(l.Elsewhere) == 0:
			text += fmt.Sprintf(", or this content (SHA-256 %s).", d.SHA256)
		default:
			text += "."
		}
	}
	if len(l.Elsewhere) > 0 {
		text += fmt.Sprintf(" The same content is listed as %s.", strings.Join(quoted(l.Elsewhere), ", "))
	}
	return text, l.SHA256 == "" && len(l.Elsewhere) == 0
}

// Text is a paragraph for people.
func (e *Explanation) Text() string {
	var b strings.Builder
	who := "the host"
	if e.Container != "" {
		who = "container " + safe(e.Container)
	}
	if e.Pod != "" {
		who += fmt.Sprintf(" of pod %s/%s", safe(e.Namespace), safe(e.Pod))
	}
	if e.Image != "" {
		who += ", image " + safe(e.Image)
	}
	what := e.Operation
	if e.Path != "" {
		what += " of " + safe(e.Path)
	}
	done := "was denied"
	if e.Action == "reported" {
		done = "was reported, not denied"
	}
	fmt.Fprintf(&b, "%s: %s: %s %s, reason %s", e.Time.UTC().Format(time.RFC3339), who, what, done, e.Reason)
	if e.Times > 1 {
		fmt.Fprintf(&b, ", %d times since %s", e.Times, e.First.UTC().Format(time.RFC3339))
	}
	b.WriteString(".")
	if e.PID != 0 {
		fmt.Fprintf(&b, " It was process %d (%s)", e.PID, safe(e.Command))
		for i, a := range e.Ancestors {
			by := ", a child of"
			if i > 0 {
				by = ", of"
			}
			fmt.Fprintf(&b, "%s %d (%s)", by, a.PID, safe(a.Command))
		}
		fmt.Fprintf(&b, ", user %d.", e.UID)
	}
	if e.Layer != "" {
		fmt.Fprintf(&b, " It lies in %s.", e.Layer)
	}
	for _, sentence := range []string{e.Why, e.Listed} {
		if sentence != "" {
			b.WriteString(" " + safe(sentence))
		}
	}
	fmt.Fprintf(&b, " What would allow it: %s", e.Allow)
	if e.Weakens != "" {
		fmt.Fprintf(&b, " What that weakens: %s", e.Weakens)
	}
	return b.String()
}

// safe makes a text that containers choose part of a line.
func safe(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return strconv.Quote(s)
}

func quoted(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = safe(s)
	}
	return out
}
