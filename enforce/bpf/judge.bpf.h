/* SPDX-License-Identifier: Apache-2.0 */
/* May this domain run code from this file? */
#ifndef SBOM_BLESS_JUDGE_H
#define SBOM_BLESS_JUDGE_H
#include "seal.bpf.h"
#include "kfuncs.h"

/* hash asks the kernel for the file's SHA-256. */
static __always_inline __u32 hash(struct facts *f, struct file *file)
{
	long algo;

	count(REASON_HASHED);
	algo = bpf_ima_file_hash(file, f->digest, sizeof(f->digest));
	if (algo == HASH_ALGO_SHA256)
		return REASON_ALLOWED;
	f->error = algo;
	return REASON_NO_DIGEST;
}

/* listed looks the digest up in the domain's set. */
static __always_inline __u32 listed(struct facts *f)
{
	void *set = bpf_map_lookup_elem(&bless_sets, &f->domain->set);
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
 * evidence is what signature_of hands to the kernel. It lives as long as the hook, so that no
 * other variable takes its place on the stack: 6.12 and 6.18 let no helper write where a
 * dynptr was.
 */
struct evidence {
	struct bpf_dynptr room, value, statement;
};

/*
 * signature_of has the kernel verify the file's security.bpf.bless over its
 * digest. What was verified once with a keyring is good for every file of
 * that content.
 */
static __always_inline __u32 signature_of(struct facts *f, struct file *file, struct evidence *e, __s32 serial)
{
	struct signed_digest key = { .keyring = serial };
	struct signature *s;
	struct bpf_key *keys;
	__u8 one = 1;
	int n;

	__builtin_memcpy(key.digest, f->digest, sizeof(key.digest));
	if (bpf_map_lookup_elem(&bless_signed_digests, &key))
		return REASON_ALLOWED;
	/* To ask for the type also has clang 14 describe it, which the loader compares with the kernel's. */
	if (!bpf_core_type_exists(struct bpf_key) || !bpf_get_file_xattr || !bpf_lookup_user_key ||
	    !bpf_verify_pkcs7_signature || !bpf_key_put) {
		f->error = -EOPNOTSUPP;
		return REASON_NOT_SIGNED;
	}
	s = bpf_task_storage_get(&bless_signatures, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s) {
		f->error = -ENOMEM;
		return REASON_NOT_SIGNED;
	}
	bpf_dynptr_from_mem(s->value, sizeof(s->value), 0, &e->room);
	n = bpf_get_file_xattr(file, "security.bpf.bless", &e->room);
	if (n <= 0 || n > SIGNATURE_LEN) {
		f->error = n;
		return REASON_NOT_SIGNED;
	}
	bpf_dynptr_from_mem(s->value, n, 0, &e->value);
	__builtin_memset(&s->statement, 0, sizeof(s->statement));
	__builtin_memcpy(s->statement.magic, "sbom-bless file", sizeof(s->statement.magic));
	s->statement.version = 1;
	s->statement.hash_algo = HASH_ALGO_SHA256;
	__builtin_memcpy(s->statement.digest, f->digest, sizeof(f->digest));
	bpf_dynptr_from_mem(&s->statement, sizeof(s->statement), 0, &e->statement);
	keys = bpf_lookup_user_key(serial, 0);
	if (!keys) {
		f->error = -ENOKEY;
		return REASON_BAD_SIGNATURE;
	}
	f->error = bpf_verify_pkcs7_signature(&e->statement, &e->value, keys);
	bpf_key_put(keys);
	if (f->error)
		return REASON_BAD_SIGNATURE;
	bpf_map_update_elem(&bless_signed_digests, &key, &one, BPF_ANY);
	return REASON_ALLOWED;
}

/* expected tells whether a file of the set has this size: else none can have its digest. */
static __always_inline bool expected(struct facts *f, __u64 size)
{
	void *set = bpf_map_lookup_elem(&bless_sets, &f->domain->set);
	struct size_key key = { .size = size };

	__builtin_memset(key.ones, 0xff, sizeof(key.ones));
	return !set || bpf_map_lookup_elem(set, &key);
}

/* decide says whether content of this digest is good; f->digest is known. */
static __always_inline __u32 decide(struct facts *f, struct file *file, struct evidence *e, __s32 keyring)
{
	__u32 reason = REASON_ALLOWED;

	if (f->domain->flags & DOMAIN_LISTED)
		reason = listed(f);
	if (!reason && f->domain->flags & DOMAIN_SIGNED)
		reason = signature_of(f, file, e, keyring);
	return reason;
}

/* recall gives the digest of an inode's content, if it was hashed and is the same, in whatever container. */
static __always_inline bool recall(struct facts *f, struct inode *data, struct content *now)
{
	__u64 address = (__u64)data;
	struct measured *m = bpf_map_lookup_elem(&bless_digests, &address);

	if (!m || !same(&m->content, now))
		return false;
	__builtin_memcpy(f->digest, m->digest, sizeof(f->digest));
	return true;
}

/*
 * measure finds the digest of the file. While the kernel hashes it, nobody in a container can
 * write to it.
 */
static __always_inline __u32 measure(struct facts *f, struct file *file, struct source *s, struct content *now)
{
	struct inode *inode = file->f_inode;
	__u64 address = (__u64)s->data;
	struct measured fresh;
	__u32 reason;

	if (f->domain->max_size && now->size > f->domain->max_size)
		return REASON_TOO_LARGE;
	if (recall(f, s->data, now))
		return REASON_ALLOWED;
	if (f->domain->flags & DOMAIN_LISTED && f->domain->flags & DOMAIN_SIZES && !expected(f, now->size))
		return REASON_NOT_LISTED;
	/* Who has it open by now is seen here; who opens it later sees the guard. */
	reason = provenance(f, inode, s);
	if (reason)
		return reason;
	if (writable(s->data))
		return REASON_WRITER;
	reason = hashed_by_agent() ? sealed(f, s->data, now) : hash(f, file);
	if (reason)
		return reason;
	/* A write during the hash changes the content key: the entry is then void. */
	fresh.content = *now;
	__builtin_memcpy(fresh.digest, f->digest, sizeof(fresh.digest));
	bpf_map_update_elem(&bless_digests, &address, &fresh, BPF_ANY);
	return REASON_ALLOWED;
}

/*
 * judge answers the one question: may this domain run code from this file?
 * Anything unknown is a reason to deny. Provenance is asked each time. A digest is
 * remembered for as long as the inode that has the data is in memory and unchanged,
 * what came of it for as long as the rules and lists are the same: so a file is hashed
 * once, a bad one too.
 */
static __always_inline __u32 judge(struct facts *f, struct file *file, struct evidence *e)
{
	struct inode *inode = file->f_inode;
	struct settings *set = settings();
	struct known_inode *above, *below;
	struct judged *before, now = {};
	struct source s;
	__u32 reason;

	if (!f->domain)
		return REASON_NO_DOMAIN;
	if (closed_pod(f->domain))
		return REASON_UNANNOUNCED;
	locate(&s, inode);
	reason = provenance(f, inode, &s);
	if (reason)
		return reason;
	below = s.known;
	if (f->domain->flags & DOMAIN_SIGNED && set)
		now.keyring = set->keyring;
	now.set = f->domain->set;
	now.generation = f->domain->generation;
	now.content.size = inode->i_size;
	now.content.ctime = change_time(s.data);
	now.content.writes = below ? below->writes : 0;
	before = below ? bpf_inode_storage_get(&bless_verdicts, inode, NULL, 0) : NULL;
	if (before && same(&before->content, &now.content) && before->set == now.set &&
	    before->generation == now.generation && before->keyring == now.keyring) {
		reason = before->reason;
		if (reason)
			recall(f, s.data, &now.content); /* for the event */
		return reason;
	}
	if (!(f->domain->flags & (DOMAIN_LISTED | DOMAIN_SIGNED)))
		return REASON_NO_SET;
	above = know(inode, INODE_HASHING);
	s.known = below = know(s.data, INODE_HASHING);
	if (!above || !below) {
		f->error = -ENOMEM;
		return REASON_NO_DIGEST;
	}
	now.content.writes = below->writes;
	reason = measure(f, file, &s, &now.content);
	if (!reason) {
		now.reason = decide(f, file, e, now.keyring);
		/* Who wrote while it was hashed, or got in before the guard, is seen here. */
		reason = provenance(f, inode, &s);
		if (!reason && (writable(s.data) || below->writes != now.content.writes))
			reason = REASON_WRITER;
	}
	if (!reason) {
		reason = now.reason;
		if (!reason) {
			__sync_fetch_and_or(&above->flags, INODE_GUARDED);
			__sync_fetch_and_or(&below->flags, INODE_GUARDED | (shipped(f, inode, &s) ? INODE_SHIPPED : 0));
			f->fresh = true;
		}
		/* Replaced whole, never in place: another CPU must not read half of it. */
		bpf_inode_storage_delete(&bless_verdicts, inode);
		/* Whether the attribute can be read depends on the task, so that is asked again. */
		if (reason != REASON_NOT_SIGNED)
			bpf_inode_storage_get(&bless_verdicts, inode, &now, BPF_LOCAL_STORAGE_GET_F_CREATE);
	}
	__sync_fetch_and_and(&above->flags, ~INODE_HASHING);
	__sync_fetch_and_and(&below->flags, ~INODE_HASHING);
	return reason;
}

#endif
