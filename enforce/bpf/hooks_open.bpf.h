/* SPDX-License-Identifier: Apache-2.0 */
/* The hook that every open(2) passes: files an interpreter is about to read, and the write guard. */
#ifndef SBOM_BLESS_HOOKS_OPEN_H
#define SBOM_BLESS_HOOKS_OPEN_H
#include "judge.bpf.h"
#include "harden.bpf.h"
#include "self.bpf.h"

/*
 * blinding tells whether a write to the file can take the verifier's sight: 0
 * in kernel.ftrace_enabled silently turns every BPF LSM program off (6.1 to
 * 6.18), and under an IMA policy file hashes can be stale.
 */
static __always_inline bool blinding(struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;

	switch (file->f_inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC:
		return named(dentry, "ftrace_enabled", 15);
	case SECURITYFS_MAGIC:
		return named(dentry, "policy", 7) && named(BPF_CORE_READ(dentry, d_parent), "ima", 4);
	}
	return false;
}

/* write_reason tells why the file may not be opened for writing. */
static __always_inline __u32 write_reason(struct facts *f, struct file *file)
{
	struct inode *inode = file->f_inode;
	struct dentry *dentry = file->f_path.dentry;

	if (blinding(file))
		return REASON_SELF;
	if (inode->i_sb->s_magic == PROC_SUPER_MAGIC && of_agent(inode))
		return REASON_SELF;
	if (closed(f, inode, dentry))
		return REASON_HARDENED;
	for_owner(f, inode);
	return guarded(f, inode, dentry) ? REASON_GUARDED : REASON_ALLOWED;
}

/* read_reason tells why an interpreter may not read the file, whatever its type. */
static __always_inline __u32 read_reason(struct facts *f, struct file *file)
{
	struct inode *inode = file->f_inode;
	struct source s;
	__u32 reason;

	/* The file is not open yet, so the kernel cannot hash it: where it came from decides. */
	locate(&s, inode);
	reason = provenance(f, inode, &s);
	if (!reason && kind(inode) != S_IFREG)
		return REASON_WRITER; /* a FIFO of the image says what its writer says */
	return reason;
}

/*
 * copying_up tells whether the kernel reads in the name of whoever mounted the overlay, to
 * copy a file up (ovl_override_creds, fs/overlayfs/util.c).
 */
static __always_inline bool copying_up(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return task->cred != task->real_cred;
}

SEC("lsm.s/file_open")
int BPF_PROG(bless_open, struct file *file)
{
	__u32 mode = file->f_mode;
	/* O_TRUNC empties a file that is opened for reading, too; overlayfs copies it up for that. */
	bool write = mode & FMODE_WRITE || file->f_flags & O_TRUNC;
	struct settings *set;
	int ret;

	if (write) {
		ret = keep(OP_WRITE, file->f_path.dentry, 0);
		if (ret)
			return ret;
	}
	/*
	 * Most opens are for reading, and most nodes have no rule about those. What the kernel
	 * reads below an overlay was judged above it; what it writes there, or below FUSE
	 * (passthrough), was not: that overlay can be anybody's.
	 */
	if (!write && (mode & FMODE_NOACCOUNT || !(set = settings()) || !set->interpreters))
		return 0;
	if (write)
		wrote(file->f_inode);
	struct facts f = {}; /* so late because this runs at every open */
	if (!labelled(&f, OP_READ_CODE)) {
		if (!write || !blinding(file))
			return 0;
		f.op = OP_WRITE;
		return verdict(&f, REASON_SELF, file->f_inode, file, NULL);
	}
	if (write) {
		f.op = OP_WRITE;
		return verdict(&f, write_reason(&f, file), file->f_inode, file, NULL);
	}
	if (!f.domain || !(f.domain->flags & DOMAIN_INTERPRETERS) || copying_up() || kind(file->f_inode) == S_IFDIR ||
	    !code_suffix(file->f_path.dentry))
		return 0;
	return verdict(&f, read_reason(&f, file), file->f_inode, file, NULL);
}

#endif
