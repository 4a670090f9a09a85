// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Programs names the generation of programs that this package carries: it changes with their code.
func Programs() string { return object() }

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

// setOverlay tells the programs where overlayfs keeps what is below one of its
// inodes, as its own type information has it: btf.ErrNotFound when there is
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
	var at struct{ inode, entry, path, dentry, count, size, data, flags uint32 }
	missing := ""
	find := func(of, name string) uint32 {
		offset, found := member(types, of, name)
		if !found {
			missing = of + "." + name
		}
		return offset
	}
	at.inode, at.dentry = find("ovl_inode", "vfs_inode"), find("ovl_path", "dentry")
	at.flags = at.inode - find("ovl_inode", "flags")
	if path, found := member(types, "ovl_inode", "lowerpath"); found { // up to 6.4
		at.path, at.data = path-at.inode, at.inode-find("ovl_inode", "lowerdata")
	} else { // struct ovl_entry *oe, with a stack of struct ovl_path
		at.entry, at.path = find("ovl_inode", "oe")-at.inode, find("ovl_entry", "__lowerstack")
		at.count = find("ovl_entry", "__numlower")
		var path *btf.Struct
		if err := types.TypeByName("ovl_path", &path); err == nil {
			at.size = path.Size
		}
	}
	if missing != "" {
		return fmt.Errorf("overlayfs: %s: %w", missing, btf.ErrNotFound)
	}
	upperData, err := enumerator(types, "ovl_inode_flag", "OVL_UPPERDATA")
	if err != nil {
		return err
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
		spec.Variables["ovl_lower"].Set(at.path+at.dentry),
		spec.Variables["ovl_count"].Set(at.count),
		spec.Variables["ovl_path"].Set(at.size),
		spec.Variables["ovl_lowerdata"].Set(at.data),
		spec.Variables["ovl_flags"].Set(at.flags),
		spec.Variables["ovl_upperdata"].Set(uint32(1)<<upperData))
}

// enumerator gives the value of a name of an enum.
func enumerator(types *btf.Spec, of, name string) (uint64, error) {
	var enum *btf.Enum
	if err := types.TypeByName(of, &enum); err != nil {
		return 0, fmt.Errorf("%s: %w", of, err)
	}
	for _, v := range enum.Values {
		if v.Name == name {
			return v.Value, nil
		}
	}
	return 0, fmt.Errorf("%s of %s: %w", name, of, btf.ErrNotFound)
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
		offset, has := memberOf(s.Members, name)
		if !has || found && offset != at {
			return 0, false
		}
		at, found = offset, true
	}
	return at, found
}

// memberOf looks in anonymous members, too.
func memberOf(members []btf.Member, name string) (at uint32, found bool) {
	for _, m := range members {
		if m.Name == name {
			return m.Offset.Bytes(), true
		}
		if m.Name != "" {
			continue
		}
		var inner []btf.Member
		switch t := m.Type.(type) {
		case *btf.Struct:
			inner = t.Members
		case *btf.Union:
			inner = t.Members
		}
		if at, found := memberOf(inner, name); found {
			return m.Offset.Bytes() + at, true
		}
	}
	return 0, false
}
