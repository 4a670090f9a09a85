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

/* As overlayfs has it from 6.5 on: struct ovl_entry and its first struct ovl_path. */
#define ENTRY_LEN 32

/*
 * lower_dentry gives the dentry of an overlay inode in the first lower layer that has one,
 * or in the last; NULL: in none. The way there was found in the type information of overlayfs.
 */
static __always_inline struct dentry *lower_dentry(struct inode *inode, bool last)
{
	void *at = (void *)inode + ovl_lower, *entry = NULL, *dentry = NULL;
	char head[ENTRY_LEN];
	__u32 n;

	if (!ovl_lower)
		return NULL;
	if (ovl_entry) {
		if (bpf_probe_read_kernel(&entry, sizeof(entry), (void *)inode + ovl_entry) || !entry ||
		    bpf_probe_read_kernel(head, sizeof(head), entry))
			return NULL;
		n = *(__u32 *)(head + (ovl_count & (ENTRY_LEN - 4)));
		if (!n || n > 1000)
			return NULL;
		if (n == 1 || !last)
			return *(void **)(head + (ovl_lower & (ENTRY_LEN - 8)));
		at = entry + ovl_lower + (n - 1) * ovl_path;
	}
	return bpf_probe_read_kernel(&dentry, sizeof(dentry), at) ? NULL : dentry;
}

/* lower_inode is the inode of the first lower layer that has an overlay inode's name. */
static __always_inline struct inode *lower_inode(struct inode *inode)
{
	struct dentry *dentry = lower_dentry(inode, false);

	return dentry ? BPF_CORE_READ(dentry, d_inode) : NULL;
}

/*
 * lower_data is the inode that has the data of a regular file, if a lower layer has it.
 * Above it can be metacopies, in the layers of the image too: mode and owner without data.
 */
static __always_inline struct inode *lower_data(struct inode *inode)
{
	struct inode *data = NULL;
	struct dentry *dentry;

	if (ovl_lowerdata && !bpf_probe_read_kernel(&data, sizeof(data), (void *)inode - ovl_lowerdata) && data)
		return data;
	dentry = lower_dentry(inode, true);
	return dentry ? BPF_CORE_READ(dentry, d_inode) : NULL;
}

/* metacopy tells that of a copied-up file only the metadata was copied (ovl_has_upperdata, fs/overlayfs/util.c). */
static __always_inline bool metacopy(struct inode *inode)
{
	unsigned long flags;

	if (!ovl_flags || kind(inode) != S_IFREG ||
	    bpf_probe_read_kernel(&flags, sizeof(flags), (void *)inode - ovl_flags))
		return false;
	return !(flags & ovl_upperdata);
}

/* source is where the data of a file lies. */
struct source {
	struct inode *data;	   /* the inode that has it; on an overlay one below, where that is known */
	bool upper;		   /* it is in the writable layer of an overlay */
	struct known_inode *known; /* of data */
};

static __always_inline void locate_below(struct source *s, struct inode *inode)
{
	struct dentry *upper = upper_dentry(inode);
	struct inode *data = NULL;

	if (!upper || metacopy(inode))
		data = lower_data(inode);
	if (upper && !data) {
		s->upper = true;
		data = BPF_CORE_READ(upper, d_inode);
	}
	if (data)
		s->data = data;
}

static __always_inline void locate(struct source *s, struct inode *inode)
{
	s->upper = false;
	s->data = inode;
	if (overlay(inode->i_sb))
		locate_below(s, inode);
	s->known = known(s->data);
}

/* writable tells whether somebody holds inode open for writing, or mapped shared and writable. */
static __always_inline bool writable(struct inode *inode)
{
	return BPF_CORE_READ(inode, i_writecount.counter) > 0 ||
	       BPF_CORE_READ(inode, i_mapping, i_mmap_writable.counter) > 0;
}

/*
 * copied tells whether the data, in the writable layer, is a copy that the kernel made of a
 * file of the image for a change without effect, and that nobody in the container could
 * write to since. The inode remembers that for as long as it is in memory, the map for as
 * long as the container is known.
 */
static __always_inline bool copied(struct facts *f, struct inode *inode, struct inode *data)
{
	struct file_key key = {};

	if (!lower_inode(inode))
		return false;
	name_file(&key, data);
	if (has(known(inode), INODE_COPIED))
		return !bpf_map_update_elem(&bless_copies, &key, &f->id, BPF_ANY);
	return bpf_map_lookup_elem(&bless_copies, &key) && know(inode, INODE_COPIED | INODE_GUARDED);
}

/* shipped tells whether the data lies where the image's files do, not in a writable layer or on a volume. */
static __always_inline bool shipped(struct facts *f, struct inode *inode, struct source *s)
{
	return overlay(inode->i_sb) ? !s->upper : inode->i_sb->s_dev == f->domain->root_dev;
}

static __always_inline bool allowed_mount(struct facts *f, __u32 dev)
{
	struct mount_key key = { .domain = f->id, .dev = dev };

	return bpf_map_lookup_elem(&bless_mounts, &key);
}

/* unmarked tells that some file may have been mapped for writing without a note of it. */
static __always_inline bool unmarked(void)
{
	__u32 reason = REASON_UNMARKED;
	__u64 *n = bpf_map_lookup_elem(&bless_counters, &reason);

	return n && *n;
}

/* provenance tells whether the data can have come with the image, and stays as it is. */
static __always_inline __u32 provenance(struct facts *f, struct inode *inode, struct source *s)
{
	struct super_block *sb = inode->i_sb;

	if (rejected_fs(sb))
		return REASON_REJECTED_FS;
	if (sb->s_dev != f->domain->root_dev) {
		if (!allowed_mount(f, sb->s_dev))
			return REASON_FOREIGN_FS;
	} else if (!overlay(sb) && !(f->domain->flags & DOMAIN_PLAIN)) {
		return REASON_FOREIGN_FS;
	}
	if (s->upper && !(f->domain->flags & DOMAIN_SOFT) && !copied(f, inode, s->data))
		return REASON_WRITABLE_LAYER;
	/* A pinned page of it could be written at any time, and no counter would show it. */
	if (has(s->known, INODE_MAPPED))
		return REASON_WRITER;
	if (overlay(sb) && !s->upper)
		return REASON_ALLOWED;
	return writable(inode) || writable(s->data) || unmarked() ? REASON_WRITER : REASON_ALLOWED;
}

#endif
