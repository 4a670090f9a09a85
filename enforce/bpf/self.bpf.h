/* SPDX-License-Identifier: Apache-2.0 */
/* Who may touch the verifier itself, and what is the agent's. */
#ifndef SBOM_BLESS_SELF_H
#define SBOM_BLESS_SELF_H
#include "domain.bpf.h"

/* ---- Who acts, on whom ---- */

/* runs_agent tells whether the task runs the agent's executable. */
static __always_inline bool runs_agent(struct task_struct *task, struct agent *a)
{
	struct inode *exe = BPF_CORE_READ(task, mm, exe_file, f_inode);

	return exe && BPF_CORE_READ(exe, i_ino) == a->inode && BPF_CORE_READ(exe, i_sb, s_dev) == a->dev;
}

/* agent_runs tells whether the task runs the agent's executable, be it in a container. */
static __always_inline bool agent_runs(struct task_struct *task)
{
	__u32 zero = 0;
	struct agent *a = bpf_map_lookup_elem(&bless_agents, &zero);

	return a && a->armed == ARMED && runs_agent(task, a);
}

/* is_agent tells whether the task is one of the agent. One of a container never is, whatever it runs. */
static __always_inline bool is_agent(struct task_struct *task)
{
	__u32 *label;

	if (!agent_runs(task))
		return false;
	label = bpf_task_storage_get(&bless_labels, task, NULL, 0);
	return !label || !*label;
}

/* contained tells whether the current task is a container's. */
static __always_inline bool contained(void)
{
	__u32 *label = bpf_task_storage_get(&bless_labels, bpf_get_current_task_btf(), NULL, 0);

	return label && *label && !released();
}

/*
 * agent tells whether the current program is the one that loaded us. Who runs it
 * in a container is not, nor who traces it from its start.
 */
static __always_inline bool agent(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 zero = 0;
	struct agent *a = bpf_map_lookup_elem(&bless_agents, &zero);

	if (!a || a->armed != ARMED)
		return true;
	return runs_agent(task, a) && !BPF_CORE_READ(task, ptrace) && !contained();
}

/* init tells whether the first process acts, as at shutdown, or the kernel itself. */
static __always_inline bool init(void)
{
	return bpf_get_current_pid_tgid() >> 32 == 1 || !bpf_get_current_task_btf()->mm;
}

/* The event names the file, or the directory that it would be in: what is tried on another is another report. */
static __always_inline struct inode *named_by(struct dentry *dentry)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);

	return inode ? inode : BPF_CORE_READ(dentry, d_parent, d_inode);
}

static __always_inline int self(__u32 op)
{
	struct facts f = { .op = op };

	if (!labelled(&f, op) && agent())
		return 0;
	return verdict(&f, REASON_SELF, NULL, NULL, NULL);
}

/* on_task decides about an operation by which a task could make another do what it likes. */
static __always_inline int on_task(__u32 op, struct task_struct *task)
{
	return is_agent(task) ? self(op) : 0;
}

/*
 * of_agent tells whether the inode of procfs is of the agent's process: its
 * oom_score_adj, say. The label of that process cannot be asked for here; but a
 * process may always write its own.
 */
static __always_inline bool of_agent(struct inode *inode)
{
	struct proc_inode *proc = (void *)((__u64)inode - bpf_core_field_offset(struct proc_inode, vfs_inode));
	__u64 first = (__u64)BPF_CORE_READ(proc, pid, tasks[0].first);
	struct task_struct *task = (void *)(first - bpf_core_field_offset(struct task_struct, pid_links));

	return first && BPF_CORE_READ(task, tgid) != bpf_get_current_pid_tgid() >> 32 && agent_runs(task);
}

/* ---- Places: the directories and files of the agent ---- */

static __always_inline __u32 place(__u32 kind, __u32 dev, __u64 id)
{
	struct place_key key = { .dev = dev, .kind = kind, .id = id };
	__u32 *flags = bpf_map_lookup_elem(&bless_places, &key);

	return flags ? *flags : 0;
}

static __always_inline __u32 place_of(struct dentry *dentry)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);

	return inode ? place(PLACE_INODE, BPF_CORE_READ(inode, i_sb, s_dev), BPF_CORE_READ(inode, i_ino)) : 0;
}

/* More directories than the agent has below a place; it makes no others there, and no container can. */
#define PLACE_DEPTH 8

/* Of placed alone: the kernel has no name for the file, which was opened by its handle (open_by_handle_at). */
#define PLACE_UNKNOWN (1u << 31)

/* placed gives the flags that hold for what the dentry names. */
static __always_inline __u32 placed(struct dentry *dentry)
{
	__u32 dev = BPF_CORE_READ(dentry, d_sb, s_dev), flags = place_of(dentry);

	for (int i = 0; i < PLACE_DEPTH; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		__u32 above;

		if (parent == dentry) {
			if (dentry != BPF_CORE_READ(dentry, d_sb, s_root))
				flags |= PLACE_UNKNOWN;
			break;
		}
		above = place(PLACE_INODE, dev, BPF_CORE_READ(parent, d_inode, i_ino));
		if (!i || above & PLACE_TREE)
			flags |= above & (PLACE_AGENT | PLACE_STATE);
		dentry = parent;
	}
	return flags;
}

/*
 * kept tells why the current task may not change what the dentry names, which is
 * the agent's. way is PLACE_WAY where the name itself goes. A function of its own,
 * with little on the stack: the verifier adds that to its caller's, 512 bytes at most.
 */
static __noinline __u32 kept(struct dentry *dentry, __u32 way)
{
	__u32 any = place(PLACE_FILESYSTEM, BPF_CORE_READ(dentry, d_sb, s_dev), 0), found, asked = PLACE_STATE;
	bool container;

	if (!any)
		return REASON_ALLOWED;
	container = contained();
	if (container)
		asked |= PLACE_AGENT | way;
	if (!(any & asked))
		return REASON_ALLOWED;
	found = placed(dentry);
	if (found & asked && !agent())
		return REASON_SELF;
	return found & PLACE_UNKNOWN && container && any & PLACE_TREE ? REASON_HARDENED : REASON_ALLOWED;
}

/* keep denies that. */
static __always_inline int keep(__u32 op, struct dentry *dentry, __u32 way)
{
	__u32 reason = kept(dentry, way);

	if (!reason)
		return 0;
	struct facts f = { .op = op };
	labelled(&f, op);
	return verdict(&f, reason, named_by(dentry), NULL, dentry);
}

/* ---- Mounts of the host ---- */

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (struct mount *)((__u64)mnt - bpf_core_field_offset(struct mount, mnt));
}

static __always_inline bool on_host(struct mount *m)
{
	return BPF_CORE_READ(m, mnt_ns, ns.inum) == host_mounts;
}

/* shared tells whether what is mounted on m, or unmounted, is so on its peers, too: maybe on the host's. */
static __always_inline bool shared(struct mount *m)
{
	struct mount___v6_17 *now = (void *)m;

	if (bpf_core_field_exists(now->mnt_t_flags))
		return BPF_CORE_READ(now, mnt_t_flags) & T_SHARED;
	return BPF_CORE_READ(m, mnt.mnt_flags) & MNT_SHARED;
}

/*
 * left tells whether the host's first process has left the root that the places
 * are in: the system ends, from an initrd it went back to, whose programs
 * unmount what is left.
 */
static __always_inline bool left(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vfsmount *root = NULL;

	for (int i = 0; i < 32; i++) {
		if (!BPF_CORE_READ(task, pid)) /* above the first process */
			return root && !place(PLACE_MOUNTED, 0, BPF_CORE_READ(mount_of(root), mnt_id));
		if (BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum) == host_mounts)
			root = BPF_CORE_READ(task, fs, root.mnt);
		task = BPF_CORE_READ(task, real_parent);
	}
	return false;
}

/* on_way tells whether m itself, not a copy, is mounted on the way to a place. */
static __always_inline bool on_way(struct mount *m)
{
	return place(PLACE_MOUNTED, 0, BPF_CORE_READ(m, mnt_id)) && on_host(m);
}

/* covers tells whether a mount on top of m's directory would hide a place of the host. */
static __always_inline bool covers(struct mount *m, struct dentry *dentry)
{
	return place_of(dentry) & PLACE_SEEN && (on_way(m) || shared(m));
}

/* uncovers tells whether a place of the host goes with m. */
static __always_inline bool uncovers(struct mount *m, int flags)
{
	if (on_way(m))
		return true;
	/* From a peer of what m is mounted on, the same goes. */
	if (shared(BPF_CORE_READ(m, mnt_parent)) && place_of(BPF_CORE_READ(m, mnt_mountpoint)) & PLACE_COVERED)
		return true;
	/* With what is mounted on m, goes what is mounted on its peers. */
	return flags & MNT_DETACH && shared(m) && place_of(BPF_CORE_READ(m, mnt.mnt_root)) & PLACE_SEEN &&
	       (__u64)BPF_CORE_READ(m, mnt_mounts.next) != (__u64)m + bpf_core_field_offset(struct mount, mnt_mounts);
}

/*
 * on_mounts decides about a change of mounts: host tells that they are the
 * host's, hides that a place is taken out of sight.
 */
static __always_inline int on_mounts(__u32 op, bool host, bool hides, struct dentry *dentry)
{
	struct facts f = { .op = op };

	if (!host && !hides)
		return 0;
	if (!labelled(&f, op) && (!hides || agent() || init() || left()))
		return 0;
	return verdict(&f, hides ? REASON_SELF : REASON_HARDENED, named_by(dentry), NULL, dentry);
}

#endif
