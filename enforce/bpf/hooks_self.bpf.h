/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks that protect these programs. */
#ifndef SBOM_BLESS_HOOKS_SELF_H
#define SBOM_BLESS_HOOKS_SELF_H
#include "self.bpf.h"

SEC("lsm/bpf")
int BPF_PROG(bless_bpf_call, int cmd)
{
	struct facts f = {};

	if (!labelled(&f, OP_BPF))
		return 0;
	return verdict(&f, REASON_HARDENED, NULL, NULL, NULL);
}

SEC("lsm/bpf_map")
int BPF_PROG(bless_bpf_map_fd, struct bpf_map *map, unsigned int fmode)
{
	struct facts f = {};
	__u64 key = map->id;
	__u8 *object;

	/* For reading, too: a program that is loaded with the descriptor can write (seen on 6.12). */
	object = bpf_map_lookup_elem(&bless_objects, &key);
	if (!object)
		return 0;
	/*
	 * A new version of the agent is another executable. The host's root may
	 * always become the agent, who could as well overwrite the old one's
	 * file; but not unseen.
	 */
	if (*object == OBJECT_AGENTS && fmode & FMODE_WRITE && !labelled(&f, OP_BPF) && !agent()) {
		f.op = OP_BPF;
		count(REASON_TAKEOVER);
		report(&f, REASON_TAKEOVER, false, NULL, NULL, NULL);
		return 0;
	}
	return self(OP_BPF);
}

SEC("lsm/bpf_prog")
int BPF_PROG(bless_bpf_prog_fd, struct bpf_prog *prog)
{
	__u64 key = 1ull << 32 | prog->aux->id;

	return bpf_map_lookup_elem(&bless_objects, &key) ? self(OP_BPF) : 0;
}

/* ---- Mounts: the pins and the state stay where the next agent looks for them ---- */

SEC("lsm/sb_umount")
int BPF_PROG(bless_umount, struct vfsmount *mnt, int flags)
{
	struct mount *m = mount_of(mnt);

	return on_mounts(OP_UMOUNT, on_host(m), uncovers(m, flags), mnt->mnt_root);
}

SEC("lsm/sb_mount")
int BPF_PROG(bless_mount, const char *dev_name, struct path *path, const char *type, unsigned long flags)
{
	struct mount *m = mount_of(path->mnt);
	bool host = on_host(m), hides;

	/* In the order of path_mount(), fs/namespace.c. */
	if (flags & MS_REMOUNT)
		hides = on_way(m) && place(PLACE_FILESYSTEM, path->dentry->d_sb->s_dev, 0) & PLACE_PINS;
	else if (flags & MS_BIND)
		hides = covers(m, path->dentry);
	else if (flags & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE))
		hides = false; /* what then reaches the host is asked when it does */
	else if (flags & MS_MOVE)
		hides = host; /* what it moves is a name to us */
	else
		hides = covers(m, path->dentry);
	return on_mounts(OP_MOUNT, host, hides, path->dentry);
}

SEC("lsm/move_mount")
int BPF_PROG(bless_move_mount, struct path *from_path, struct path *to_path)
{
	struct mount *from = mount_of(from_path->mnt), *to = mount_of(to_path->mnt);

	return on_mounts(OP_MOUNT, on_host(from) || on_host(to), on_way(from) || covers(to, to_path->dentry),
			 to_path->dentry);
}

SEC("lsm/sb_pivotroot")
int BPF_PROG(bless_pivot_root, struct path *old_path, struct path *new_path)
{
	bool host = on_host(mount_of(new_path->mnt));

	return on_mounts(OP_MOUNT, host, host, new_path->dentry);
}

SEC("lsm/sb_remount")
int BPF_PROG(bless_remount, struct super_block *sb)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return on_mounts(OP_MOUNT, BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum) == host_mounts,
			 place(PLACE_FILESYSTEM, sb->s_dev, 0) & PLACE_PINS, sb->s_root);
}

/* ---- Names: what is new in a place. Changes of what is there: hooks_guard ---- */

SEC("lsm/inode_create")
int BPF_PROG(bless_create, struct inode *dir, struct dentry *dentry)
{
	return keep(OP_CREATE, dentry, 0);
}

SEC("lsm/inode_mkdir")
int BPF_PROG(bless_mkdir, struct inode *dir, struct dentry *dentry)
{
	return keep(OP_CREATE, dentry, 0);
}

SEC("lsm/inode_mknod")
int BPF_PROG(bless_mknod, struct inode *dir, struct dentry *dentry)
{
	return keep(OP_CREATE, dentry, 0);
}

SEC("lsm/inode_symlink")
int BPF_PROG(bless_symlink, struct inode *dir, struct dentry *dentry)
{
	return keep(OP_CREATE, dentry, 0);
}

/* ---- The agent's process ---- */

/*
 * The host's root may stop the agent, and the verifier stays in force; but not
 * unseen. systemd's own signals come from the first process.
 */
SEC("lsm/task_kill")
int BPF_PROG(bless_kill, struct task_struct *task, void *info, int sig)
{
	struct facts f = { .op = OP_SIGNAL };

	if (!sig || !is_agent(task))
		return 0;
	if (labelled(&f, OP_SIGNAL))
		return verdict(&f, REASON_SELF, NULL, NULL, NULL);
	if (sig == SIGHUP || sig == SIGCONT || agent() || init())
		return 0;
	count(REASON_SELF);
	report(&f, REASON_SELF, false, NULL, NULL, NULL);
	return 0;
}

/* slow decides about what could keep the agent from running. */
static __always_inline int slow(struct task_struct *task)
{
	struct facts f = {};

	if (!labelled(&f, OP_LIMIT) || !is_agent(task))
		return 0;
	return verdict(&f, REASON_SELF, NULL, NULL, NULL);
}

SEC("lsm/task_setrlimit")
int BPF_PROG(bless_setrlimit, struct task_struct *task)
{
	return slow(task);
}

SEC("lsm/task_setnice")
int BPF_PROG(bless_setnice, struct task_struct *task)
{
	return slow(task);
}

SEC("lsm/task_setscheduler")
int BPF_PROG(bless_setscheduler, struct task_struct *task)
{
	return slow(task);
}

SEC("lsm/task_setioprio")
int BPF_PROG(bless_setioprio, struct task_struct *task)
{
	return slow(task);
}

SEC("lsm/task_movememory")
int BPF_PROG(bless_movememory, struct task_struct *task)
{
	return slow(task);
}

#endif
