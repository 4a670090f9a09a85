// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
)

// program is a static executable of one segment.
type program struct {
	text    []byte
	segment uint32 // its flags, PF_*; readable and executable when zero
	stack   uint32 // flags of PT_GNU_STACK; none when zero
	loader  string // PT_INTERP; none when empty
}

func (p program) elf() []byte {
	const base = 0x400000
	type header = elf.Prog64
	var list []header
	if p.loader != "" {
		list = append(list, header{Type: uint32(elf.PT_INTERP), Flags: 4, Filesz: uint64(len(p.loader) + 1)})
	}
	if p.segment == 0 {
		p.segment = 5
	}
	list = append(list, header{Type: uint32(elf.PT_LOAD), Flags: p.segment, Vaddr: base, Align: 0x1000})
	if p.stack != 0 {
		list = append(list, header{Type: uint32(elf.PT_GNU_STACK), Flags: p.stack, Align: 16})
	}
	headers := uint64(64 + 56*len(list))
	size := headers + uint64(len(p.text)+len(p.loader)+1)
	for i := range list {
		switch elf.ProgType(list[i].Type) {
		case elf.PT_INTERP:
			list[i].Off = headers + uint64(len(p.text))
		case elf.PT_LOAD:
			list[i].Filesz, list[i].Memsz = size, size
		}
	}
	var b bytes.Buffer
	must(binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: 2, Machine: 62, Version: 1, Entry: base + headers,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(list)), Shentsize: 64,
	}))
	must(binary.Write(&b, binary.LittleEndian, list))
	b.Write(p.text)
	b.WriteString(p.loader + "\x00")
	return b.Bytes()
}

// exiting is the code that exits with a status.
func exiting(status byte) []byte {
	return []byte{
		0xbf, status, 0, 0, 0, // mov edi, status
		0xb8, 60, 0, 0, 0, // mov eax, exit
		0x0f, 0x05, // syscall
	}
}

// onStack copies the code that exits with status evil to the stack and runs it there.
var onStack = append([]byte{
	0x48, 0x83, 0xec, 64, // sub rsp, 64
	0x48, 0x8d, 0x35, 12, 0, 0, 0, // lea rsi, [rip + 12]
	0x48, 0x89, 0xe7, // mov rdi, rsp
	0xb9, 12, 0, 0, 0, // mov ecx, 12
	0xf3, 0xa4, // rep movsb
	0xff, 0xe4, // jmp rsp
}, exiting(evil)...)

// changesItself writes status evil into the code that follows.
var changesItself = append([]byte{0xc6, 0x05, 1, 0, 0, 0, evil}, exiting(0)...) // mov byte [rip + 1], evil

// Programs of the image that ask for code in writable memory.
const (
	execStack    = "/bin/execstack"
	writableCode = "/bin/selfmodifying"
	tmpLoader    = "/bin/tmp-loader"
	stackLibrary = "/usr/lib/x86_64-linux-gnu/libexecstack.so.1"
)

// withExecutableStack is the library with a PT_GNU_STACK that asks for that.
func withExecutableStack(name string) []byte {
	b, err := os.ReadFile(name)
	must(err)
	f, err := elf.NewFile(bytes.NewReader(b))
	must(err)
	for n, p := range f.Progs {
		if p.Type == elf.PT_GNU_STACK {
			b[64+56*n+4] |= byte(elf.PF_X) // p_flags; the program headers follow the header
		}
	}
	return b
}
