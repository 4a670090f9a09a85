/* SPDX-License-Identifier: Apache-2.0 */
/* May this domain run code from this file? */
#ifndef SBOM_BLESS_JUDGE_H
#define SBOM_BLESS_JUDGE_H
#include "provenance.bpf.h"
#include "kfuncs.h"

/* hash asks the kernel for the file's SHA-256. */
static __always_inline __u32 hash(struct facts *f, struct file *file)
{
	long algo = bpf_ima_file_hash(file, f->digest, sizeof(f->digest));

	if (algo == HASH_ALGO_SHA256)
		return REASON_ALLOWED;
	f->error = algo;
	return REASON_NO_DIGEST;
}

/* listed looks the digest up in the domain's set. */
static __always_inline __u32 listed(struct facts *f)
{
	void *set = bpf_map_lookup_elem(&sets, &f->domain->set);
	__u32 *found;

	if (!set)
		return REASON_NO_SET;
	found = bpf_map_lookup_elem(set, f->digest);
	if (!found)
		return REASON_NOT_LISTED;
	f->file = *found;
	return REASON_ALLOWED;
}

/*
 * signature_of has the kernel verify the file's security.bpf.bless over its
 * digest. What was verified once with a keyring is good for every file of
 * that content.
 */
static __always_inline __u32 signature_of(struct facts *f, struct file *file, __s32 serial)
{
	struct signed_digest key = { .keyring = serial };
	struct signature *s;
	struct bpf_key *keys;
	__u8 one = 1;
	int n;

	__builtin_memcpy(key.digest, f->digest, sizeof(key.digest));
	if (bpf_map_lookup_elem(&signed_digests, &key))
		return REASON_ALLOWED;
	/* To ask for the type also has clang 14 describe it, which the loader compares with the kernel's. */
	if (!bpf_core_type_exists(struct bpf_key) || !bpf_get_file_xattr || !bpf_lookup_user_key ||
	    !bpf_verify_pkcs7_signature || !bpf_key_put) {
		f->error = -EOPNOTSUPP;
		return REASON_NOT_SIGNED;
	}
	s = bpf_task_storage_get(&signatures, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s) {
		f->error = -ENOMEM;
		return REASON_NOT_SIGNED;
	}
	bpf_dynptr_from_mem(s->value, sizeof(s->value), 0, &f->room);
	n = bpf_get_file_xattr(file, "security.bpf.bless", &f->room);
	if (n <= 0 || n > SIGNATURE_LEN) {
		f->error = n;
		return REASON_NOT_SIGNED;
	}
	bpf_dynptr_from_mem(s->value, n, 0, &f->value);
	__builtin_memset(&s->statement, 0, sizeof(s->statement));
	__builtin_memcpy(s->statement.magic, "sbom-bless file", sizeof(s->statement.magic));
	s->statement.version = 1;
	s->statement.hash_algo = HASH_ALGO_SHA256;
	__builtin_memcpy(s->statement.digest, f->digest, sizeof(f->digest));
	bpf_dynptr_from_mem(&s->statement, sizeof(s->statement), 0, &f->statement);
	keys = bpf_lookup_user_key(serial, 0);
	if (!keys) {
		f->error = -ENOKEY;
		return REASON_BAD_SIGNATURE;
	}
	f->error = bpf_verify_pkcs7_signature(&f->statement, &f->value, keys);
	bpf_key_put(keys);
	if (f->error)
		return REASON_BAD_SIGNATURE;
	bpf_map_update_elem(&signed_digests, &key, &one, BPF_ANY);
	return REASON_ALLOWED;
}

/*
 * guard_below has the file below the overlay guarded, too: it can be reached
 * in the host's mount namespace, or by open_by_handle_at on a volume of the
 * same filesystem.
 */
static __always_inline void guard_below(struct inode *inode)
{
	struct below_key key = {};
	struct inode *lower;
	__u8 one = 1;

	if (!overlay(inode->i_sb) || upper_dentry(inode))
		return;
	lower = lower_inode(inode);
	if (!lower)
		return;
	name_below(&key, lower);
	bpf_map_update_elem(&below, &key, &one, BPF_ANY);
}

/*
 * judge answers the one question: may this domain run code from this file?
 * Anything unknown is a reason to deny. Only good files are remembered, and
 * provenance is asked again each time.
 */
static __always_inline __u32 judge(struct facts *f, struct file *file)
{
	struct inode *inode = file->f_inode, *data = data_inode(inode);
	struct settings *set = settings();
	struct good *cached, now = {};
	__u8 one = 1;
	__u32 reason;

	if (!f->domain)
		return REASON_NO_DOMAIN;
	if (closed(f->domain))
		return REASON_UNANNOUNCED;
	reason = provenance(f, inode);
	if (reason)
		return reason;
	if (f->domain->flags & DOMAIN_SIGNED && set)
		now.keyring = set->keyring;
	now.set = f->domain->set;
	now.generation = f->domain->generation;
	now.size = inode->i_size;
	now.ctime = ctime(data);
	cached = bpf_inode_storage_get(&verdicts, inode, NULL, 0);
	if (cached) {
		if (cached->set == now.set && cached->generation == now.generation && cached->keyring == now.keyring &&
		    cached->size == now.size && cached->ctime == now.ctime)
			return REASON_ALLOWED;
		/* Replaced whole, never in place: another CPU must not read half of it. */
		bpf_inode_storage_delete(&verdicts, inode);
	}
	if (f->domain->max_size && now.size > f->domain->max_size)
		return REASON_TOO_LARGE;
	if (!(f->domain->flags & (DOMAIN_LISTED | DOMAIN_SIGNED)))
		return REASON_NO_SET;
	reason = hash(f, file);
	if (!reason && f->domain->flags & DOMAIN_LISTED)
		reason = listed(f);
	if (!reason && f->domain->flags & DOMAIN_SIGNED)
		reason = signature_of(f, file, now.keyring);
	if (reason)
		return reason;
	/* Whoever wrote while the file was hashed is seen here, or sees the guard. */
	reason = provenance(f, inode);
	if (reason)
		return reason;
	if (writable_below(data))
		return REASON_WRITER;
	bpf_inode_storage_get(&used, inode, &one, BPF_LOCAL_STORAGE_GET_F_CREATE);
	bpf_inode_storage_get(&verdicts, inode, &now, BPF_LOCAL_STORAGE_GET_F_CREATE);
	guard_below(inode);
	f->fresh = true;
	return REASON_ALLOWED;
}

#endif
