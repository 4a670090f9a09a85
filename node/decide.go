// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/policy"
)

// patience is how long a list may take to come. NRI gives a plugin two seconds
// by default; what comes later is there for the next attempt.
const patience = 20 * time.Second

// inForce is a policy with what it was made ready with. It does not change.
type inForce struct {
	text  []byte
	rules *policy.Policy
	ready *Ready
}

// decision is what becomes of a container.
type decision struct {
	// watch: it is put under set with rules. Otherwise it is left alone.
	watch bool
	rules enforce.Rules
	set   enforce.Set
	// refuse: it must not start. One that runs already is put under set all the same.
	refuse bool
	// unblessed is nil for a container under its image's list.
	unblessed *Unblessed
	answer    policy.Answer
	mode      policy.Mode
}

// decide asks policy and attestations. It may wait for a registry.
func (f *inForce) decide(ctx context.Context, c *Container) decision {
	rules, _ := f.rules.For(c.match())
	d := decision{mode: rules.Mode}
	if rules.Mode == policy.Ignore {
		return d
	}
	d.rules = enforce.Rules{
		Trust: enforce.Trust(rules.Trust), Enforce: rules.Mode == policy.Enforce, JIT: rules.JIT, Soft: rules.Soft, Interpreters: rules.Interpreters,
		GuardAll: rules.GuardAll, Devices: rules.Devices, Mounts: rules.Mounts, MaxSize: rules.MaxSize,
	}
	if len(rules.Mounts) == 0 {
		d.rules.Mounts = nil // as Domains has it
	}
	d.watch, d.set.Name = true, c.image()
	d.unblessed = counts(&rules, c)
	if d.unblessed == nil && !d.rules.Trust.Listed() {
		return d // files vouch for themselves
	}
	if d.unblessed == nil {
		d.unblessed = f.list(ctx, c, &rules, &d.set)
	}
	if d.unblessed == nil {
		return d
	}
	return d.without(unblessedAnswer(&rules, c))
}

// unblessedAnswer is the policy's word on a container that nothing vouches for. It has none on the
// sandboxes that runtimes make for pods, with an image that the node's operator chose: one that
// is not blessed is left out, however soon it runs.
func unblessedAnswer(r *policy.Rules, c *Container) policy.Answer {
	if c.Sandbox {
		return policy.AnswerAllow
	}
	return r.Unblessed
}

// list fills the set of a container: the list of its image, and those that the policy joins.
// One of these that is missing counts as a missing list of its own.
func (f *inForce) list(ctx context.Context, c *Container, r *policy.Rules, set *enforce.Set) *Unblessed {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list, u := f.fetch(ctx, c)
	if u != nil {
		return u
	}
	if list.Blessed.Before(r.NotBefore) {
		when := "at a time that its attestation does not tell"
		if !list.Blessed.IsZero() {
			when = list.Blessed.UTC().Format(time.RFC3339)
		}
		return &Unblessed{ReasonTooOld, fmt.Errorf("it was blessed %s, the policy wants %s or later", when, r.NotBefore.UTC().Format(time.RFC3339))}
	}
	var joined []enforce.Set
	for _, image := range r.Join {
		name, digest, named := strings.Cut(image, "@")
		if !named {
			name, digest = "", image
		}
		list, u := f.fetch(ctx, &Container{Image: name, Digest: digest})
		if u != nil {
			return &Unblessed{u.Reason, fmt.Errorf("joined list of %s: %w", image, u)}
		}
		list.Name = image
		joined = append(joined, list.Set)
	}
	name := set.Name
	*set = list.Join(joined...)
	set.Name = name
	return nil
}

// fetch gives the list of an image.
func (f *inForce) fetch(ctx context.Context, c *Container) (List, *Unblessed) {
	list, err := f.ready.Lists(ctx, c)
	var u *Unblessed
	switch {
	case errors.As(err, &u):
		return List{}, u
	case err != nil && ctx.Err() != nil:
		return List{}, &Unblessed{ReasonUnreachable, fmt.Errorf("its list does not come in time: %w", err)}
	case err != nil:
		return List{}, &Unblessed{ReasonDamaged, err}
	}
	return list, nil
}

// without makes it the decision of a container that nothing vouches for.
func (d decision) without(answer policy.Answer) decision {
	d.answer = answer
	d.watch = answer != policy.AnswerAllow
	d.refuse = answer == policy.AnswerDeny
	d.rules.Enforce = d.refuse
	d.set.Files, d.rules.Trust = nil, enforce.TrustSBOM // of no list: a signature does not count either
	return d
}

// reporting makes it one that denies nothing.
func (d decision) reporting() decision {
	d.refuse, d.rules.Enforce = false, false
	if d.answer == policy.AnswerDeny {
		d.answer = policy.AnswerAudit
	}
	if d.mode == policy.Enforce {
		d.mode = policy.Audit
	}
	return d
}

// counts tells whether the policy wants this very image.
func counts(r *policy.Rules, c *Container) *Unblessed {
	switch {
	case c.Digest == "":
		problem := c.Problem
		if problem == "" {
			problem = "the runtime does not tell the digest of its image"
		}
		return &Unblessed{ReasonNoImage, errors.New(problem)}
	case len(r.Digests) > 0 && !slices.Contains(r.Digests, c.Digest):
		return &Unblessed{ReasonOtherDigest, fmt.Errorf("%s is none of the %d digests that the policy names", c.Digest, len(r.Digests))}
	}
	return nil
}
