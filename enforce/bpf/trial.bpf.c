/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the verifier rests on, tried with one file: is a denial heeded, and
 * which digest does the kernel compute? Without bpf in the lsm= list programs
 * load and attach, and never run (seen on 5.10 to 7.3).
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

const volatile __u32 trial_dev;
const volatile __u64 trial_inode;
__u32 asked;
__s64 algorithm; /* enum hash_algo, or the helper's error */

SEC("lsm.s/bprm_check_security")
int BPF_PROG(bless_trial, struct linux_binprm *bprm)
{
	struct file *file = bprm->file;
	__u8 digest[64];

	if (file->f_inode->i_ino != trial_inode || file->f_inode->i_sb->s_dev != trial_dev)
		return 0;
	algorithm = bpf_ima_file_hash(file, digest, sizeof(digest));
	asked = 1;
	return -EPERM;
}

char _license[] SEC("license") = "Dual MIT/GPL";
