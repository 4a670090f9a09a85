// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"bytes"
	"encoding/binary"
	"runtime"
)

// tiny is a static executable that exits with status 0 and does nothing else:
// ELF header, one program header, exit(2); nil on other machines.
func tiny() []byte {
	var text []byte
	var machine uint16
	switch runtime.GOARCH {
	case "amd64":
		machine = 62
		text = []byte{0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05} // xor edi, edi; mov eax, 60; syscall
	case "arm64":
		machine = 183
		text = []byte{0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4} // mov x0, 0; mov x8, 93; svc 0
	default:
		return nil
	}
	const base, headers, page = 0x400000, 64 + 56, 0x10000
	size := uint64(headers + len(text))
	var b bytes.Buffer
	for _, v := range []any{
		// Elf64_Ehdr
		[16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, uint16(2), machine, uint32(1), uint64(base + headers), uint64(64), uint64(0),
		uint32(0), uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		// Elf64_Phdr: PT_LOAD, r-x
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(page),
	} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic("enforce: " + err.Error()) // fixed-size values
		}
	}
	return append(b.Bytes(), text...)
}
