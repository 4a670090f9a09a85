/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel functions that not every kernel has. Weak: the loader poisons a call
 * to one that is missing, and the verifier drops the branch around it. */
#ifndef SBOM_BLESS_KFUNCS_H
#define SBOM_BLESS_KFUNCS_H

#define ksym_exists(sym) (&(sym) != NULL)

/* 6.1 */
extern struct bpf_key *bpf_lookup_user_key(__u32 serial, __u64 flags) __weak __ksym;
extern void bpf_key_put(struct bpf_key *key) __weak __ksym;
extern int bpf_verify_pkcs7_signature(struct bpf_dynptr *data, struct bpf_dynptr *sig,
				      struct bpf_key *keyring) __weak __ksym;
/* 6.8; reads security.bpf.* since 6.13 */
extern int bpf_get_file_xattr(struct file *file, const char *name, struct bpf_dynptr *value) __weak __ksym;

#endif
