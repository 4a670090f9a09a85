/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks that close ways around. */
#ifndef SBOM_BLESS_HOOKS_HARDEN_H
#define SBOM_BLESS_HOOKS_HARDEN_H
#include "harden.bpf.h"
#include "self.bpf.h"

static const char userfaultfd[] = "[userfaultfd]"; /* fs/userfaultfd.c */

/* Attaching covers process_vm_writev and /proc/PID/mem of other processes too. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(bless_ptrace, struct task_struct *child, unsigned int mode)
{
	int ret;

	if (!(mode & PTRACE_MODE_ATTACH))
		return 0;
	ret = on_task(OP_PTRACE,
		      child); /* the agent's descriptors and memory: pidfd_getfd takes what the maps' guard refuses */
	return ret ? ret : harden(OP_PTRACE);
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(bless_traceme, struct task_struct *parent)
{
	return harden(OP_PTRACE);
}

static __always_inline int kernel_code(__u32 id)
{
	if (id == bpf_core_enum_value(enum kernel_read_file_id, READING_MODULE) ||
	    id == bpf_core_enum_value(enum kernel_read_file_id, READING_KEXEC_IMAGE) ||
	    id == bpf_core_enum_value(enum kernel_read_file_id, READING_KEXEC_INITRAMFS))
		return harden(OP_MODULE);
	return 0;
}

SEC("lsm/kernel_load_data")
int BPF_PROG(bless_load_data, __u32 id)
{
	return kernel_code(id);
}

SEC("lsm/kernel_read_file")
int BPF_PROG(bless_read_file, struct file *file, __u32 id)
{
	return kernel_code(id);
}

/* A release agent is an option of this mount, besides a file in it: a program that the kernel runs on the host. */
SEC("lsm/sb_kern_mount")
int BPF_PROG(bless_kern_mount, struct super_block *sb)
{
	return sb->s_magic == CGROUP_SUPER_MAGIC ? harden(OP_MOUNT) : 0;
}

/* It fills pages of a mapping with what it likes: those of a file on tmpfs, too, that was judged when it was mapped. */
SEC("lsm/inode_init_security_anon")
int BPF_PROG(bless_anonymous_inode, struct inode *inode, const struct qstr *name)
{
	struct facts f = {};
	char text[16] = {};

	bpf_probe_read_kernel_str(text, sizeof(text), BPF_CORE_READ(name, name));
	for (int i = 0; i < sizeof(userfaultfd); i++)
		if (text[i] != userfaultfd[i])
			return 0;
	if (!labelled(&f, OP_USERFAULTFD) || (f.domain && f.domain->flags & DOMAIN_JIT))
		return 0;
	return verdict(&f, REASON_HARDENED, NULL, NULL, NULL);
}

SEC("lsm/socket_create")
int BPF_PROG(bless_socket, int family)
{
	return family == AF_ALG ? harden(OP_SOCKET) : 0;
}

/* Commands for a disk by io_uring go to a character device that was opened for reading. */
SEC("lsm/uring_cmd")
int BPF_PROG(bless_uring_cmd, struct io_uring_cmd *cmd)
{
	return harden_ioctl(cmd->file, cmd->cmd_op);
}

#endif
