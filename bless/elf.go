// SPDX-License-Identifier: Apache-2.0

package bless

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"

	"github.com/sbom-bless/sbom-bless/tree"
)

// What an ELF file asks for that nodes allow under rule "jit" alone. The kernel and glibc
// give it without a call that the verifier could judge by what is mapped.
const (
	// MemorySegment: a PT_LOAD segment is writable and executable.
	MemorySegment = "rwx-segment"
	// MemoryStack: PT_GNU_STACK asks for an executable stack.
	MemoryStack = "executable-stack"
	// MemoryNoHeader: there is no PT_GNU_STACK. The kernel then makes all readable memory of a
	// 32-bit x86 or Arm program executable (elf_read_implies_exec, arch/x86/include/asm/elf.h and
	// compat_elf_read_implies_exec, arch/arm64/include/asm/elf.h, Linux 6.12), and glibc the
	// stack of a process that loads such a library (DEFAULT_STACK_PERMS, elf/dl-load.c, 2.36).
	MemoryNoHeader = "no-stack-header"
	// MemoryUnknown: the program headers are not in the first 4 KiB of the file.
	MemoryUnknown = "unknown"
)

// Sizes of the two classes (elf(5)): of the file header, and of a program header.
const (
	ehdr32, ehdr64 = 52, 64
	phdr32, phdr64 = 32, 56
)

// memoryOf tells what a file of that size asks for, by its first bytes; empty: nothing, or it is
// no program and no library that the kernel or the loader would take.
func memoryOf(head []byte, size int64) string {
	if len(head) < ehdr32 || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return ""
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	wide := elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64
	if wide && len(head) < ehdr64 {
		return ""
	}
	kind, machine := elf.Type(order.Uint16(head[16:])), elf.Machine(order.Uint16(head[18:]))
	if kind != elf.ET_EXEC && kind != elf.ET_DYN {
		return ""
	}
	offset, entry, count := uint64(order.Uint32(head[28:])), order.Uint16(head[42:]), order.Uint16(head[44:])
	want, flagsAt := uint16(phdr32), 24
	if wide {
		offset, entry, count = order.Uint64(head[32:]), order.Uint16(head[54:]), order.Uint16(head[56:])
		want, flagsAt = phdr64, 4
	}
	length := uint64(entry) * uint64(count)
	switch {
	case entry != want || count == 0 || offset > uint64(size) || length > uint64(size)-offset:
		return "" // neither the kernel nor a loader takes it
	case offset > uint64(len(head)) || length > uint64(len(head))-offset:
		return MemoryUnknown
	}
	var stack, stackIsCode, segment, interpreted, dynamic bool
	for header := range slices.Chunk(head[offset:offset+length], int(entry)) {
		flags := elf.ProgFlag(order.Uint32(header[flagsAt:]))
		switch elf.ProgType(order.Uint32(header)) {
		case elf.PT_GNU_STACK:
			stack, stackIsCode = true, stackIsCode || flags&elf.PF_X != 0
		case elf.PT_LOAD:
			segment = segment || flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X
		case elf.PT_INTERP:
			interpreted = true
		case elf.PT_DYNAMIC:
			dynamic = true
		}
	}
	library := kind == elf.ET_DYN && dynamic && !interpreted
	switch {
	case segment:
		return MemorySegment
	case stackIsCode:
		return MemoryStack
	case !stack && (library || machine == elf.EM_386 || machine == elf.EM_ARM):
		return MemoryNoHeader
	}
	return ""
}

// MemoryFile is a file that asks for memory that is writable and executable.
type MemoryFile struct {
	Path string `json:"path"`
	// Asks is one of the Memory constants.
	Asks string `json:"asks"`
}

// memoryFiles lists those of a tree, which is sorted by path.
func memoryFiles(t *tree.Tree) []MemoryFile {
	list := []MemoryFile{} // in JSON, none is an empty list
	for i := range t.Files {
		if f := &t.Files[i]; f.Memory != "" {
			list = append(list, MemoryFile{f.Name, f.Memory})
		}
	}
	return list
}
