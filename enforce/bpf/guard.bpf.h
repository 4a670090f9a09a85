/* SPDX-License-Identifier: Apache-2.0 */
/* Which objects of a container may not be changed. */
#ifndef SBOM_BLESS_GUARD_H
#define SBOM_BLESS_GUARD_H
#include "provenance.bpf.h"

/* code_suffix tells whether the name ends in one of the suffixes. */
static __always_inline bool code_suffix(struct dentry *dentry)
{
	__u32 len = BPF_CORE_READ(dentry, d_name.len);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	struct suffix_key key = {};
	char tail[SUFFIX_LEN];
	__u32 from = len > SUFFIX_LEN ? len - SUFFIX_LEN : 0;
	__u32 n = len - from;

	if (bpf_probe_read_kernel(tail, sizeof(tail), name + from))
		return false;
	/* The key is what follows the last dot of the tail, moved to the front. */
	for (int i = 0, j = -1; i < SUFFIX_LEN; i++) {
		if (i >= n)
			break;
		if (tail[i] == '.') {
			__builtin_memset(&key, 0, sizeof(key));
			j = 0;
		}
		if (j >= 0 && j < SUFFIX_LEN)
			key.text[j++] = tail[i];
	}
	return key.text[0] && bpf_map_lookup_elem(&suffixes, &key);
}

/* library tells whether the name is that of a library with a version: "libssl.so.3". */
static __always_inline bool library(struct dentry *dentry)
{
	__u32 len = BPF_CORE_READ(dentry, d_name.len);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	char tail[24];

	if (len > sizeof(tail))
		name += len - sizeof(tail);
	if (bpf_probe_read_kernel_str(tail, sizeof(tail), name) < 0)
		return false;
	for (int i = 0; i < sizeof(tail) - 4 && tail[i]; i++)
		if (tail[i] == '.' && tail[i + 1] == 's' && tail[i + 2] == 'o' && tail[i + 3] == '.')
			return true;
	return false;
}

/* guarded tells whether the object is one that the domain runs code from. */
static __always_inline bool guarded(struct facts *f, struct inode *inode, struct dentry *dentry)
{
	if (!inode || !f->domain || (inode->i_mode & S_IFMT) != S_IFREG)
		return false;
	if (bpf_inode_storage_get(&used, inode, NULL, 0))
		return true;
	if (!overlay(inode->i_sb)) {
		struct below_key key = {};

		name_below(&key, inode);
		return bpf_map_lookup_elem(&below, &key);
	}
	if (inode->i_sb->s_dev != f->domain->root_dev || upper_dentry(inode))
		return false;
	return f->domain->flags & DOMAIN_GUARD_ALL || inode->i_mode & S_IXUGO || code_suffix(dentry) || library(dentry);
}

/* named tells whether the dentry's name is name, of n bytes with its NUL. */
static __always_inline bool named(struct dentry *dentry, const char *name, __u32 n)
{
	char text[16] = {};

	bpf_probe_read_kernel_str(text, sizeof(text), BPF_CORE_READ(dentry, d_name.name));
	for (int i = 0; i < n && i < sizeof(text); i++)
		if (text[i] != name[i])
			return false;
	return true;
}

#endif
