/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks that ask whether code may run. */
#ifndef SBOM_BLESS_HOOKS_CODE_H
#define SBOM_BLESS_HOOKS_CODE_H
#include "judge.bpf.h"

/*
 * judge_here judges file for the task's domain, and, where it lies on the root filesystem of
 * another domain, for that one: a container that is only watched does not run what that one
 * forbids. Returns the hook's result.
 */
static __always_inline int judge_here(struct facts *f, struct file *file, struct evidence *e, bool enter)
{
	struct inode *inode = file->f_inode;
	__u32 other = owner(f, inode), reason;

	if (other && !allowed_mount(f, inode->i_sb->s_dev)) {
		int ret = verdict(f, REASON_FOREIGN_FS, inode, file, NULL);

		if (ret)
			return ret;
		f->id = other;
		f->domain = bpf_map_lookup_elem(&bless_domains, &f->id);
	}
	reason = judge(f, file, e);
	if (enter && !reason && !set_label(bpf_get_current_task_btf(), f->id))
		reason = REASON_NO_DOMAIN;
	return verdict(f, reason, inode, file, NULL);
}

/* AT_EXECVE_CHECK asks this hook and no other. The loader leaves it out where that is unknown, before 6.14. */
SEC("lsm.s/bprm_creds_for_exec")
int BPF_PROG(bless_creds_for_exec, struct linux_binprm *bprm)
{
	struct file *file = bprm->file;
	bool enter = false;

	if (!bpf_core_field_exists(bprm->is_check) || !BPF_CORE_READ_BITFIELD(bprm, is_check))
		return 0;
	struct facts f = {};
	struct evidence e = {};
	return entering(&f, file, &enter) ? judge_here(&f, file, &e, false) : 0;
}

SEC("lsm.s/bprm_check_security")
int BPF_PROG(bless_check_security, struct linux_binprm *bprm)
{
	struct facts f = {};
	struct evidence e = {};
	struct file *file = bprm->file;
	bool enter = false;

	return entering(&f, file, &enter) ? judge_here(&f, file, &e, enter) : 0;
}

static long is_executable(struct task_struct *task, struct vm_area_struct *vma, bool *executable)
{
	*executable = vma->vm_flags & VM_EXEC;
	return 0;
}

/*
 * executable_stack tells whether the program asked for one (PT_GNU_STACK). No hook sees the
 * kernel make it, but the program's code is mapped next, before the kernel notes where that
 * begins (load_elf_binary, fs/binfmt_elf.c). Later, mprotect would be asked.
 */
static __always_inline bool executable_stack(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	bool executable = false;

	if (!task->mm || task->mm->start_code)
		return false;
	/* A stack that cannot be looked at counts as executable. */
	return bpf_find_vma(task, task->mm->arg_start, is_executable, &executable, 0) < 0 || executable;
}

static __always_inline bool jit(struct facts *f)
{
	return f->domain && f->domain->flags & DOMAIN_JIT;
}

/* in_memory tells whether a filesystem is the kernel's own, for memory without a name: memfd, shmget. */
static __always_inline bool in_memory(struct super_block *sb)
{
	return sb->s_flags & SB_KERNMOUNT && (sb->s_magic == TMPFS_MAGIC || sb->s_magic == HUGETLBFS_MAGIC);
}

SEC("lsm.s/mmap_file")
int BPF_PROG(bless_mmap, struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags)
{
	bool shared = (flags & MAP_TYPE) == MAP_SHARED || (flags & MAP_TYPE) == MAP_SHARED_VALIDATE;
	__u64 address = 0;

	if (!(prot & PROT_EXEC) && !shared)
		return 0;
	struct facts f = {};
	bool judged = prot & PROT_EXEC && labelled(&f, OP_MMAP);
	if (!judged && !shared)
		return 0;
	/*
	 * Anonymous memory has no file, but the verifier of 6.12 takes the argument
	 * for a pointer that is never NULL: it drops `!file`, and the kernel oopses
	 * (seen). So the address is read as a number, too. 7.3 insists on `!file`.
	 */
	bool anonymous = bpf_probe_read_kernel(&address, sizeof(address), ctx) || !address || !file;
	if (shared && !anonymous && file->f_mode & FMODE_WRITE && kind(file->f_inode) == S_IFREG) {
		struct source s;

		locate(&s, file->f_inode);
		know(s.data, INODE_MAPPED);
	}
	if (!judged)
		return 0;
	if (anonymous)
		return jit(&f) ? 0 : verdict(&f, REASON_ANONYMOUS, NULL, NULL, NULL);
	if (jit(&f)) {
		if (in_memory(file->f_inode->i_sb))
			return 0;
		if (prot & PROT_WRITE && shared)
			return verdict(&f, REASON_WRITE_EXEC, file->f_inode, file, NULL);
	} else if (prot & PROT_WRITE || executable_stack()) {
		return verdict(&f, REASON_WRITE_EXEC, file->f_inode, file, NULL);
	}
	struct evidence e = {};
	return judge_here(&f, file, &e, false);
}

/*
 * Not sleepable on any kernel, and on overlayfs vma->vm_file is the file below:
 * nothing can be judged here. Nor need it: what is executable was judged when
 * it was mapped, and nothing else may become so.
 */
SEC("lsm/file_mprotect")
int BPF_PROG(bless_mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	struct file *file = vma->vm_file;

	if (!(prot & PROT_EXEC))
		return 0;
	struct facts f = {};
	if (!labelled(&f, OP_MPROTECT))
		return 0;
	if (vma->vm_flags & VM_EXEC && !(prot & PROT_WRITE) && !vma->anon_vma)
		return 0;
	/* With jit, a private mapping of a good file is memory like any other: ld.so relocates code so. */
	if (jit(&f) && (!file || in_memory(file->f_inode->i_sb) ||
			(!(vma->vm_flags & VM_SHARED) && has(known(file->f_inode), INODE_GUARDED))))
		return 0;
	if (!file)
		return verdict(&f, REASON_WRITE_EXEC, NULL, NULL, NULL);
	return verdict(&f, REASON_WRITE_EXEC, file->f_inode, NULL, file->f_path.dentry);
}

/*
 * The heap grows by brk(2), which no other hook sees, and under
 * personality(READ_IMPLIES_EXEC) it grows executable.
 */
SEC("lsm/mmap_addr")
int BPF_PROG(bless_mmap_addr, unsigned long addr)
{
	if (!(bpf_get_current_task_btf()->personality & READ_IMPLIES_EXEC))
		return 0;
	struct facts f = {};
	if (!labelled(&f, OP_MMAP) || jit(&f))
		return 0;
	return verdict(&f, REASON_ANONYMOUS, NULL, NULL, NULL);
}

#endif
