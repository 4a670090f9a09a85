/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container may execute only files that its image lists, unmodified.
 *
 * Hooks that ask whether code may run:
 *   bprm_creds_for_exec   what execve names; all that AT_EXECVE_CHECK asks (6.14)
 *   bprm_check_security   that again, and the interpreter of a script
 *   mmap_file             libraries; the only check that `ld.so ./x` ever gets
 *   file_mprotect         code made in memory
 *   file_open             files an interpreter is about to read; and the write guard
 * Hooks that follow a container: task_alloc, iter/task, sb_delete.
 * Hooks that keep what was judged as it was: file_open, inode_setattr, inode_file_setattr,
 *   inode_setxattr, inode_removexattr, inode_set_acl, inode_remove_acl, inode_unlink,
 *   inode_rename, inode_link, file_ioctl, file_ioctl_compat.
 * Hooks that close ways around: ptrace_access_check, ptrace_traceme, kernel_load_data,
 *   kernel_read_file, socket_create, sb_kern_mount, inode_init_security_anon.
 * Hooks that protect these programs: bpf, bpf_map, bpf_prog, sb_mount, move_mount, sb_umount.
 *
 * A hook filters and extracts; judge() finds the reason; verdict() alone says -EPERM.
 * After a denial the kernel runs no further BPF program of that hook, so none
 * looks at the result of an earlier one.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "kfuncs.h"
#include "event.h"

/* ---- Maps: sized by the loader ---- */

struct { /* cgroup id -> domain id */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u32);
	__uint(max_entries, 4096);
} cgroups SEC(".maps");

struct { /* s_dev of a container's root filesystem -> domain id */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 4096);
} roots SEC(".maps");

struct { /* domain id -> its rules */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct domain);
	__uint(max_entries, 4096);
} domains SEC(".maps");

struct { /* filesystems beyond the root that a domain may run code from */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct mount_key);
	__type(value, __u8);
	__uint(max_entries, 4096);
} mounts SEC(".maps");

struct digest_set { /* SHA-256 -> index of the file in the list */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(key_size, 32);
	__uint(value_size, 4);
	__uint(max_entries, 1);
};

struct { /* set id -> its digests; one set per image, shared by its containers */
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 1024);
	__array(values, struct digest_set);
} sets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct settings);
	__uint(max_entries, 1);
} setting SEC(".maps");

struct { /* cgroup id -> what was found of it */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u64);
	__type(value, struct nearest);
	__uint(max_entries, 8192);
} near SEC(".maps");

struct { /* files found good, where the overlay has them from */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct below_key);
	__type(value, __u8);
	__uint(max_entries, 32768);
} below SEC(".maps");

struct { /* what was verified, in whatever container */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct signed_digest);
	__type(value, __u8);
	__uint(max_entries, 16384);
} signed_digests SEC(".maps");

struct { /* suffixes of code that interpreters read */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct suffix_key);
	__type(value, __u8);
	__uint(max_entries, 256);
} suffixes SEC(".maps");

struct { /* the domain of a task; inherited, never cleared */
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} labels SEC(".maps");

/* As large as the largest of xattr.Signer.Bless, RSA with 4096 bits, and some more. */
#define SIGNATURE_LEN 1024
struct signature {
	struct signed_file statement;
	__u8 value[SIGNATURE_LEN];
};

struct { /* room to verify a signature in: a task that sleeps can be overtaken on its CPU */
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct signature);
} signatures SEC(".maps");

struct { /* files that ever were found good, in whatever container: they stay guarded */
	__uint(type, BPF_MAP_TYPE_INODE_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u8);
} used SEC(".maps");

struct { /* files found good */
	__uint(type, BPF_MAP_TYPE_INODE_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct good);
} verdicts SEC(".maps");

struct recent_key {
	__u32 domain;
	__u16 op;
	__u16 reason;
	__u64 inode;
};

struct { /* when this was last reported, ns */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct recent_key);
	__type(value, __u64);
	__uint(max_entries, 4096);
} recent SEC(".maps");

struct { /* domain id -> what it reported in this second */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u32);
	__type(value, struct spent);
	__uint(max_entries, 4096);
} budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct { /* how often each reason was given */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, REASONS);
} counters SEC(".maps");

struct { /* the executable that may change the maps and pins */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct agent);
	__uint(max_entries, 1);
} agents SEC(".maps");

struct { /* ids of our maps, sets too, (high half 0) and programs (high half 1) -> enum object */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u8);
	__uint(max_entries, 4096);
} objects SEC(".maps");

/* ---- Settings: written by the loader before load, constant from then on ---- */

/* s_dev and inode of the directory of our pins; 0: no pins. */
const volatile __u32 pins_dev;
const volatile __u64 pins_inode;

/*
 * Where overlayfs keeps the lower dentry: at ovl_lower behind the address that is
 * at ovl_entry behind the inode (6.5 and later), or behind the inode itself
 * when that is 0. ovl_lower 0: not known.
 */
const volatile __u32 ovl_entry;
const volatile __u32 ovl_lower;

/* Never set: it makes these types known to the code generated for the loader. */
const volatile struct {
	enum op op;
	enum reason reason;
	enum domain_flags flags;
	enum object object;
	struct event event;
} types;

/* ---- Verdict ---- */

/* facts is what is known of the operation at hand. */
struct facts {
	struct domain *domain; /* NULL when the domain is gone */
	__u32 id;
	__u32 op;
	__u32 file;
	__s32 error;
	bool fresh; /* allowed after a look at the data, not from the cache */
	__u8 digest[32];
	/*
	 * What signature_of hands to the kernel. They live as long as the hook, so
	 * that no other variable takes their place on the stack: 6.12 and 6.18 let
	 * no helper write where a dynptr was.
	 */
	struct bpf_dynptr room, value, statement;
};

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &reason);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* repeated tells whether the same was reported less than a second ago. */
static __always_inline bool repeated(struct facts *f, __u32 reason, __u64 inode)
{
	struct recent_key key = { .domain = f->id, .op = f->op, .reason = reason, .inode = inode };
	__u64 now = bpf_ktime_get_ns();
	__u64 *last = bpf_map_lookup_elem(&recent, &key);

	if (last && now - *last < 1000000000ull)
		return true;
	bpf_map_update_elem(&recent, &key, &now, BPF_ANY);
	return false;
}

/* exhausted tells whether the domain has reported all that it may in this second, so that others can be heard. */
static __always_inline bool exhausted(struct facts *f)
{
	__u64 now = bpf_ktime_get_ns();
	struct spent *s = bpf_map_lookup_elem(&budgets, &f->id), first = { .since = now, .events = 1 };

	if (s && now - s->since < 1000000000ull)
		return __sync_fetch_and_add(&s->events, 1) >= EVENTS_PER_SECOND;
	bpf_map_update_elem(&budgets, &f->id, &first, BPF_ANY);
	return false;
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
	__u64 ino = inode ? BPF_CORE_READ(inode, i_ino) : 0;
	__u64 ids = bpf_get_current_pid_tgid();
	struct event *e;

	if (reason && (repeated(f, reason, ino) || exhausted(f))) {
		count(REASON_REPEATED);
		return;
	}
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(REASON_LOST);
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_ns();
	e->cgroup = bpf_get_current_cgroup_id();
	e->inode = ino;
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

/* ---- Domains ---- */

/* labelled fills f with the domain of the current task; false: it has none. */
static __always_inline bool labelled(struct facts *f, __u32 op)
{
	__u32 *label = bpf_task_storage_get(&labels, bpf_get_current_task_btf(), NULL, 0);

	if (!label || !*label)
		return false;
	f->op = op;
	f->id = *label;
	f->domain = bpf_map_lookup_elem(&domains, &f->id);
	return true;
}

static __always_inline struct settings *settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&setting, &zero);
}

/* registered finds the domain of a cgroup, or of one above it. */
static __always_inline __u32 registered(struct cgroup *cgroup)
{
	for (int i = 0; i < 64 && cgroup; i++) {
		__u64 id = BPF_CORE_READ(cgroup, kn, id);
		__u32 *found = bpf_map_lookup_elem(&cgroups, &id);

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
	known = bpf_map_lookup_elem(&near, &cgroup_id);
	if (known && known->epoch == now->epoch) {
		id = known->domain;
	} else {
		fresh.epoch = now->epoch;
		id = registered(cgroup);
		fresh.domain = id;
		bpf_map_update_elem(&near, &cgroup_id, &fresh, BPF_ANY);
	}
	if (!id)
		return 0;
	d = bpf_map_lookup_elem(&domains, &id);
	if (d && !(d->flags & DOMAIN_HOST_ROOT) && BPF_CORE_READ(task, fs, root.mnt, mnt_sb, s_dev) == d->host_dev &&
	    BPF_CORE_READ(task, fs, root.dentry, d_inode, i_ino) == d->host_inode)
		return 0;
	return id;
}

/* set_label gives the task a label; false: there is no memory for it. */
static __always_inline bool set_label(struct task_struct *task, __u32 id)
{
	__u32 *label = bpf_task_storage_get(&labels, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

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
	f->id = by_cgroup(task);
	if (f->id) {
		unknown = !set_label(task, f->id); /* what it does next would go unseen */
	} else {
		dev = file->f_inode->i_sb->s_dev;
		found = bpf_map_lookup_elem(&roots, &dev);
		if (!found)
			return false;
		f->id = *found;
		*enter = true;
	}
	f->op = OP_EXEC;
	f->domain = unknown ? NULL : bpf_map_lookup_elem(&domains, &f->id);
	return true;
}

/* ---- Provenance and digest ---- */

static __always_inline bool rejected_fs(struct super_block *sb)
{
	switch (sb->s_magic) {
	case FUSE_SUPER_MAGIC:
	case NFS_SUPER_MAGIC:
	case V9FS_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
		return true;
	}
	return sb->s_user_ns->level > 0;
}

/*
 * upper_dentry is where an overlay inode's data or metadata were copied up
 * to; NULL: they are the lower layer's. struct ovl_inode of every kernel from
 * 4.8 to 7.3 has __upperdentry right behind vfs_inode (fs/overlayfs/ovl_entry.h).
 */
static __always_inline struct dentry *upper_dentry(struct inode *inode)
{
	struct dentry *upper = NULL;

	if (bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode)))
		return (void *)-1; /* unknown is not lower */
	return upper;
}

/*
 * lower_inode is the one that an overlay inode shows, if nothing was copied up:
 * of the first of its lower layers. The way there was found in the type
 * information of overlayfs; 0: it has none.
 */
static __always_inline struct inode *lower_inode(struct inode *inode)
{
	void *at = inode, *dentry = NULL;

	if (!ovl_lower)
		return NULL;
	if (ovl_entry && bpf_probe_read_kernel(&at, sizeof(at), (void *)inode + ovl_entry))
		return NULL;
	if (bpf_probe_read_kernel(&dentry, sizeof(dentry), at + ovl_lower))
		return NULL;
	return BPF_CORE_READ((struct dentry *)dentry, d_inode);
}

static __always_inline void name_below(struct below_key *key, struct inode *inode)
{
	key->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	key->generation = BPF_CORE_READ(inode, i_generation);
	key->inode = BPF_CORE_READ(inode, i_ino);
}

static __always_inline bool overlay(struct super_block *sb)
{
	return sb->s_magic == OVERLAYFS_SUPER_MAGIC;
}

/* writable tells whether somebody holds inode open for writing, or mapped shared and writable. */
static __always_inline bool writable(struct inode *inode)
{
	return inode->i_writecount.counter > 0 || inode->i_mapping->i_mmap_writable.counter > 0;
}

/* writable_below is writable, of an inode that was found below an overlay. */
static __always_inline bool writable_below(struct inode *inode)
{
	return BPF_CORE_READ(inode, i_writecount.counter) > 0 ||
	       BPF_CORE_READ(inode, i_mapping, i_mmap_writable.counter) > 0;
}

static __always_inline bool allowed_mount(struct facts *f, __u32 dev)
{
	struct mount_key key = { .domain = f->id, .dev = dev };

	return bpf_map_lookup_elem(&mounts, &key);
}

/* provenance tells whether the data can have come with the image, and stays as it is. */
static __always_inline __u32 provenance(struct facts *f, struct inode *inode)
{
	struct super_block *sb = inode->i_sb;
	struct dentry *upper;

	if (rejected_fs(sb))
		return REASON_REJECTED_FS;
	if (sb->s_dev != f->domain->root_dev) {
		if (!allowed_mount(f, sb->s_dev))
			return REASON_FOREIGN_FS;
	} else if (!overlay(sb) && !(f->domain->flags & DOMAIN_PLAIN)) {
		return REASON_FOREIGN_FS;
	}
	if (overlay(sb)) {
		upper = upper_dentry(inode);
		if (!upper)
			return REASON_ALLOWED;
		if (!(f->domain->flags & DOMAIN_SOFT))
			return REASON_WRITABLE_LAYER;
		if (writable_below(BPF_CORE_READ(upper, d_inode)))
			return REASON_WRITER;
	}
	return writable(inode) ? REASON_WRITER : REASON_ALLOWED;
}

/* data_inode is the one that holds the data: of an overlay's file, the one below it, where that is known. */
static __always_inline struct inode *data_inode(struct inode *inode)
{
	struct inode *data;
	struct dentry *upper;

	if (!overlay(inode->i_sb))
		return inode;
	upper = upper_dentry(inode);
	data = upper ? BPF_CORE_READ(upper, d_inode) : lower_inode(inode);
	return data ? data : inode;
}

static __always_inline __u64 ctime(struct inode *inode)
{
	struct inode___v6_11 *new = (void *)inode;
	struct inode___v6_6 *mid = (void *)inode;
	struct inode___v6_1 *old = (void *)inode;

	if (bpf_core_field_exists(new->i_ctime_sec))
		return BPF_CORE_READ(new, i_ctime_sec) * 1000000000ull + BPF_CORE_READ(new, i_ctime_nsec);
	if (bpf_core_field_exists(mid->__i_ctime))
		return BPF_CORE_READ(mid, __i_ctime.tv_sec) * 1000000000ull + BPF_CORE_READ(mid, __i_ctime.tv_nsec);
	return BPF_CORE_READ(old, i_ctime.tv_sec) * 1000000000ull + BPF_CORE_READ(old, i_ctime.tv_nsec);
}

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

/* code_suffix tells whether the name ends in one of the suffixes. */
static __always_inline bool code_suffix(struct dentry *dentry)
{
	__u32 len = BPF_CORE_READ(dentry, d_name.len);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	struct suffix_key key = {};
	char tail[SUFFIX_LEN];
	__u32 from = len > SUFFIX_LEN ? len - SUFFIX_LEN : 0;
	__u32 n = len - from;

	if (bpf_probe_read_kernel(tail, sizeof(tail), name + from))
		return false;
	/* The key is what follows the last dot of the tail, moved to the front. */
	for (int i = 0, j = -1; i < SUFFIX_LEN; i++) {
		if (i >= n)
			break;
		if (tail[i] == '.') {
			__builtin_memset(&key, 0, sizeof(key));
			j = 0;
		}
		if (j >= 0 && j < SUFFIX_LEN)
			key.text[j++] = tail[i];
	}
	return key.text[0] && bpf_map_lookup_elem(&suffixes, &key);
}

/* library tells whether the name is that of a library with a version: "libssl.so.3". */
static __always_inline bool library(struct dentry *dentry)
{
	__u32 len = BPF_CORE_READ(dentry, d_name.len);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	char tail[24];

	if (len > sizeof(tail))
		name += len - sizeof(tail);
	if (bpf_probe_read_kernel_str(tail, sizeof(tail), name) < 0)
		return false;
	for (int i = 0; i < sizeof(tail) - 4 && tail[i]; i++)
		if (tail[i] == '.' && tail[i + 1] == 's' && tail[i + 2] == 'o' && tail[i + 3] == '.')
			return true;
	return false;
}

/* guarded tells whether the object is one that the domain runs code from. */
static __always_inline bool guarded(struct facts *f, struct inode *inode, struct dentry *dentry)
{
	if (!inode || !f->domain || (inode->i_mode & S_IFMT) != S_IFREG)
		return false;
	if (bpf_inode_storage_get(&used, inode, NULL, 0))
		return true;
	if (!overlay(inode->i_sb)) {
		struct below_key key = {};

		name_below(&key, inode);
		return bpf_map_lookup_elem(&below, &key);
	}
	if (inode->i_sb->s_dev != f->domain->root_dev || upper_dentry(inode))
		return false;
	return f->domain->flags & DOMAIN_GUARD_ALL || inode->i_mode & S_IXUGO || code_suffix(dentry) || library(dentry);
}

/* named tells whether the dentry's name is name, of n bytes with its NUL. */
static __always_inline bool named(struct dentry *dentry, const char *name, __u32 n)
{
	char text[16] = {};

	bpf_probe_read_kernel_str(text, sizeof(text), BPF_CORE_READ(dentry, d_name.name));
	for (int i = 0; i < n && i < sizeof(text); i++)
		if (text[i] != name[i])
			return false;
	return true;
}

/* ---- Hooks: code ---- */

SEC("lsm.s/bprm_creds_for_exec")
int BPF_PROG(creds_for_exec, struct linux_binprm *bprm)
{
	struct facts f = {};
	struct file *file = bprm->file;
	bool enter = false;

	if (!entering(&f, file, &enter))
		return 0;
	return verdict(&f, judge(&f, file), file->f_inode, file, NULL);
}

SEC("lsm.s/bprm_check_security")
int BPF_PROG(check_security, struct linux_binprm *bprm)
{
	struct facts f = {};
	struct file *file = bprm->file;
	bool enter = false;
	__u32 reason;

	if (!entering(&f, file, &enter))
		return 0;
	reason = judge(&f, file);
	if (enter && !reason && !set_label(bpf_get_current_task_btf(), f.id))
		reason = REASON_NO_DOMAIN;
	return verdict(&f, reason, file->f_inode, file, NULL);
}

SEC("lsm.s/mmap_file")
int BPF_PROG(mmap, struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags)
{
	__u64 address = 0;

	if (!(prot & PROT_EXEC))
		return 0;
	struct facts f = {};
	if (!labelled(&f, OP_MMAP))
		return 0;
	/*
	 * Anonymous memory has no file, but the verifier of 6.12 takes the argument
	 * for a pointer that is never NULL: it drops `!file`, and the kernel oopses
	 * (seen). So the address is read as a number, too. 7.3 insists on `!file`.
	 */
	if (bpf_probe_read_kernel(&address, sizeof(address), ctx) || !address || !file) {
		if (f.domain && f.domain->flags & DOMAIN_JIT)
			return 0;
		return verdict(&f, REASON_ANONYMOUS, NULL, NULL, NULL);
	}
	if (prot & PROT_WRITE)
		return verdict(&f, REASON_WRITE_EXEC, file->f_inode, file, NULL);
	return verdict(&f, judge(&f, file), file->f_inode, file, NULL);
}

/*
 * Not sleepable on any kernel, and on overlayfs vma->vm_file is the file below:
 * nothing can be judged here. Nor need it: what is executable was judged when
 * it was mapped, and nothing else may become so.
 */
SEC("lsm/file_mprotect")
int BPF_PROG(mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	struct file *file = vma->vm_file;

	if (!(prot & PROT_EXEC))
		return 0;
	struct facts f = {};
	if (!labelled(&f, OP_MPROTECT))
		return 0;
	if (!file && f.domain && f.domain->flags & DOMAIN_JIT)
		return 0;
	if (vma->vm_flags & VM_EXEC && !(prot & PROT_WRITE) && !vma->anon_vma)
		return 0;
	if (!file)
		return verdict(&f, REASON_WRITE_EXEC, NULL, NULL, NULL);
	return verdict(&f, REASON_WRITE_EXEC, file->f_inode, NULL, file->f_path.dentry);
}

/*
 * blinding tells whether a write to the file can take the verifier's sight: 0
 * in kernel.ftrace_enabled silently turns every BPF LSM program off (6.1 to
 * 6.18), and under an IMA policy file hashes can be stale.
 */
static __always_inline bool blinding(struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;

	switch (file->f_inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC:
		return named(dentry, "ftrace_enabled", 15);
	case SECURITYFS_MAGIC:
		return named(dentry, "policy", 7) && named(BPF_CORE_READ(dentry, d_parent), "ima", 4);
	}
	return false;
}

/* write_reason tells why the file may not be opened for writing. */
static __always_inline __u32 write_reason(struct facts *f, struct file *file)
{
	struct inode *inode = file->f_inode;
	struct dentry *dentry = file->f_path.dentry;

	if (blinding(file))
		return REASON_SELF;
	switch (inode->i_sb->s_magic) {
	case PROC_SUPER_MAGIC: /* memory of a process, and settings that name programs the kernel runs */
		if (named(dentry, "mem", 4) || named(BPF_CORE_READ(dentry, d_parent), "kernel", 7))
			return REASON_HARDENED;
		return REASON_ALLOWED;
	case BINFMTFS_MAGIC:
		return REASON_HARDENED;
	case CGROUP_SUPER_MAGIC: /* a program that the kernel runs outside of the container */
		if (named(dentry, "release_agent", 14))
			return REASON_HARDENED;
	}
	return guarded(f, inode, dentry) ? REASON_GUARDED : REASON_ALLOWED;
}

SEC("lsm.s/file_open")
int BPF_PROG(open, struct file *file)
{
	__u32 mode = file->f_mode;
	bool write = mode & FMODE_WRITE;
	struct settings *set;

	/* overlayfs opens the file below; the task opened the one above, which was judged. */
	if (mode & FMODE_NOACCOUNT)
		return 0;
	/* Most opens are for reading, and most nodes have no rule about those. */
	if (!write && (!(set = settings()) || !set->interpreters))
		return 0;
	struct facts f = {}; /* so late because this runs at every open */
	if (!labelled(&f, OP_READ_CODE)) {
		if (!write || !blinding(file))
			return 0;
		f.op = OP_WRITE;
		return verdict(&f, REASON_SELF, file->f_inode, file, NULL);
	}
	if (write) {
		f.op = OP_WRITE;
		return verdict(&f, write_reason(&f, file), file->f_inode, file, NULL);
	}
	if (!f.domain || !(f.domain->flags & DOMAIN_INTERPRETERS) || (file->f_inode->i_mode & S_IFMT) != S_IFREG ||
	    !code_suffix(file->f_path.dentry))
		return 0;
	/* The file is not open yet, so the kernel cannot hash it: where it came from decides. */
	return verdict(&f, provenance(&f, file->f_inode), file->f_inode, file, NULL);
}

/* ---- Hooks: identity ---- */

SEC("lsm/task_alloc")
int BPF_PROG(fork, struct task_struct *task, unsigned long clone_flags)
{
	__u32 *label = bpf_task_storage_get(&labels, bpf_get_current_task_btf(), NULL, 0);
	__u32 id;

	if (!label || !*label)
		return 0;
	id = *label;
	if (bpf_task_storage_get(&labels, task, &id, BPF_LOCAL_STORAGE_GET_F_CREATE))
		return 0;
	struct facts f = { .id = id, .op = OP_EXEC };
	return verdict(&f, REASON_NO_DOMAIN, NULL, NULL, NULL); /* out of memory: no child without its label */
}

/*
 * Run by the agent: labels the tasks that were in a container before it was
 * registered, and gives it the domain of every task that has one.
 */
SEC("iter/task")
int label_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u32 id, *label;

	if (!task)
		return 0;
	label = bpf_task_storage_get(&labels, task, NULL, 0);
	id = label ? *label : 0;
	if (!id) {
		id = by_cgroup(task);
		if (id)
			set_label(task, id);
	}
	if (id)
		bpf_seq_write(ctx->meta->seq, &id, sizeof(id));
	return 0;
}

/* ---- Hooks: guard ---- */

/* guard denies a change of inode, which is dentry's, or an open file's. */
static __always_inline int guard(__u32 op, struct inode *inode, struct dentry *dentry)
{
	struct facts f = {};

	if (!labelled(&f, op) || !guarded(&f, inode, dentry))
		return 0;
	return verdict(&f, REASON_GUARDED, inode, NULL, dentry);
}

SEC("lsm/inode_setattr")
int BPF_PROG(setattr, void *idmap, struct dentry *dentry)
{
	return guard(OP_SETATTR, dentry->d_inode, dentry);
}

/* Before 6.9 the hook had no idmap; the loader keeps the twin that fits. */
SEC("lsm/inode_setattr")
int BPF_PROG(setattr_compat, struct dentry *dentry)
{
	return guard(OP_SETATTR, dentry->d_inode, dentry);
}

SEC("lsm/inode_setxattr")
int BPF_PROG(setxattr, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry);
}

SEC("lsm/inode_removexattr")
int BPF_PROG(removexattr, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry);
}

/* Where these hooks are missing, the loader leaves them out: access lists go through inode_setxattr before 6.2. */
SEC("lsm/inode_set_acl")
int BPF_PROG(set_acl, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry);
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(remove_acl, void *idmap, struct dentry *dentry)
{
	return guard(OP_XATTR, dentry->d_inode, dentry);
}

/* file_setattr(2), 6.17; the ioctl does the same on every kernel. */
SEC("lsm/inode_file_setattr")
int BPF_PROG(file_setattr, struct dentry *dentry)
{
	return guard(OP_IOCTL, dentry->d_inode, dentry);
}

SEC("lsm/inode_link")
int BPF_PROG(link, struct dentry *old_dentry)
{
	return guard(OP_LINK, old_dentry->d_inode, old_dentry);
}

static __always_inline int guard_ioctl(struct file *file, unsigned int cmd)
{
	if (cmd != FS_IOC_SETFLAGS && cmd != FS_IOC32_SETFLAGS && cmd != FS_IOC_FSSETXATTR &&
	    cmd != FS_IOC_ENABLE_VERITY)
		return 0;
	return guard(OP_IOCTL, file->f_inode, file->f_path.dentry);
}

SEC("lsm/file_ioctl")
int BPF_PROG(ioctl, struct file *file, unsigned int cmd)
{
	return guard_ioctl(file, cmd);
}

/* Of a task in 32-bit mode, since 6.8. */
SEC("lsm/file_ioctl_compat")
int BPF_PROG(ioctl_compat, struct file *file, unsigned int cmd)
{
	return guard_ioctl(file, cmd);
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
int BPF_PROG(sb_delete, struct super_block *sb)
{
	__u32 dev = sb->s_dev;

	bpf_map_delete_elem(&roots, &dev);
	bpf_for_each_map_elem(&mounts, forget_mount, &dev, 0);
	return 0;
}

/* ---- Hooks: ourselves ---- */

/* agent tells whether the current program is the one that loaded us. */
static __always_inline bool agent(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct inode *exe = BPF_CORE_READ(task, mm, exe_file, f_inode);
	__u32 zero = 0;
	struct agent *a = bpf_map_lookup_elem(&agents, &zero);

	if (!a || !a->armed)
		return true;
	return exe && BPF_CORE_READ(exe, i_ino) == a->inode && BPF_CORE_READ(exe, i_sb, s_dev) == a->dev;
}

static __always_inline int self(__u32 op, struct dentry *dentry)
{
	struct facts f = { .op = op };

	if (!labelled(&f, op) && agent())
		return 0;
	return verdict(&f, REASON_SELF, NULL, NULL, dentry);
}

/* pinned tells whether the directory is the one of our pins, or in it. */
static __always_inline bool pinned(struct dentry *dir)
{
	struct inode *first = dir->d_inode;

	if (!pins_inode || !first || first->i_sb->s_magic != BPF_FS_MAGIC)
		return false;
	for (int i = 0; i < 3; i++) {
		struct inode *inode = BPF_CORE_READ(dir, d_inode);

		if (BPF_CORE_READ(inode, i_ino) == pins_inode && BPF_CORE_READ(inode, i_sb, s_dev) == pins_dev)
			return true;
		dir = BPF_CORE_READ(dir, d_parent);
	}
	return false;
}

SEC("lsm/inode_unlink")
int BPF_PROG(unlink, struct inode *dir, struct dentry *dentry)
{
	if (pinned(dentry->d_parent))
		return self(OP_UNLINK, dentry);
	return guard(OP_UNLINK, dentry->d_inode, dentry);
}

SEC("lsm/inode_rmdir")
int BPF_PROG(rmdir, struct inode *dir, struct dentry *dentry)
{
	return pinned(dentry) ? self(OP_UNLINK, dentry) : 0;
}

SEC("lsm/inode_rename")
int BPF_PROG(rename, struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir, struct dentry *new_dentry)
{
	int ret;

	if (pinned(old_dentry) || pinned(new_dentry->d_parent))
		return self(OP_RENAME, old_dentry);
	ret = guard(OP_RENAME, old_dentry->d_inode, old_dentry);
	if (ret)
		return ret;
	return guard(OP_RENAME, new_dentry->d_inode, new_dentry);
}

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

/* ---- Hooks: hardening of enforced containers ---- */

static const char userfaultfd[] = "[userfaultfd]"; /* fs/userfaultfd.c */

static __always_inline int harden(__u32 op)
{
	struct facts f = {};

	return labelled(&f, op) ? verdict(&f, REASON_HARDENED, NULL, NULL, NULL) : 0;
}

/* Attaching covers process_vm_writev and /proc/PID/mem of other processes too. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(ptrace, struct task_struct *child, unsigned int mode)
{
	return mode & PTRACE_MODE_ATTACH ? harden(OP_PTRACE) : 0;
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(traceme, struct task_struct *parent)
{
	return harden(OP_PTRACE);
}

static __always_inline int kernel_code(__u32 id)
{
	if (id == bpf_core_enum_value(enum kernel_read_file_id, READING_MODULE) ||
	    id == bpf_core_enum_value(enum kernel_read_file_id, READING_KEXEC_IMAGE) ||
	    id == bpf_core_enum_value(enum kernel_read_file_id, READING_KEXEC_INITRAMFS))
		return harden(OP_MODULE);
	return 0;
}

SEC("lsm/kernel_load_data")
int BPF_PROG(load_data, __u32 id)
{
	return kernel_code(id);
}

SEC("lsm/kernel_read_file")
int BPF_PROG(read_file, struct file *file, __u32 id)
{
	return kernel_code(id);
}

/* A release agent is an option of this mount, besides a file in it: a program that the kernel runs on the host. */
SEC("lsm/sb_kern_mount")
int BPF_PROG(kern_mount, struct super_block *sb)
{
	return sb->s_magic == CGROUP_SUPER_MAGIC ? harden(OP_MOUNT) : 0;
}

/* It fills pages of a mapping with what it likes: those of a file on tmpfs, too, that was judged when it was mapped. */
SEC("lsm/inode_init_security_anon")
int BPF_PROG(anonymous_inode, struct inode *inode, const struct qstr *name)
{
	struct facts f = {};
	char text[16] = {};

	bpf_probe_read_kernel_str(text, sizeof(text), BPF_CORE_READ(name, name));
	for (int i = 0; i < sizeof(userfaultfd); i++)
		if (text[i] != userfaultfd[i])
			return 0;
	if (!labelled(&f, OP_USERFAULTFD) || (f.domain && f.domain->flags & DOMAIN_JIT))
		return 0;
	return verdict(&f, REASON_HARDENED, NULL, NULL, NULL);
}

SEC("lsm/socket_create")
int BPF_PROG(socket, int family)
{
	return family == AF_ALG ? harden(OP_SOCKET) : 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
