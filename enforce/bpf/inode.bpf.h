/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of an inode, and what can be read of it. */
#ifndef SBOM_BLESS_INODE_H
#define SBOM_BLESS_INODE_H
#include "maps.bpf.h"

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&bless_counters, &reason);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* change_time masks a flag of 6.13 and later that stat(2) sets: I_CTIME_QUERIED, include/linux/fs.h. */
static __always_inline __u64 change_time(struct inode *inode)
{
	struct inode___v6_11 *new = (void *)inode;
	struct inode___v6_6 *mid = (void *)inode;
	struct inode___v6_1 *old = (void *)inode;
	struct timespec64 time = {};

	if (bpf_core_field_exists(new->i_ctime_sec)) {
		time.tv_sec = BPF_CORE_READ(new, i_ctime_sec);
		time.tv_nsec = BPF_CORE_READ(new, i_ctime_nsec) & 0x7fffffff;
	} else if (bpf_core_field_exists(mid->__i_ctime)) {
		bpf_core_read(&time, sizeof(time), &mid->__i_ctime);
	} else {
		bpf_core_read(&time, sizeof(time), &old->i_ctime);
	}
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static __always_inline bool same(struct content *a, struct content *b)
{
	return a->size == b->size && a->ctime == b->ctime && a->writes == b->writes;
}

/* name_file fills key, which is zeroed, with what names inode when it is not in memory, too. */
static __always_inline void name_file(struct file_key *key, struct inode *inode)
{
	key->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	key->generation = BPF_CORE_READ(inode, i_generation);
	key->inode = BPF_CORE_READ(inode, i_ino);
}

/* known gives what is known of inode, or NULL. It is good for as long as the caller holds the inode. */
static __always_inline struct known_inode *known(struct inode *inode)
{
	__u64 address = (__u64)inode;

	return bpf_map_lookup_elem(&bless_inodes, &address);
}

/* know adds flags to what is known of inode; NULL: the map is full. */
static __always_inline struct known_inode *know(struct inode *inode, __u32 flags)
{
	__u64 address = (__u64)inode;
	struct known_inode *k = bpf_map_lookup_elem(&bless_inodes, &address), none = {};

	if (!k) {
		bpf_map_update_elem(&bless_inodes, &address, &none, BPF_NOEXIST);
		k = bpf_map_lookup_elem(&bless_inodes, &address);
	}
	if (k)
		__sync_fetch_and_or(&k->flags, flags);
	else
		count(REASON_UNMARKED);
	return k;
}

static __always_inline bool hashed_by_agent(void)
{
	__u32 zero = 0, *by = bpf_map_lookup_elem(&bless_hashing, &zero);

	return by && *by == HASHED_BY_AGENT;
}

/* wrote notes that inode may have changed: whatever was found of its content no longer counts. */
static __always_inline void wrote(struct inode *inode)
{
	struct known_inode *k = known(inode);
	struct file_key key = {};
	struct seal *seal;

	if (k)
		__sync_fetch_and_add(&k->writes, 1);
	if (!inode || !hashed_by_agent()) /* 6.18 and 7.3 do not take a dentry's inode unasked */
		return;
	name_file(&key, inode);
	seal = bpf_map_lookup_elem(&bless_seals, &key);
	if (seal)
		seal->content.ctime = ~0ull; /* of no file: neither does a SEAL_END fit it */
}

static __always_inline bool has(struct known_inode *k, __u32 flags)
{
	return k && k->flags & flags;
}

static __always_inline __u16 kind(struct inode *inode)
{
	return inode->i_mode & S_IFMT;
}

static __always_inline bool overlay(struct super_block *sb)
{
	return sb->s_magic == OVERLAYFS_SUPER_MAGIC;
}

#endif
