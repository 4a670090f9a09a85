// SPDX-License-Identifier: Apache-2.0

// Package xattr defines the format that signers and verifiers share: the bytes of three extended
// attributes, and where they sit in a tar archive.
//
//	security.ima        digest or signature of a file's content, as the
//	                    kernel's IMA appraisal and evmctl read it
//	security.bpf.bless  a detached PKCS#7 signature that an eBPF LSM program
//	                    can have the kernel verify
//	security.evm        a portable signature over owner, mode and attributes
//
// The first and the last follow struct signature_v2_hdr, struct ima_file_id and
// enum evm_ima_xattr_type of security/integrity/integrity.h (Linux 7.3; all but
// signature version 3 is the same since 5.3), the second RFC 5652.
//
// A Signer makes the values, Parse and the Verify functions read them. A
// Scanner finds the entries of a tar archive; Entry.Set then gives the one edit
// of the archive's bytes that puts attributes on an entry, Entry.StripEdit the
// one that takes them away again and restores the source to the byte. Nothing
// is ever re-encoded.
//
// The package does not read keys, and it does not know compression, layers or
// images.
package xattr

// The attributes that this project writes.
const (
	IMA   = "security.ima"
	EVM   = "security.evm"
	Bless = "security.bpf.bless" // readable for BPF programs since Linux 6.13: fs/bpf_fs_kfuncs.c
)

// ours tells whether name is one of the attributes above.
func ours(name string) bool { return name == IMA || name == EVM || name == Bless }
