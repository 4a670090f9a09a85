/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel functions that not every kernel has. One that is missing has the
 * address 0, and the verifier drops the branch that would call it.
 */
#ifndef SBOM_BLESS_KFUNCS_H
#define SBOM_BLESS_KFUNCS_H

/* 6.8; reads security.bpf.* from 6.13 on, and user.* alone before (fs/bpf_fs_kfuncs.c). */
extern int bpf_get_file_xattr(struct file *file, const char *name, struct bpf_dynptr *value) __ksym __weak;

/* 6.1 (kernel/trace/bpf_trace.c) */
extern struct bpf_key *bpf_lookup_user_key(__s32 serial, __u64 flags) __ksym __weak;
extern void bpf_key_put(struct bpf_key *key) __ksym __weak;
extern int bpf_verify_pkcs7_signature(struct bpf_dynptr *data, struct bpf_dynptr *signature,
				      struct bpf_key *keyring) __ksym __weak;

#endif
