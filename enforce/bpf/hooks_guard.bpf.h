/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks that keep what was judged as it was. */
#ifndef SBOM_BLESS_HOOKS_GUARD_H
#define SBOM_BLESS_HOOKS_GUARD_H
#include "guard.bpf.h"
#include "self.bpf.h"

/* guard denies a change of inode, which is dentry's, or an open file's; way is PLACE_WAY where its name goes. */
static __always_inline int guard(__u32 op, struct inode *inode, struct dentry *dentry, __u32 way)
{
	struct facts f = {};
	int ret = keep(op, dentry, way);

	if (ret)
		return ret;
	if (!labelled(&f, op) || !guarded(&f, inode, dentry))
		return 0;
	return verdict(&f, REASON_GUARDED, inode, NULL, dentry);
}

SEC("lsm/inode_setattr")
int BPF_PROG(setattr, void *idmap, struct dentry *dentry)
{
	return guard(OP_SETATTR, dentry->d_inode, dentry, 0);
}

/* Before 6.9 the hook had no idmap; the loader keeps the twin that fits. */
SEC("lsm/inode_setattr")
int BPF_PROG(setattr_compat, struct dentry *dentry)
{
	return guard(OP_SETATTR, dentry->d_inode, dentry, 0);
}

SEC("lsm/inode_setxattr")
int BPF_PROG(setxattr, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry, 0);
}

SEC("lsm/inode_removexattr")
int BPF_PROG(removexattr, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry, 0);
}

/* Where these hooks are missing, the loader leaves them out: access lists go through inode_setxattr before 6.2. */
SEC("lsm/inode_set_acl")
int BPF_PROG(set_acl, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry, 0);
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(remove_acl, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry, 0);
}

/* file_setattr(2), 6.17; the ioctl does the same on every kernel. */
SEC("lsm/inode_file_setattr")
int BPF_PROG(file_setattr, struct dentry *dentry)
{
	return guard(OP_IOCTL, dentry->d_inode, dentry, 0);
}

SEC("lsm/inode_link")
int BPF_PROG(link, struct dentry *old_dentry, struct inode *dir, struct dentry *new_dentry)
{
	int ret = keep(OP_LINK, new_dentry, 0);

	return ret ? ret : guard(OP_LINK, old_dentry->d_inode, old_dentry, 0);
}

static __always_inline int guard_ioctl(struct file *file, unsigned int cmd)
{
	if (cmd != FS_IOC_SETFLAGS && cmd != FS_IOC32_SETFLAGS && cmd != FS_IOC_FSSETXATTR &&
	    cmd != FS_IOC_ENABLE_VERITY)
		return 0;
	return guard(OP_IOCTL, file->f_inode, file->f_path.dentry, 0);
}

SEC("lsm/file_ioctl")
int BPF_PROG(ioctl, struct file *file, unsigned int cmd)
{
	return guard_ioctl(file, cmd);
}

/* Of a task in 32-bit mode, since 6.8. */
SEC("lsm/file_ioctl_compat")
int BPF_PROG(ioctl_compat, struct file *file, unsigned int cmd)
{
	return guard_ioctl(file, cmd);
}

SEC("lsm/inode_unlink")
int BPF_PROG(unlink, struct inode *dir, struct dentry *dentry)
{
	return guard(OP_UNLINK, dentry->d_inode, dentry, PLACE_WAY);
}

SEC("lsm/inode_rmdir")
int BPF_PROG(rmdir, struct inode *dir, struct dentry *dentry)
{
	return keep(OP_UNLINK, dentry, PLACE_WAY);
}

SEC("lsm/inode_rename")
int BPF_PROG(rename, struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir, struct dentry *new_dentry)
{
	int ret = guard(OP_RENAME, old_dentry->d_inode, old_dentry, PLACE_WAY);

	return ret ? ret : guard(OP_RENAME, new_dentry->d_inode, new_dentry, PLACE_WAY);
}

#endif
