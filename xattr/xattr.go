// SPDX-License-Identifier: Apache-2.0

// Package xattr knows the bytes of the extended attributes by which the kernel
// judges files, and where they sit in a tar archive.
//
// security.ima, [IMA], is what the kernel's integrity subsystem reads (Linux
// 6.12, security/integrity/integrity.h): a [Digest] or a signature, parsed by
// [Parse]. security.evm, [EVM], is a portable signature over it and the file's
// owner and mode. security.bpf.bless, [Bless], is a PKCS#7 message that an eBPF
// program can have the kernel verify. A [Signer] makes all three.
//
// [Scanner] finds the entries of an archive; [Entry.Set] and [Entry.StripEdit]
// are the edits that put the attributes into an entry's PAX header, and take
// them out again so that the bytes are those from before.
package xattr

// Names of the attributes.
const (
	IMA   = "security.ima"
	EVM   = "security.evm"
	Bless = "security.bpf.bless"
)

// ours tells whether name is one of the three.
func ours(name string) bool { return name == IMA || name == EVM || name == Bless }
