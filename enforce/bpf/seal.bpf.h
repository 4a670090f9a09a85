/* SPDX-License-Identifier: Apache-2.0 */
/* Digests that the agent computes ahead, on kernels that compute none to rely on. */
#ifndef SBOM_BLESS_SEAL_H
#define SBOM_BLESS_SEAL_H
#include "provenance.bpf.h"
#include "self.bpf.h"

static __always_inline void content_of(struct content *c, struct inode *data)
{
	struct known_inode *k = known(data);

	c->size = BPF_CORE_READ(data, i_size);
	c->ctime = change_time(data);
	c->writes = k ? k->writes : 0;
}

/*
 * sealed_as tells whether the seal is of what the file has now. The count of writes begins
 * anew each time that the inode comes to memory: wrote() voids the seal itself.
 */
static __always_inline bool sealed_as(struct seal *seal, struct content *now)
{
	return seal->whole && seal->content.size == now->size && seal->content.ctime == now->ctime;
}

/*
 * sealed gives the digest that the agent computed of exactly this inode. A copy that the
 * kernel made of a file of the image has none: what became of it since, nobody has read.
 */
static __always_inline __u32 sealed(struct facts *f, struct inode *data, struct content *now)
{
	struct file_key key = {};
	struct seal *seal;

	name_file(&key, data);
	seal = bpf_map_lookup_elem(&bless_seals, &key);
	if (!seal || !sealed_as(seal, now)) {
		f->error = seal && seal->whole ? -ESTALE : -ENODATA;
		return REASON_NO_DIGEST;
	}
	__builtin_memcpy(f->digest, seal->digest, sizeof(f->digest));
	return REASON_ALLOWED;
}

/* keep_seal stores a seal, unless somebody got in who can write to the file. */
static __always_inline int keep_seal(struct file_key *key, struct seal *seal, struct inode *data)
{
	struct content now;

	if (bpf_map_update_elem(&bless_seals, key, seal, BPF_ANY))
		return -ENOSPC;
	/* Who opened it before the update voided what was there before: see wrote(). */
	content_of(&now, data);
	if (!writable(data) && same(&now, &seal->content))
		return 0;
	bpf_map_delete_elem(&bless_seals, key);
	return -EBUSY;
}

/*
 * seal_ioctl answers the agent, by errors that no file gives: EINPROGRESS, begun; EALREADY,
 * sealed; EBUSY, somebody may write to the file; ESTALE, it was changed since the seal was
 * begun. To anybody else it is as if it were not there.
 */
static __noinline int seal_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct inode *inode = file->f_inode;
	struct file_key key = {};
	struct seal *before, seal = {};
	struct source s;
	__u8 one = 1;
	int ret;

	if (cmd != SEAL_BEGIN && cmd != SEAL_END)
		return 0;
	/* Our maps ask for a privilege; this must, too: anybody may run the agent's executable. */
	if (kind(inode) != S_IFREG || !hashed_by_agent() || (__u32)bpf_get_current_uid_gid() || contained() || !agent())
		return 0;
	locate(&s, inode);
	if (!know(s.data, 0)) /* from now on its writes are counted */
		return -ENOSPC;
	name_file(&key, s.data);
	content_of(&seal.content, s.data);
	before = bpf_map_lookup_elem(&bless_seals, &key);
	if (cmd == SEAL_BEGIN && before && sealed_as(before, &seal.content))
		return -EALREADY;
	if (writable(s.data) || has(s.known, INODE_MAPPED))
		return -EBUSY;
	if (cmd == SEAL_BEGIN) {
		if (bpf_map_update_elem(&bless_sealed, &key.dev, &one, BPF_ANY))
			return -ENOSPC;
		ret = keep_seal(&key, &seal, s.data);
		return ret ? ret : -EINPROGRESS;
	}
	if (!before || !same(&before->content, &seal.content))
		return -ESTALE;
	if (bpf_probe_read_user(seal.digest, sizeof(seal.digest), (void *)arg))
		return -EFAULT;
	seal.whole = 1;
	ret = keep_seal(&key, &seal, s.data);
	return ret ? ret : -EALREADY;
}

static long forget_seal(void *map, struct file_key *key, struct seal *value, __u32 *dev)
{
	if (key->dev == *dev)
		bpf_map_delete_elem(map, key);
	return 0;
}

/* forget_seals drops what was known by the number of a filesystem that goes. */
static __always_inline void forget_seals(__u32 dev)
{
	if (!bpf_map_lookup_elem(&bless_sealed, &dev))
		return;
	bpf_for_each_map_elem(&bless_seals, forget_seal, &dev, 0);
	bpf_map_delete_elem(&bless_sealed, &dev);
}

#endif
