// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// settings reads the one value that concerns every hook.
func (e *Enforcer) settings() (blessSettings, error) {
	var s blessSettings
	if err := e.maps["setting"].Lookup(uint32(0), &s); err != nil {
		return s, fmt.Errorf("setting: %w", err)
	}
	return s, nil
}

// change changes it; the caller has the lock.
func (e *Enforcer) change(f func(s *blessSettings)) error {
	s, err := e.settings()
	if err != nil {
		return err
	}
	f(&s)
	if err := e.maps["setting"].Put(uint32(0), s); err != nil {
		return fmt.Errorf("setting: %w", err)
	}
	return nil
}

// setOverlay tells the programs where overlayfs keeps the lower dentry of an
// inode, as its own type information has it: btf.ErrNotFound when there is
// none, as before the module is loaded. Files below an overlay are not guarded then.
func setOverlay(spec *ebpf.CollectionSpec) error {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	types, err := btf.LoadKernelModuleSpec("overlay")
	if errors.Is(err, fs.ErrNotExist) { // built in, or not loaded
		types, err = kernel, nil
	}
	if err != nil {
		return fmt.Errorf("type information of overlayfs: %w", err)
	}
	var at struct{ inode, entry, path, dentry uint32 }
	var has [4]bool
	at.inode, has[0] = member(types, "ovl_inode", "vfs_inode")
	at.dentry, has[1] = member(types, "ovl_path", "dentry")
	if at.path, has[2] = member(types, "ovl_inode", "lowerpath"); has[2] { // up to 6.4
		at.path, has[3] = at.path-at.inode, true
	} else { // struct ovl_entry *oe, with a stack of struct ovl_path
		at.entry, has[2] = member(types, "ovl_inode", "oe")
		at.path, has[3] = member(types, "ovl_entry", "__lowerstack")
		at.entry -= at.inode
	}
	if has != [4]bool{true, true, true, true} {
		return fmt.Errorf("overlayfs: %w", btf.ErrNotFound)
	}
	// What every judgement rests on: where the programs look for the writable layer's dentry (upper_dentry).
	var inode *btf.Struct
	if err := kernel.TypeByName("inode", &inode); err != nil {
		return err
	}
	if upper, ok := member(types, "ovl_inode", "__upperdentry"); !ok || upper-at.inode != inode.Size {
		return fmt.Errorf("overlayfs keeps the writable layer's files elsewhere than is known: %w\nhint: a version of sbom-bless that knows this kernel is needed", ErrNotSupported)
	}
	return errors.Join(
		spec.Variables["ovl_entry"].Set(at.entry),
		spec.Variables["ovl_lower"].Set(at.path+at.dentry))
}

// member gives the offset of a struct's member, in bytes. Module type
// information can hold a type twice (overlay of Debian's 6.18): they must agree.
func member(types *btf.Spec, of, name string) (at uint32, found bool) {
	all, err := types.AnyTypesByName(of)
	if err != nil {
		return 0, false
	}
	for _, t := range all {
		s, ok := t.(*btf.Struct)
		if !ok {
			continue
		}
		i := slices.IndexFunc(s.Members, func(m btf.Member) bool { return m.Name == name })
		if i < 0 || found && s.Members[i].Offset.Bytes() != at {
			return 0, false
		}
		at, found = s.Members[i].Offset.Bytes(), true
	}
	return at, found
}
