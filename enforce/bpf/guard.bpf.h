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
	struct name_key key = {};
	char tail[NAME_KEY_LEN];
	__u32 from = len > NAME_KEY_LEN ? len - NAME_KEY_LEN : 0;
	__u32 n = len - from;

	if (bpf_probe_read_kernel(tail, sizeof(tail), name + from))
		return false;
	/* The key is what follows the last dot of the tail, moved to the front. */
	for (int i = 0, j = -1; i < NAME_KEY_LEN; i++) {
		if (i >= n)
			break;
		if (tail[i] == '.') {
			__builtin_memset(&key, 0, sizeof(key));
			j = 0;
		}
		if (j >= 0 && j < NAME_KEY_LEN)
			key.text[j++] = tail[i];
	}
	if (!key.text[0])
		return false;
	__u8 *found = bpf_map_lookup_elem(&bless_names, &key);
	return found && *found == NAME_SUFFIX;
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

/* meaning gives what is known of a name, in kernel memory; 0: nothing. */
static __always_inline __u8 meaning(const unsigned char *name, __u32 len)
{
	struct name_key key = {};
	__u8 *found;

	if (!len || len >= NAME_KEY_LEN || bpf_probe_read_kernel(key.text, len & (NAME_KEY_LEN - 1), name))
		return 0;
	found = bpf_map_lookup_elem(&bless_names, &key);
	return found ? *found : 0;
}

#define TARGET_LEN 256
struct target {
	const unsigned char *text; /* in kernel memory */
	__u32 start, dot;	   /* of the component at hand, and its last dot */
	bool code, end;
};

/* read_target looks at one character; a component's end says what the component means. */
static long read_target(__u32 i, struct target *t)
{
	char c;

	if (bpf_probe_read_kernel(&c, sizeof(c), t->text + i))
		return 1; /* not the end: unknown */
	if (c == '.')
		t->dot = i;
	if (c && c != '/')
		return 0;
	t->code = meaning(t->text + t->start, i - t->start) == NAME_CODE;
	t->end = !c;
	if (t->end && !t->code && t->dot > t->start)
		t->code = meaning(t->text + t->dot, i - t->dot) == NAME_SUFFIX;
	t->start = i + 1;
	if (t->code || t->end)
		return 1; /* enough */
	return 0;
}

/* target_is_code tells whether the target of a link leads through a directory of code, or ends in a suffix of code. */
static __always_inline bool target_is_code(struct inode *link)
{
	struct target t = { .text = link ? (void *)BPF_CORE_READ(link, i_link) : NULL };

	if (!t.text)
		return true; /* unknown is code */
	bpf_loop(TARGET_LEN, read_target, &t, 0);
	return t.code || !t.end;
}

/*
 * link_to_code tells whether a symbolic link of the image decides which code runs, as far as
 * names tell: its own, those of the directories above it, those in its target. Only what lies
 * in a directory that is meant to change, and leads to no code, does not.
 */
static __always_inline bool link_to_code(struct inode *inode, struct dentry *dentry)
{
	struct dentry *dir = BPF_CORE_READ(dentry, d_parent);
	__u8 what = 0;

	if (code_suffix(dentry) || library(dentry) || target_is_code(lower_inode(inode)))
		return true;
	for (int i = 0; i < 32; i++) {
		struct dentry *parent = BPF_CORE_READ(dir, d_parent);

		if (parent == dir)
			break;
		what = meaning(BPF_CORE_READ(dir, d_name.name), BPF_CORE_READ(dir, d_name.len));
		if (what == NAME_CODE)
			return true;
		dir = parent;
	}
	return what != NAME_DATA; /* of the topmost directory */
}

/* loader_file tells whether the dynamic loader reads it to decide which libraries it loads. */
static __always_inline bool loader_file(struct dentry *dentry)
{
	return named(dentry, "ld.so.cache", 12) || named(dentry, "ld.so.preload", 14);
}

/* guarded tells whether the object is one that the domain runs code from, or by. */
static __noinline bool guarded(struct facts *f, struct inode *inode, struct dentry *dentry)
{
	struct source s;

	if (!inode || !f->domain)
		return false;
	if (has(known(inode), INODE_GUARDED | INODE_HASHING))
		return true;
	if (!overlay(inode->i_sb) || inode->i_sb->s_dev != f->domain->root_dev)
		return false;
	locate(&s, inode);
	if (s.upper)
		return copied(f, inode, s.data);
	switch (kind(inode)) {
	case S_IFREG:
		return f->domain->flags & DOMAIN_GUARD_ALL || inode->i_mode & S_IXUGO || code_suffix(dentry) ||
		       library(dentry) || (loader_file(dentry) && !(f->domain->flags & DOMAIN_SOFT));
	case S_IFLNK:
		return f->domain->flags & DOMAIN_GUARD_ALL || link_to_code(inode, dentry);
	}
	return false;
}

/*
 * removable tells whether a guarded object was made in the container: its owner may remove
 * and rename it. What runs of it stays as it is.
 */
static __always_inline bool removable(struct inode *inode)
{
	if (has(known(inode), INODE_SHIPPED))
		return false;
	return !overlay(inode->i_sb) || (upper_dentry(inode) && !lower_inode(inode));
}

/* for_owner has the domain decide that the object is of, where that is another than the task's. */
static __always_inline void for_owner(struct facts *f, struct inode *inode)
{
	__u32 other = inode ? owner(f, inode) : 0;

	if (!other)
		return;
	f->id = other;
	f->domain = bpf_map_lookup_elem(&bless_domains, &f->id);
}

#endif
