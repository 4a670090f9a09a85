/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks that follow a container: its tasks, its filesystems. */
#ifndef SBOM_BLESS_HOOKS_IDENTITY_H
#define SBOM_BLESS_HOOKS_IDENTITY_H
#include "seal.bpf.h"

SEC("lsm/task_alloc")
int BPF_PROG(bless_fork, struct task_struct *task, unsigned long clone_flags)
{
	__u32 *label = bpf_task_storage_get(&bless_labels, bpf_get_current_task_btf(), NULL, 0);
	__u32 id;

	if (!label || !*label)
		return 0;
	id = *label;
	if (bpf_task_storage_get(&bless_labels, task, &id, BPF_LOCAL_STORAGE_GET_F_CREATE))
		return 0;
	struct facts f = { .id = id, .op = OP_EXEC };
	return verdict(&f, REASON_NO_DOMAIN, NULL, NULL, NULL); /* out of memory: no child without its label */
}

/*
 * Run by the agent: labels the tasks that were in a container before it was
 * registered, and gives it the domain of every task that has one.
 */
SEC("iter/task")
int bless_label_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u32 id, *label;

	if (!task)
		return 0;
	label = bpf_task_storage_get(&bless_labels, task, NULL, 0);
	id = label ? *label : 0;
	if (!id) {
		id = by_cgroup(task);
		if (id && closed_pod(bpf_map_lookup_elem(&bless_domains, &id)))
			return 0;
		if (id)
			set_label(task, id);
	}
	if (id)
		bpf_seq_write(ctx->meta->seq, &id, sizeof(id));
	return 0;
}

/*
 * A device number is given again at once when its filesystem is gone; so what
 * was known by it goes before.
 */
static long forget_mount(void *map, struct mount_key *key, __u8 *value, __u32 *dev)
{
	if (key->dev == *dev)
		bpf_map_delete_elem(map, key);
	return 0;
}

SEC("lsm/sb_delete")
int BPF_PROG(bless_sb_delete, struct super_block *sb)
{
	__u32 dev = sb->s_dev;

	bpf_map_delete_elem(&bless_roots, &dev);
	bpf_for_each_map_elem(&bless_mounts, forget_mount, &dev, 0);
	forget_seals(dev);
	return 0;
}

/* What is known of an inode goes with it, before its address is given to another. */
SEC("lsm/inode_free_security")
int BPF_PROG(bless_inode_free, struct inode *inode)
{
	__u64 address = (__u64)inode;

	if (bpf_map_lookup_elem(&bless_inodes, &address)) {
		bpf_map_delete_elem(&bless_inodes, &address);
		bpf_map_delete_elem(&bless_digests, &address);
	}
	return 0;
}

#endif
