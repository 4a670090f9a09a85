/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks that keep what was judged as it was. */
#ifndef SBOM_BLESS_HOOKS_GUARD_H
#define SBOM_BLESS_HOOKS_GUARD_H
#include "guard.bpf.h"
#include "seal.bpf.h"
#include "harden.bpf.h"

/* guard_code denies a change of inode, which is dentry's, or an open file's, if the container runs code from it. */
static __always_inline int guard_code(__u32 op, struct inode *inode, struct dentry *dentry)
{
	struct facts f = {};

	if (!labelled(&f, op))
		return 0;
	for_owner(&f, inode);
	if (!guarded(&f, inode, dentry))
		return 0;
	return verdict(&f, REASON_GUARDED, inode, NULL, dentry);
}

/* guard denies a change of what is code, or the agent's. */
static __always_inline int guard(__u32 op, struct inode *inode, struct dentry *dentry)
{
	int ret = keep(op, dentry, 0);

	return ret ? ret : guard_code(op, inode, dentry);
}

/* guard_name denies what would have a name mean something else. */
static __always_inline int guard_name(__u32 op, struct inode *inode, struct dentry *dentry)
{
	return inode && removable(inode) ? 0 : guard_code(op, inode, dentry);
}

/* changes_nothing tells whether mode and owner would stay as they are. */
static __always_inline bool changes_nothing(struct inode *inode, struct iattr *attr)
{
	unsigned int valid = attr->ia_valid;

	if (valid & ~(ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_CTIME | ATTR_KILL_SUID | ATTR_KILL_SGID | ATTR_KILL_PRIV))
		return false;
	return !(valid & ATTR_MODE && (attr->ia_mode ^ inode->i_mode) & S_IALLUGO) &&
	       !(valid & ATTR_UID && attr->ia_uid.val != inode->i_uid.val) &&
	       !(valid & ATTR_GID && attr->ia_gid.val != inode->i_gid.val);
}

/*
 * guard_attributes allows what entrypoints do to their own files. A change without effect is
 * allowed always; overlayfs copies the file up for it, so from then on nobody may write to it.
 * Under soft the digest decides, so any change of mode and owner is, until the file is judged.
 */
static __always_inline int guard_attributes(struct dentry *dentry, struct iattr *attr)
{
	struct inode *inode = dentry->d_inode;
	struct facts f = {};
	int ret = keep(OP_SETATTR, dentry, 0);

	if (ret)
		return ret;
	if (attr->ia_valid & ATTR_SIZE)
		wrote(inode);
	if (!labelled(&f, OP_SETATTR))
		return 0;
	for_owner(&f, inode);
	if (!guarded(&f, inode, dentry))
		return 0;
	if (changes_nothing(inode, attr)) {
		if (!overlay(inode->i_sb) || know(inode, INODE_COPIED | INODE_GUARDED))
			return 0;
	} else if (f.domain->flags & DOMAIN_SOFT && !has(known(inode), INODE_GUARDED | INODE_HASHING) &&
		   !(attr->ia_valid & ATTR_SIZE) &&
		   !(attr->ia_valid & ATTR_MODE && attr->ia_mode & ~inode->i_mode & S_ISXID)) {
		return 0;
	}
	return verdict(&f, REASON_GUARDED, inode, NULL, dentry);
}

SEC("lsm/inode_setattr")
int BPF_PROG(bless_setattr, void *idmap, struct dentry *dentry, struct iattr *attr)
{
	return guard_attributes(dentry, attr);
}

/* Before 6.9 the hook had no idmap; the loader keeps the twin that fits. */
SEC("lsm/inode_setattr")
int BPF_PROG(bless_setattr_compat, struct dentry *dentry, struct iattr *attr)
{
	return guard_attributes(dentry, attr);
}

SEC("lsm/inode_setxattr")
int BPF_PROG(bless_setxattr, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry);
}

SEC("lsm/inode_removexattr")
int BPF_PROG(bless_removexattr, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry);
}

/* Where these hooks are missing, the loader leaves them out: access lists go through inode_setxattr before 6.2. */
SEC("lsm/inode_set_acl")
int BPF_PROG(bless_set_acl, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry);
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(bless_remove_acl, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry);
}

/* file_setattr(2), 6.17; the ioctl does the same on every kernel. */
SEC("lsm/inode_file_setattr")
int BPF_PROG(bless_file_setattr, struct dentry *dentry)
{
	return guard(OP_IOCTL, dentry->d_inode, dentry);
}

SEC("lsm/inode_link")
int BPF_PROG(bless_link, struct dentry *old_dentry, struct inode *dir, struct dentry *new_dentry)
{
	int ret = keep(OP_LINK, new_dentry, 0);

	if (!ret)
		ret = keep(OP_LINK, old_dentry, 0);
	return ret ? ret : guard_name(OP_LINK, old_dentry->d_inode, old_dentry);
}

static __always_inline int guard_ioctl(struct file *file, unsigned int cmd)
{
	switch (cmd) {
	case EXT4_IOC_SWAP_BOOT:
		wrote(file->f_inode);
		break;
	case FS_IOC_SETFLAGS:
	case FS_IOC32_SETFLAGS:
	case FS_IOC_FSSETXATTR:
	case FS_IOC_ENABLE_VERITY:
	case FS_IOC_SETVERSION:
	case FS_IOC32_SETVERSION:
	case EXT4_IOC_SETVERSION:
	case EXT4_IOC32_SETVERSION:
		break;
	default:
		return 0;
	}
	return guard(OP_IOCTL, file->f_inode, file->f_path.dentry);
}

SEC("lsm/file_ioctl")
int BPF_PROG(bless_ioctl, struct file *file, unsigned int cmd, unsigned long arg)
{
	int ret = harden_ioctl(file, cmd);

	if (!ret)
		ret = seal_ioctl(file, cmd, arg);
	return ret ? ret : guard_ioctl(file, cmd);
}

/* Of a task in 32-bit mode, since 6.8. */
SEC("lsm/file_ioctl_compat")
int BPF_PROG(bless_ioctl_compat, struct file *file, unsigned int cmd)
{
	int ret = harden_ioctl(file, cmd);

	return ret ? ret : guard_ioctl(file, cmd);
}

SEC("lsm/inode_unlink")
int BPF_PROG(bless_unlink, struct inode *dir, struct dentry *dentry)
{
	int ret = keep(OP_UNLINK, dentry, PLACE_WAY);

	return ret ? ret : guard_name(OP_UNLINK, dentry->d_inode, dentry);
}

SEC("lsm/inode_rmdir")
int BPF_PROG(bless_rmdir, struct inode *dir, struct dentry *dentry)
{
	return keep(OP_UNLINK, dentry, PLACE_WAY);
}

/*
 * guard_directory answers as overlayfs does by default when a directory of the image is
 * renamed: EXDEV, so that mv copies. With redirect_dir or metacopy it would move the whole
 * tree, and another could take its place.
 */
static __always_inline int guard_directory(struct dentry *dentry)
{
	struct inode *inode = dentry->d_inode;
	struct facts f = {};

	if (!inode || kind(inode) != S_IFDIR || !overlay(inode->i_sb) || !labelled(&f, OP_RENAME))
		return 0;
	for_owner(&f, inode);
	if (!f.domain || !(f.domain->flags & DOMAIN_REDIRECT) || inode->i_sb->s_dev != f.domain->root_dev ||
	    !lower_inode(inode))
		return 0;
	return verdict(&f, REASON_GUARDED, inode, NULL, dentry) ? -EXDEV : 0;
}

static __always_inline int guard_rename(struct dentry *dentry)
{
	int ret = guard_directory(dentry);

	return ret ? ret : guard_name(OP_RENAME, dentry->d_inode, dentry);
}

SEC("lsm/inode_rename")
int BPF_PROG(bless_rename, struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir,
	     struct dentry *new_dentry)
{
	int ret = keep(OP_RENAME, old_dentry, PLACE_WAY);

	if (!ret)
		ret = keep(OP_RENAME, new_dentry, PLACE_WAY);
	if (!ret)
		ret = guard_rename(old_dentry);
	return ret ? ret : guard_rename(new_dentry);
}

#endif
