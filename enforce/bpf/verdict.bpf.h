/* SPDX-License-Identifier: Apache-2.0 */
/* How a decision becomes a result and an event: verdict() alone says -EPERM. */
#ifndef SBOM_BLESS_VERDICT_H
#define SBOM_BLESS_VERDICT_H
#include "inode.bpf.h"

/* facts is what is known of the operation at hand. */
struct facts {
	struct domain *domain; /* NULL when the domain is gone */
	__u32 id;
	__u32 op;
	__u32 file;
	__s32 error;
	bool fresh; /* allowed after a look at the data, not from the cache */
	__u8 digest[32];
};

/* repeated tells whether the same was reported less than a second ago. */
static __always_inline bool repeated(struct facts *f, __u32 reason, struct inode *inode)
{
	struct recent_key key = { .domain = f->id, .op = f->op, .reason = reason };
	__u64 now = bpf_ktime_get_ns();
	__u64 *last;

	if (inode) {
		key.dev = BPF_CORE_READ(inode, i_sb, s_dev);
		key.generation = BPF_CORE_READ(inode, i_generation);
		key.inode = BPF_CORE_READ(inode, i_ino);
		key.ctime = change_time(inode);
	}
	last = bpf_map_lookup_elem(&bless_recent, &key);
	if (last && now - *last < 1000000000ull)
		return true;
	bpf_map_update_elem(&bless_recent, &key, &now, BPF_ANY);
	return false;
}

/* exhausted reports whether the domain used up its events of this second, so that others are heard. */
static __always_inline bool exhausted(struct facts *f, __u32 reason)
{
	__u64 now = bpf_ktime_get_ns();
	struct spent *s = bpf_map_lookup_elem(&bless_budgets, &f->id), first = { .since = now };

	if (!s || now - s->since >= 1000000000ull) {
		bpf_map_update_elem(&bless_budgets, &f->id, &first, BPF_ANY);
		s = bpf_map_lookup_elem(&bless_budgets, &f->id);
		if (!s)
			return false;
	}
	if (reason)
		return __sync_fetch_and_add(&s->denials, 1) >= DENIALS_PER_SECOND;
	return __sync_fetch_and_add(&s->allowed, 1) >= ALLOWED_PER_SECOND;
}

/* name_upwards writes the names from dentry to the root of its filesystem. */
static __always_inline void name_upwards(struct event *e, struct dentry *dentry)
{
	__u32 off = 0;
	long n;

	e->reversed = 1;
	for (int i = 0; i < 12; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);

		if (parent == dentry || off >= PATH_LEN)
			break;
		n = bpf_probe_read_kernel_str(e->path + off, NAME_LEN, name);
		if (n <= 0)
			break;
		off += n;
		dentry = parent;
	}
}

static __always_inline void report(struct facts *f, __u32 reason, bool denied, struct inode *inode, struct file *file,
				   struct dentry *dentry)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 ids = bpf_get_current_pid_tgid();
	struct event *e;

	if ((reason && repeated(f, reason, inode)) || exhausted(f, reason)) {
		count(REASON_REPEATED);
		return;
	}
	e = bpf_ringbuf_reserve(&bless_events, sizeof(*e), 0);
	if (!e) {
		count(REASON_LOST);
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->version = EVENT_VERSION;
	e->time = bpf_ktime_get_ns();
	e->cgroup = bpf_get_current_cgroup_id();
	e->inode = inode ? BPF_CORE_READ(inode, i_ino) : 0;
	e->dev = inode ? BPF_CORE_READ(inode, i_sb, s_dev) : 0;
	e->domain = f->id;
	e->pid = ids >> 32;
	e->tid = ids;
	e->uid = bpf_get_current_uid_gid();
	e->file = f->file;
	e->error = f->error;
	e->op = f->op;
	e->reason = reason;
	e->denied = denied;
	__builtin_memcpy(e->digest, f->digest, sizeof(e->digest));
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	for (int i = 0; i < ANCESTORS; i++) {
		task = BPF_CORE_READ(task, real_parent);
		e->ancestors[i].pid = BPF_CORE_READ(task, tgid);
		if (!e->ancestors[i].pid)
			break;
		bpf_core_read_str(e->ancestors[i].comm, sizeof(e->ancestors[i].comm), &task->comm);
	}
	if (file)
		bpf_d_path(&file->f_path, e->path, PATH_LEN);
	else if (dentry)
		name_upwards(e, dentry);
	bpf_ringbuf_submit(e, 0);
}

/*
 * verdict turns a reason into the hook's result. file is given where the hook
 * may sleep, so that the path is the one the task sees; else dentry.
 */
static __always_inline int verdict(struct facts *f, __u32 reason, struct inode *inode, struct file *file,
				   struct dentry *dentry)
{
	/* What protects the verifier holds for audited containers, too. */
	bool enforce = !f->domain || f->domain->flags & DOMAIN_ENFORCE || reason == REASON_SELF;
	int ret = 0;

	if (!reason) {
		if (f->fresh) {
			count(reason);
			report(f, reason, false, inode, file, dentry);
		}
		return 0;
	}
	count(reason);
	report(f, reason, enforce, inode, file, dentry);
	if (enforce) {
		/* Two assignments, kept apart: 6.12 refuses the negated condition that clang makes of them. */
		ret = -EPERM;
		asm volatile("");
	}
	return ret;
}

#endif
