/* SPDX-License-Identifier: Apache-2.0 */
/* What is closed to every container, because it reaches beyond it. */
#ifndef SBOM_BLESS_HARDEN_H
#define SBOM_BLESS_HARDEN_H
#include "guard.bpf.h"

static __always_inline int harden(__u32 op)
{
	struct facts f = {};

	return labelled(&f, op) ? verdict(&f, REASON_HARDENED, NULL, NULL, NULL) : 0;
}

static __always_inline bool own_ipc(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, ipc_ns, ns.inum) != PROC_IPC_INIT_INO;
}

static __always_inline bool own_uts(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, uts_ns, ns.inum) != PROC_UTS_INIT_INO;
}

static __always_inline bool own_pids(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, pid_ns_for_children, ns.inum) != PROC_PID_INIT_INO;
}

/* of_namespace tells whether a file of /proc/sys/kernel sets something in the task's own namespaces alone. */
static __always_inline bool of_namespace(struct dentry *dentry)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (named(dentry, "shm", 3) || named(dentry, "msg", 3) || named(dentry, "sem", 3) ||
	    named(dentry, "auto_msgmni", 12)) /* ipc/ipc_sysctl.c */
		return own_ipc(task);
	if (named(dentry, "hostname", 9) || named(dentry, "domainname", 11)) /* kernel/utsname_sysctl.c */
		return own_uts(task);
	if (named(dentry, "ns_last_pid", 12)) /* kernel/pid_namespace.c */
		return own_pids(task);
	return false;
}

/* raw_device tells whether writing to the device changes memory, or files without their filesystem. */
static __always_inline bool raw_device(struct facts *f, struct inode *inode)
{
	__u32 major = inode->i_rdev >> MINORBITS, minor = inode->i_rdev & ((1 << MINORBITS) - 1);

	switch (kind(inode)) {
	case S_IFBLK:
		return !f->domain || !(f->domain->flags & DOMAIN_DEVICES);
	case S_IFCHR: /* mem, kmem, port; sg */
		return (major == MEM_MAJOR && (minor == 1 || minor == 2 || minor == 4)) || major == SCSI_GENERIC_MAJOR;
	}
	return false;
}

/* closed tells whether a file may not be opened for writing in any container. */
static __always_inline bool closed(struct facts *f, struct inode *inode, struct dentry *dentry)
{
	struct dentry *dir = BPF_CORE_READ(dentry, d_parent);

	switch (inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC: /* memory of a process, keys by which the kernel kills, settings that name programs it
				  runs */
		return named(dentry, "mem", 4) || named(dentry, "sysrq-trigger", 14) ||
		       (named(dir, "kernel", 7) && !of_namespace(dentry));
	case SYSFS_MAGIC: /* a program the kernel runs on the host; what modules do, where firmware comes from */
		return named(dentry, "uevent_helper", 14) || named(dir, "parameters", 11);
	case CGROUP_SUPER_MAGIC: /* a program that the kernel runs outside of the container */
		return named(dentry, "release_agent", 14);
	case BINFMTFS_MAGIC:
	case CONFIGFS_MAGIC: /* has the kernel serve files and disks by name */
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
		return true;
	}
	return raw_device(f, inode);
}

/*
 * disk_command tells whether an ioctl hands a disk a command of its own, or changes what lies
 * below one. Any descriptor can, one that was opened for reading, too.
 */
static __always_inline bool disk_command(unsigned int cmd)
{
	unsigned int nr = cmd & 0xff;

	switch (cmd >> 8 & 0xff) {
	case 'N': /* include/uapi/linux/nvme_ioctl.h */
		return nr >= 0x40 && nr < 0xa0;
	case 'L': /* include/uapi/linux/loop.h */
		return cmd != LOOP_GET_STATUS && cmd != LOOP_GET_STATUS64;
	case 0xfd: /* include/uapi/linux/dm-ioctl.h */
	case 0xab: /* include/uapi/linux/nbd.h */
		return true;
	case 9: /* include/uapi/linux/raid/md_u.h: from 0x20 on, arrays are changed */
		return nr >= 0x20;
	}
	return cmd == SG_IO || cmd == SCSI_IOCTL_SEND_COMMAND || cmd == BLKPG || cmd == BLKROSET;
}

static __noinline int harden_ioctl(struct file *file, unsigned int cmd)
{
	struct inode *inode = file->f_inode;
	struct facts f = {};

	if (!disk_command(cmd) || (kind(inode) != S_IFBLK && kind(inode) != S_IFCHR) || !labelled(&f, OP_IOCTL) ||
	    (f.domain && f.domain->flags & DOMAIN_DEVICES))
		return 0;
	return verdict(&f, REASON_HARDENED, inode, NULL, file->f_path.dentry);
}

#endif
