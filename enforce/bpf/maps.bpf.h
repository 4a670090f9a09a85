/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs remember. The loader sizes and pins these maps. */
#ifndef SBOM_BLESS_MAPS_H
#define SBOM_BLESS_MAPS_H
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "event.h"

struct { /* cgroup id -> domain id */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u32);
	__uint(max_entries, 4096);
} bless_cgroups SEC(".maps");

struct { /* s_dev of a container's root filesystem -> domain id */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 4096);
} bless_roots SEC(".maps");

struct { /* domain id -> its rules */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct domain);
	__uint(max_entries, 4096);
} bless_domains SEC(".maps");

struct { /* filesystems beyond the root that a domain may run code from */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct mount_key);
	__type(value, __u8);
	__uint(max_entries, 4096);
} bless_mounts SEC(".maps");

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
} bless_sets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct settings);
	__uint(max_entries, 1);
} bless_setting SEC(".maps");

struct { /* cgroup id -> what was found of it */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u64);
	__type(value, struct nearest);
	__uint(max_entries, 8192);
} bless_near SEC(".maps");

struct { /* address of an inode -> what is known of it; gone when the inode is */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct known_inode);
	__uint(max_entries, 1 << 20);
} bless_inodes SEC(".maps");

struct { /* copies of files of the image -> domain id */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_key);
	__type(value, __u32);
	__uint(max_entries, 1 << 16);
} bless_copies SEC(".maps");

struct { /* what was verified, in whatever container */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct signed_digest);
	__type(value, __u8);
	__uint(max_entries, 16384);
} bless_signed_digests SEC(".maps");

struct { /* suffixes of code, and directories -> enum name_meaning */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct name_key);
	__type(value, __u8);
	__uint(max_entries, 256);
} bless_names SEC(".maps");

struct { /* the domain of a task; inherited, never cleared */
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} bless_labels SEC(".maps");

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
} bless_signatures SEC(".maps");

struct { /* address of an inode -> digest of its content; gone when the inode is */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct measured);
	__uint(max_entries, 1 << 20);
} bless_digests SEC(".maps");

struct { /* enum hashing */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} bless_hashing SEC(".maps");

struct { /* files whose digest the agent computed; gone when their filesystem is */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_key);
	__type(value, struct seal);
	__uint(max_entries, 1 << 18);
} bless_seals SEC(".maps");

struct { /* s_dev of the filesystems that have any; there can be one for each layer */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u8);
	__uint(max_entries, 1 << 14);
} bless_sealed SEC(".maps");

struct { /* files that were judged */
	__uint(type, BPF_MAP_TYPE_INODE_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct judged);
} bless_verdicts SEC(".maps");

struct recent_key {
	__u32 domain;
	__u16 op;
	__u16 reason;
	/* Of the file: a number alone is given again, on another filesystem even at once. */
	__u32 dev;
	__u32 generation;
	__u64 inode;
	__u64 ctime;
};

struct { /* when this was last reported, ns */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct recent_key);
	__type(value, __u64);
	__uint(max_entries, 4096);
} bless_recent SEC(".maps");

struct { /* domain id -> what it reported in this second */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u32);
	__type(value, struct spent);
	__uint(max_entries, 4096);
} bless_budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} bless_events SEC(".maps");

struct { /* how often each reason was given */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, REASONS);
} bless_counters SEC(".maps");

struct { /* the executable that may change the maps and pins */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct agent);
	__uint(max_entries, 1);
} bless_agents SEC(".maps");

struct { /* ids of our maps, sets too, (high half 0) and programs (high half 1) -> enum object */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u8);
	__uint(max_entries, 4096);
} bless_objects SEC(".maps");

struct { /* what is the agent's: inodes, filesystems, mounts -> enum place_flags */
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct place_key);
	__type(value, __u32);
	__uint(max_entries, 512);
} bless_places SEC(".maps");

/* ---- Settings: written by the loader before load, constant from then on ---- */

/* The mount namespace of the host's first process. */
const volatile __u32 host_mounts;

/*
 * Where overlayfs keeps the dentries of the lower layers. From 6.5 on a stack of
 * ovl_count entries, ovl_path bytes each, the first at ovl_lower behind the address that
 * is at ovl_entry behind the inode. Before, ovl_entry is 0, the first dentry is at
 * ovl_lower behind the inode itself, and the inode that has the data, where that is
 * another, at ovl_lowerdata before it. ovl_lower 0: not known.
 */
const volatile __u32 ovl_entry;
const volatile __u32 ovl_lower;
const volatile __u32 ovl_count;
const volatile __u32 ovl_path;
const volatile __u32 ovl_lowerdata;
/*
 * Where it says of a copied-up file that its data was copied, too (OVL_UPPERDATA, else it
 * is a metacopy): the bit of the word at ovl_flags before the inode. 0: not known.
 */
const volatile __u32 ovl_flags;
const volatile __u32 ovl_upperdata;

/* Never set: it makes these types known to the code generated for the loader. */
const volatile struct {
	enum op op;
	enum reason reason;
	enum domain_flags flags;
	enum object object;
	enum place_kind place_kind;
	enum place_flags place_flags;
	enum armed armed;
	enum name_meaning meaning;
	enum event_version version;
	enum hashing hashing;
	enum seal_command seal_command;
	struct event event;
} types;

#endif
