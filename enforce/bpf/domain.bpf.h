/* SPDX-License-Identifier: Apache-2.0 */
/* Which container a task, a cgroup or a root filesystem belongs to. */
#ifndef SBOM_BLESS_DOMAIN_H
#define SBOM_BLESS_DOMAIN_H
#include "verdict.bpf.h"

/* released tells that the verifier was unloaded. Whoever still holds the programs keeps nothing in force. */
static __always_inline bool released(void)
{
	__u32 zero = 0;
	struct agent *a = bpf_map_lookup_elem(&bless_agents, &zero);

	return a && a->armed == RELEASED;
}

/* labelled fills f with the domain of the current task; false: it has none. */
static __always_inline bool labelled(struct facts *f, __u32 op)
{
	__u32 *label = bpf_task_storage_get(&bless_labels, bpf_get_current_task_btf(), NULL, 0);

	if (!label || !*label || released())
		return false;
	f->op = op;
	f->id = *label;
	f->domain = bpf_map_lookup_elem(&bless_domains, &f->id);
	return true;
}

/* owner gives the domain whose root filesystem inode is on, if that is another than f's; else 0. */
static __always_inline __u32 owner(struct facts *f, struct inode *inode)
{
	__u32 dev = BPF_CORE_READ(inode, i_sb, s_dev), *found;

	if (!f->domain || f->domain->root_dev == dev)
		return 0;
	found = bpf_map_lookup_elem(&bless_roots, &dev);
	return found && *found != f->id ? *found : 0;
}

static __always_inline struct settings *settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&bless_setting, &zero);
}

/* registered finds the domain of a cgroup, or of one above it. */
static __always_inline __u32 registered(struct cgroup *cgroup)
{
	for (int i = 0; i < 64 && cgroup; i++) {
		__u64 id = BPF_CORE_READ(cgroup, kn, id);
		__u32 *found = bpf_map_lookup_elem(&bless_cgroups, &id);

		if (found)
			return *found;
		/* struct cgroup begins with its css. */
		cgroup = (struct cgroup *)BPF_CORE_READ(cgroup, self.parent);
	}
	return 0;
}

/*
 * by_cgroup finds the domain that the task's cgroup gives it. A task that
 * still has the host's root is the runtime preparing the container, and has
 * none yet.
 */
static __always_inline __u32 by_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;
	struct settings *now = settings();
	struct nearest *known, fresh = {};
	struct domain *d;
	__u64 cgroup_id;
	__u32 id;

	if (!now || !cgroup)
		return 0;
	cgroup_id = cgroup->kn->id;
	known = bpf_map_lookup_elem(&bless_near, &cgroup_id);
	if (known && known->epoch == now->epoch) {
		id = known->domain;
	} else {
		fresh.epoch = now->epoch;
		id = registered(cgroup);
		fresh.domain = id;
		bpf_map_update_elem(&bless_near, &cgroup_id, &fresh, BPF_ANY);
	}
	if (!id)
		return 0;
	d = bpf_map_lookup_elem(&bless_domains, &id);
	if (d && d->flags & DOMAIN_EXEMPT)
		return 0;
	if (d && !(d->flags & DOMAIN_HOST_ROOT) && BPF_CORE_READ(task, fs, root.mnt, mnt_sb, s_dev) == d->host_dev &&
	    BPF_CORE_READ(task, fs, root.dentry, d_inode, i_ino) == d->host_inode)
		return 0;
	return id;
}

/* closed_pod reports whether a domain gives no labels: a container in it may be announced any moment. */
static __always_inline bool closed_pod(struct domain *domain)
{
	return domain && domain->flags & DOMAIN_CLOSED;
}

/* set_label gives the task a label; false: there is no memory for it. */
static __always_inline bool set_label(struct task_struct *task, __u32 id)
{
	__u32 *label = bpf_task_storage_get(&bless_labels, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!label)
		return false;
	*label = id;
	return true;
}

/*
 * entering finds the domain of a task at execve: its own; or its cgroup's,
 * which then becomes its own; or that of the root filesystem whose file it
 * executes, whoever it is. enter tells that the last was so.
 */
static __always_inline bool entering(struct facts *f, struct file *file, bool *enter)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 dev, *found;
	bool unknown = false;

	if (labelled(f, OP_EXEC))
		return true;
	if (released())
		return false;
	f->id = by_cgroup(task);
	if (f->id) {
		/* Without a label what it does next would go unseen. */
		if (!closed_pod(bpf_map_lookup_elem(&bless_domains, &f->id)))
			unknown = !set_label(task, f->id);
	} else {
		dev = file->f_inode->i_sb->s_dev;
		found = bpf_map_lookup_elem(&bless_roots, &dev);
		if (!found)
			return false;
		f->id = *found;
		*enter = true;
	}
	f->op = OP_EXEC;
	f->domain = unknown ? NULL : bpf_map_lookup_elem(&bless_domains, &f->id);
	return true;
}

#endif
