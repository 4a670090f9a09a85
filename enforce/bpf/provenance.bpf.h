/* SPDX-License-Identifier: Apache-2.0 */
/* Where the data of a file lies, and who can change it. */
#ifndef SBOM_BLESS_PROVENANCE_H
#define SBOM_BLESS_PROVENANCE_H
#include "domain.bpf.h"

static __always_inline bool rejected_fs(struct super_block *sb)
{
	switch (sb->s_magic) {
	case FUSE_SUPER_MAGIC:
	case NFS_SUPER_MAGIC:
	case V9FS_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
		return true;
	}
	return sb->s_user_ns->level > 0;
}

/*
 * upper_dentry is where an overlay inode's data or metadata were copied up
 * to; NULL: they are the lower layer's. struct ovl_inode of every kernel from
 * 4.8 to 7.3 has __upperdentry right behind vfs_inode (fs/overlayfs/ovl_entry.h).
 */
static __always_inline struct dentry *upper_dentry(struct inode *inode)
{
	struct dentry *upper = NULL;

	if (bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode)))
		return (void *)-1; /* unknown is not lower */
	return upper;
}

/*
 * lower_inode is the one that an overlay inode shows, if nothing was copied up:
 * of the first of its lower layers. The way there was found in the type
 * information of overlayfs; 0: it has none.
 */
static __always_inline struct inode *lower_inode(struct inode *inode)
{
	void *at = inode, *dentry = NULL;

	if (!ovl_lower)
		return NULL;
	if (ovl_entry && bpf_probe_read_kernel(&at, sizeof(at), (void *)inode + ovl_entry))
		return NULL;
	if (bpf_probe_read_kernel(&dentry, sizeof(dentry), at + ovl_lower))
		return NULL;
	return BPF_CORE_READ((struct dentry *)dentry, d_inode);
}

static __always_inline void name_below(struct below_key *key, struct inode *inode)
{
	key->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	key->generation = BPF_CORE_READ(inode, i_generation);
	key->inode = BPF_CORE_READ(inode, i_ino);
}

static __always_inline bool overlay(struct super_block *sb)
{
	return sb->s_magic == OVERLAYFS_SUPER_MAGIC;
}

/* writable tells whether somebody holds inode open for writing, or mapped shared and writable. */
static __always_inline bool writable(struct inode *inode)
{
	return inode->i_writecount.counter > 0 || inode->i_mapping->i_mmap_writable.counter > 0;
}

/* writable_below is writable, of an inode that was found below an overlay. */
static __always_inline bool writable_below(struct inode *inode)
{
	return BPF_CORE_READ(inode, i_writecount.counter) > 0 ||
	       BPF_CORE_READ(inode, i_mapping, i_mmap_writable.counter) > 0;
}

static __always_inline bool allowed_mount(struct facts *f, __u32 dev)
{
	struct mount_key key = { .domain = f->id, .dev = dev };

	return bpf_map_lookup_elem(&mounts, &key);
}

/* provenance tells whether the data can have come with the image, and stays as it is. */
static __always_inline __u32 provenance(struct facts *f, struct inode *inode)
{
	struct super_block *sb = inode->i_sb;
	struct dentry *upper;

	if (rejected_fs(sb))
		return REASON_REJECTED_FS;
	if (sb->s_dev != f->domain->root_dev) {
		if (!allowed_mount(f, sb->s_dev))
			return REASON_FOREIGN_FS;
	} else if (!overlay(sb) && !(f->domain->flags & DOMAIN_PLAIN)) {
		return REASON_FOREIGN_FS;
	}
	if (overlay(sb)) {
		upper = upper_dentry(inode);
		if (!upper)
			return REASON_ALLOWED;
		if (!(f->domain->flags & DOMAIN_SOFT))
			return REASON_WRITABLE_LAYER;
		if (writable_below(BPF_CORE_READ(upper, d_inode)))
			return REASON_WRITER;
	}
	return writable(inode) ? REASON_WRITER : REASON_ALLOWED;
}

/* data_inode is the one that holds the data: of an overlay's file, the one below it, where that is known. */
static __always_inline struct inode *data_inode(struct inode *inode)
{
	struct inode *data;
	struct dentry *upper;

	if (!overlay(inode->i_sb))
		return inode;
	upper = upper_dentry(inode);
	data = upper ? BPF_CORE_READ(upper, d_inode) : lower_inode(inode);
	return data ? data : inode;
}

static __always_inline __u64 ctime(struct inode *inode)
{
	struct inode___v6_11 *new = (void *)inode;
	struct inode___v6_6 *mid = (void *)inode;
	struct inode___v6_1 *old = (void *)inode;

	if (bpf_core_field_exists(new->i_ctime_sec))
		return BPF_CORE_READ(new, i_ctime_sec) * 1000000000ull + BPF_CORE_READ(new, i_ctime_nsec);
	if (bpf_core_field_exists(mid->__i_ctime))
		return BPF_CORE_READ(mid, __i_ctime.tv_sec) * 1000000000ull + BPF_CORE_READ(mid, __i_ctime.tv_nsec);
	return BPF_CORE_READ(old, i_ctime.tv_sec) * 1000000000ull + BPF_CORE_READ(old, i_ctime.tv_nsec);
}

#endif
