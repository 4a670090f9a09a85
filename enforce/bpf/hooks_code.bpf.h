/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks that ask whether code may run. */
#ifndef SBOM_BLESS_HOOKS_CODE_H
#define SBOM_BLESS_HOOKS_CODE_H
#include "judge.bpf.h"

SEC("lsm.s/bprm_creds_for_exec")
int BPF_PROG(creds_for_exec, struct linux_binprm *bprm)
{
	struct facts f = {};
	struct file *file = bprm->file;
	bool enter = false;

	if (!entering(&f, file, &enter))
		return 0;
	return verdict(&f, judge(&f, file), file->f_inode, file, NULL);
}

SEC("lsm.s/bprm_check_security")
int BPF_PROG(check_security, struct linux_binprm *bprm)
{
	struct facts f = {};
	struct file *file = bprm->file;
	bool enter = false;
	__u32 reason;

	if (!entering(&f, file, &enter))
		return 0;
	reason = judge(&f, file);
	if (enter && !reason && !set_label(bpf_get_current_task_btf(), f.id))
		reason = REASON_NO_DOMAIN;
	return verdict(&f, reason, file->f_inode, file, NULL);
}

SEC("lsm.s/mmap_file")
int BPF_PROG(mmap, struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags)
{
	__u64 address = 0;

	if (!(prot & PROT_EXEC))
		return 0;
	struct facts f = {};
	if (!labelled(&f, OP_MMAP))
		return 0;
	/*
	 * Anonymous memory has no file, but the verifier of 6.12 takes the argument
	 * for a pointer that is never NULL: it drops `!file`, and the kernel oopses
	 * (seen). So the address is read as a number, too. 7.3 insists on `!file`.
	 */
	if (bpf_probe_read_kernel(&address, sizeof(address), ctx) || !address || !file) {
		if (f.domain && f.domain->flags & DOMAIN_JIT)
			return 0;
		return verdict(&f, REASON_ANONYMOUS, NULL, NULL, NULL);
	}
	if (prot & PROT_WRITE)
		return verdict(&f, REASON_WRITE_EXEC, file->f_inode, file, NULL);
	return verdict(&f, judge(&f, file), file->f_inode, file, NULL);
}

/*
 * Not sleepable on any kernel, and on overlayfs vma->vm_file is the file below:
 * nothing can be judged here. Nor need it: what is executable was judged when
 * it was mapped, and nothing else may become so.
 */
SEC("lsm/file_mprotect")
int BPF_PROG(mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	struct file *file = vma->vm_file;

	if (!(prot & PROT_EXEC))
		return 0;
	struct facts f = {};
	if (!labelled(&f, OP_MPROTECT))
		return 0;
	if (!file && f.domain && f.domain->flags & DOMAIN_JIT)
		return 0;
	if (vma->vm_flags & VM_EXEC && !(prot & PROT_WRITE) && !vma->anon_vma)
		return 0;
	if (!file)
		return verdict(&f, REASON_WRITE_EXEC, NULL, NULL, NULL);
	return verdict(&f, REASON_WRITE_EXEC, file->f_inode, NULL, file->f_path.dentry);
}

#endif
