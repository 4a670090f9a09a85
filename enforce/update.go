// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Update changes the rules and the set of a container that is registered, at
// once for all of its tasks: what was judged before is judged again when it is
// next used. Of d, the fields that Add set must be as Domains gives them.
func (e *Enforcer) Update(d Domain, set Set) error {
	if d.Trust.Signed() {
		if err := e.checkKeys(); err != nil {
			return fmt.Errorf("trust %s: %w", d.Trust, err)
		}
	}
	if err := e.Prepare(d, set); err != nil {
		return err
	}
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	rules, mounts, err := d.kernel()
	if err != nil {
		return err
	}
	before := d.SetID
	d.SetID, d.List = 0, ""
	if d.Trust.Listed() {
		if d.SetID, d.List, err = e.addSet(set); err != nil {
			return fmt.Errorf("set %s: %w", set.Name, err)
		}
	}
	rules.use(d.SetID, set)
	d.Image = set.Name
	// The new mounts before the rules, the old ones go after them.
	wanted := map[uint32]bool{}
	var added []blessMountKey
	for _, dev := range mounts {
		wanted[dev] = true
		key := blessMountKey{Domain: d.ID, Dev: dev}
		err := e.maps["mounts"].Update(key, uint8(1), ebpf.UpdateNoExist)
		if err == nil {
			added = append(added, key)
		} else if !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("mounts: %w", err)
		}
	}
	if d.Interpreters {
		if err := e.change(func(s *blessSettings) { s.Interpreters = 1 }); err != nil {
			return err
		}
	}
	var old blessDomain
	err = e.maps["domains"].Lookup(d.ID, &old)
	if err == nil {
		err = e.maps["domains"].Update(d.ID, rules, ebpf.UpdateExist)
	}
	if err != nil {
		return fmt.Errorf("domain %d: %w", d.ID, err)
	}
	if err := e.remember(d); err != nil { // then the kernel has what the file says
		errs := []error{err, e.maps["domains"].Update(d.ID, old, ebpf.UpdateExist)}
		for _, key := range added {
			errs = append(errs, e.unset("mounts", key))
		}
		return errors.Join(append(errs, e.dropSet(d.SetID))...)
	}
	var gone []blessMountKey
	var key blessMountKey
	var value uint8
	for it := e.maps["mounts"].Iterate(); it.Next(&key, &value); {
		if key.Domain == d.ID && !wanted[key.Dev] {
			gone = append(gone, key)
		}
	}
	var errs []error
	for _, key := range gone {
		errs = append(errs, e.unset("mounts", key))
	}
	if before != d.SetID && e.options.State != "" {
		errs = append(errs, e.dropSet(before))
	}
	e.updates.Add(1)
	return errors.Join(errs...)
}

// SetEnforce has a registered container's would-be denials denied, or only reported, and
// leaves the rest as it is. It takes no more than the kernel's map, so it works when the
// container's files and lists are out of reach.
func (e *Enforcer) SetEnforce(id uint32, enforce bool) error {
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	var rules blessDomain
	if err := e.maps["domains"].Lookup(id, &rules); err != nil {
		return fmt.Errorf("domain %d: %w", id, err)
	}
	rules.Flags &^= uint32(blessDomainFlagsDOMAIN_ENFORCE)
	if enforce {
		rules.Flags |= uint32(blessDomainFlagsDOMAIN_ENFORCE)
	}
	if err := e.maps["domains"].Update(id, rules, ebpf.UpdateExist); err != nil {
		return fmt.Errorf("domain %d: %w", id, err)
	}
	domains, err := e.Domains()
	for _, d := range domains {
		if d.ID == id {
			d.Enforce = enforce
			err = errors.Join(err, e.remember(d))
		}
	}
	e.updates.Add(1)
	return err
}
