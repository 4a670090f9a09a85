/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks that protect these programs. */
#ifndef SBOM_BLESS_HOOKS_SELF_H
#define SBOM_BLESS_HOOKS_SELF_H
#include "self.bpf.h"

SEC("lsm/bpf")
int BPF_PROG(bpf_call, int cmd)
{
	struct facts f = {};

	if (!labelled(&f, OP_BPF))
		return 0;
	return verdict(&f, REASON_HARDENED, NULL, NULL, NULL);
}

SEC("lsm/bpf_map")
int BPF_PROG(bpf_map_fd, struct bpf_map *map, unsigned int fmode)
{
	struct facts f = {};
	__u64 key = map->id;
	__u8 *object;

	/* For reading, too: a program that is loaded with the descriptor can write (seen on 6.12). */
	object = bpf_map_lookup_elem(&objects, &key);
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
	return self(OP_BPF, NULL);
}

SEC("lsm/bpf_prog")
int BPF_PROG(bpf_prog_fd, struct bpf_prog *prog)
{
	__u64 key = 1ull << 32 | prog->aux->id;

	return bpf_map_lookup_elem(&objects, &key) ? self(OP_BPF, NULL) : 0;
}

SEC("lsm/sb_umount")
int BPF_PROG(umount, struct vfsmount *mnt, int flags)
{
	if (!pins_inode || mnt->mnt_sb->s_dev != pins_dev)
		return 0;
	return self(OP_UMOUNT, NULL);
}

/* Something mounted over the pins would hide them from the next agent. */
static __always_inline int mount_over(struct dentry *dentry)
{
	if (!pins_inode || BPF_CORE_READ(dentry, d_inode, i_sb, s_dev) != pins_dev)
		return 0;
	return self(OP_MOUNT, dentry);
}

SEC("lsm/sb_mount")
int BPF_PROG(mount, const char *dev_name, struct path *path)
{
	return mount_over(path->dentry);
}

SEC("lsm/move_mount")
int BPF_PROG(move_mount, struct path *from_path, struct path *to_path)
{
	return mount_over(to_path->dentry);
}

#endif
