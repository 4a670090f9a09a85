// SPDX-License-Identifier: Apache-2.0

package bless

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What real linkers make says what it asks for in its first 4 KiB.
func TestMemoryOfRealFiles(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "x.S")
	for _, c := range []struct {
		name, note, want string
		args             []string
	}{
		{"program", "", "", nil},
		{"static", "", "", []string{"-static"}},
		{"execstack", "", MemoryStack, []string{"-z", "execstack"}},
		{"noexecstack, though a part asks for it", "x", "", []string{"-z", "noexecstack"}},
		{"one part asks for it", "x", MemoryStack, nil},
		{"one segment", "", MemorySegment, []string{"-Wl,-N", "-static"}},
		{"library", "", "", []string{"-shared"}},
		{"library, execstack", "", MemoryStack, []string{"-shared", "-z", "execstack"}},
		{"32 bits", "", "", []string{"-m32", "-static"}},
		{"32 bits, execstack", "", MemoryStack, []string{"-m32", "-static", "-z", "execstack"}},
		{"32 bits, one segment", "", MemorySegment, []string{"-m32", "-static", "-Wl,-N"}},
		{"object file", "x", "", []string{"-c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := ".globl _start\n.text\n_start: nop\n.data\n.long 1\n.section .note.GNU-stack,\"" + c.note + "\",@progbits\n"
			if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "out")
			out, err := exec.Command("gcc", append([]string{"-nostdlib", "-o", file, source}, c.args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("gcc (Debian packages gcc and libc6-dev): %v\n%s", err, out)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := memoryOf(b[:min(len(b), headSize)], int64(len(b))); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// elfFile makes an ELF file of one segment, and of a stack header with the flags unless they are 0.
func elfFile(order byteOrder, wide bool, kind, machine uint16, stack uint32, others ...uint32) []byte {
	class, data, phentsize := byte(1), byte(1), 32
	if wide {
		class, phentsize = 2, 56
	}
	if order.Uint16([]byte{0, 1}) == 1 {
		data = 2
	}
	headers := [][2]uint32{{1, 5}}
	if stack != 0 {
		headers = append(headers, [2]uint32{0x6474e551, stack})
	}
	for _, kind := range others {
		headers = append(headers, [2]uint32{kind, 4})
	}
	b := append([]byte("\x7fELF"), class, data, 1)
	b = append(b, make([]byte, 16-len(b))...)
	b = order.AppendUint16(b, kind)
	b = order.AppendUint16(b, machine)
	b = order.AppendUint32(b, 1)
	address := func(n uint64) {
		if wide {
			b = order.AppendUint64(b, n)
		} else {
			b = order.AppendUint32(b, uint32(n))
		}
	}
	address(0)
	if wide {
		address(64)
	} else {
		address(52)
	}
	address(0)
	b = order.AppendUint32(b, 0)
	for _, n := range []int{len(b) + 12, phentsize, len(headers), 0, 0, 0} {
		b = order.AppendUint16(b, uint16(n))
	}
	for _, h := range headers {
		header := make([]byte, phentsize)
		order.PutUint32(header, h[0])
		if wide {
			order.PutUint32(header[4:], h[1])
		} else {
			order.PutUint32(header[24:], h[1])
		}
		b = append(b, header...)
	}
	return b
}

func TestMemoryOfOtherMachines(t *testing.T) {
	const exec, dyn, x86, arm, amd64, arm64, s390 = 2, 3, 3, 40, 62, 183, 22
	const interp, dynamic = 3, 2
	le, be := binary.LittleEndian, binary.BigEndian
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"i386 without a stack header":            {elfFile(le, false, exec, x86, 0), MemoryNoHeader},
		"i386 program of any address without":    {elfFile(le, false, dyn, x86, 0, interp, dynamic), MemoryNoHeader},
		"32-bit Arm without":                     {elfFile(le, false, exec, arm, 0), MemoryNoHeader},
		"amd64 without":                          {elfFile(le, true, exec, amd64, 0), ""},
		"arm64 without":                          {elfFile(le, true, exec, arm64, 0), ""},
		"amd64 program of any address without":   {elfFile(le, true, dyn, amd64, 0, interp, dynamic), ""},
		"amd64 library without":                  {elfFile(le, true, dyn, amd64, 0, dynamic), MemoryNoHeader},
		"i386":                                   {elfFile(le, false, exec, x86, 6), ""},
		"big-endian, executable stack":           {elfFile(be, true, exec, s390, 7), MemoryStack},
		"big-endian":                             {elfFile(be, true, exec, s390, 6), ""},
		"object file":                            {elfFile(le, true, 1, amd64, 7), ""},
		"memory dump":                            {elfFile(le, true, 4, amd64, 7), ""},
		"no ELF":                                 {[]byte("#!/bin/sh\n"), ""},
		"shorter than its header":                {elfFile(le, true, exec, amd64, 7)[:63], ""},
		"headers of another size":                {edit(elfFile(le, true, exec, amd64, 7), 54, 57), ""},
		"more headers than the file has":         {edit(elfFile(le, true, exec, amd64, 7), 56, 9), ""},
		"no header":                              {edit(elfFile(le, true, exec, amd64, 7), 56, 0), ""},
		"headers at an offset beyond any number": {edit(elfFile(le, true, exec, amd64, 7), 39, 0xff), ""},
	} {
		if got := memoryOf(c.file, int64(len(c.file))); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	// Headers behind what is at hand are not known, be they what they are.
	file := elfFile(le, true, exec, amd64, 6)
	for n := 64; n < len(file); n++ {
		if got := memoryOf(file[:n], int64(len(file))); got != MemoryUnknown {
			t.Errorf("of %d bytes: %q", n, got)
		}
	}
}

func edit(b []byte, at int, value byte) []byte {
	b = bytes.Clone(b)
	b[at] = value
	return b
}

func FuzzMemoryOf(f *testing.F) {
	f.Add(elfFile(binary.LittleEndian, true, 2, 62, 7), int64(1<<20))
	f.Add(elfFile(binary.BigEndian, false, 3, 8, 6, 2), int64(0))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		if size >= 0 {
			memoryOf(head, max(size, int64(len(head))))
		}
	})
}
