// SPDX-License-Identifier: Apache-2.0

// Package magic knows compressed data by its first bytes.
package magic

// Size is how many bytes [Gzip] and [Zstd] need.
const Size = 4

// Gzip reports whether data that begins with head is gzip (RFC 1952, section 2.3.1).
func Gzip(head []byte) bool { return len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b }

// Zstd reports whether data that begins with head is zstd: a frame, or a skippable frame, which may
// come first (RFC 8878, sections 3.1.1 and 3.1.2).
func Zstd(head []byte) bool {
	if len(head) < Size {
		return false
	}
	frame := head[0] == 0x28 && head[1] == 0xb5 && head[2] == 0x2f && head[3] == 0xfd
	skippable := head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
	return frame || skippable
}
