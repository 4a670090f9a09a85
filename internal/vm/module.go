// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

type module struct {
	name string
	data []byte
}

// modules gives the named kernel modules and what they depend on, each after
// its dependencies, as plain ELF files. Debian's packages carry no modules.dep
// (depmod makes it on installation), so the "depends" of each module's
// .modinfo section is read. A module that is built into the kernel is absent
// from the result.
func (i *Image) modules(ctx context.Context, names []string) ([]module, error) {
	files, builtin, err := i.moduleFiles()
	if err != nil {
		return nil, err
	}
	var list []module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if seen[name] || builtin[name] {
			return nil
		}
		seen[name] = true
		file, ok := files[name]
		if !ok {
			return fmt.Errorf("%s: not in this kernel's packages", name)
		}
		data, err := readModule(ctx, file)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		depends, err := moduleDepends(data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, d := range depends {
			if err := add(d); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		list = append(list, module{name, data})
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// moduleFiles gives the path of each module by its name as the kernel writes
// it (underscores), and the names of those built in.
func (i *Image) moduleFiles() (files map[string]string, builtin map[string]bool, err error) {
	name := func(p string) string {
		base, _, _ := strings.Cut(filepath.Base(p), ".ko")
		return strings.ReplaceAll(base, "-", "_")
	}
	files, builtin = map[string]string{}, map[string]bool{}
	err = filepath.WalkDir(i.Modules, func(p string, _ fs.DirEntry, err error) error {
		if err == nil && strings.Contains(filepath.Base(p), ".ko") {
			files[name(p)] = p
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	list, err := os.ReadFile(filepath.Join(i.Modules, "modules.builtin"))
	for line := range strings.Lines(string(list)) {
		builtin[name(strings.TrimSpace(line))] = true
	}
	return files, builtin, err
}

func readModule(ctx context.Context, file string) ([]byte, error) {
	switch filepath.Ext(file) {
	case ".ko":
		return os.ReadFile(file)
	case ".xz":
		out, err := exec.CommandContext(ctx, "xz", "-dc", file).Output()
		if err != nil {
			return nil, fmt.Errorf("xz -dc: %w (Debian package xz-utils)", err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s: unknown compression", filepath.Base(file))
}

func moduleDepends(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if v, ok := strings.CutPrefix(field, "depends="); ok {
			return slices.DeleteFunc(strings.Split(v, ","), func(s string) bool { return s == "" }), nil
		}
	}
	return nil, nil
}
