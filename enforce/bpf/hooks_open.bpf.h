/* SPDX-License-Identifier: Apache-2.0 */
/* The hook that every open(2) passes: files an interpreter is about to read, and the write guard. */
#ifndef SBOM_BLESS_HOOKS_OPEN_H
#define SBOM_BLESS_HOOKS_OPEN_H
#include "judge.bpf.h"
#include "guard.bpf.h"
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
	switch (inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC: /* memory of a process, and settings that name programs the kernel runs */
		if (of_agent(inode))
			return REASON_SELF;
		if (named(dentry, "sysrq-trigger", 14) || named(dentry, "mem", 4) ||
		    named(BPF_CORE_READ(dentry, d_parent), "kernel", 7))
			return REASON_HARDENED;
		return REASON_ALLOWED;
	case BINFMTFS_MAGIC:
		return REASON_HARDENED;
	case CGROUP_SUPER_MAGIC: /* a program that the kernel runs outside of the container */
		if (named(dentry, "release_agent", 14))
			return REASON_HARDENED;
	}
	return guarded(f, inode, dentry) ? REASON_GUARDED : REASON_ALLOWED;
}

SEC("lsm.s/file_open")
int BPF_PROG(open, struct file *file)
{
	__u32 mode = file->f_mode;
	bool write = mode & FMODE_WRITE;
	struct settings *set;
	int ret;

	if (write) {
		ret = keep(OP_WRITE, file->f_path.dentry, 0);
		if (ret)
			return ret;
	}
	/* overlayfs opens the file below; the task opened the one above, which was judged. */
	if (mode & FMODE_NOACCOUNT)
		return 0;
	/* Most opens are for reading, and most nodes have no rule about those. */
	if (!write && (!(set = settings()) || !set->interpreters))
		return 0;
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
	if (!f.domain || !(f.domain->flags & DOMAIN_INTERPRETERS) || (file->f_inode->i_mode & S_IFMT) != S_IFREG ||
	    !code_suffix(file->f_path.dentry))
		return 0;
	/* The file is not open yet, so the kernel cannot hash it: where it came from decides. */
	return verdict(&f, provenance(&f, file->f_inode), file->f_inode, file, NULL);
}

#endif
