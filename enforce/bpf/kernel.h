/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few kernel types and fields that the verifier reads. Offsets are those
 * of the running kernel: the loader relocates every access (CO-RE). Field
 * order follows the kernel's headers, for the reader's sake only.
 */
#ifndef SBOM_BLESS_KERNEL_H
#define SBOM_BLESS_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_INODE_STORAGE = 28,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
#define BPF_ANY 0
#define BPF_F_NO_PREALLOC 1
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1

/* include/uapi/asm-generic/errno-base.h */
#define EPERM 1
#define ENOMEM 12
/* include/uapi/asm-generic/errno.h */
#define EOPNOTSUPP 95
#define ENOKEY 126

/* include/uapi/linux/magic.h */
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define PROC_SUPER_MAGIC 0x9fa0
#define BPF_FS_MAGIC 0xcafe4a11
#define BINFMTFS_MAGIC 0x42494e4d
#define SECURITYFS_MAGIC 0x73636673
#define CGROUP_SUPER_MAGIC 0x27e0eb
#define FUSE_SUPER_MAGIC 0x65735546
#define NFS_SUPER_MAGIC 0x6969
#define V9FS_MAGIC 0x01021997
#define CIFS_SUPER_MAGIC 0xff534d42
#define SMB2_SUPER_MAGIC 0xfe534d42
#define CEPH_SUPER_MAGIC 0x00c36400

/* include/linux/fs.h, uapi/asm-generic/mman-common.h, linux/mm.h, linux/ptrace.h, linux/socket.h */
#define FMODE_WRITE 0x2
#define FMODE_NOACCOUNT (1u << 29) /* a file the kernel opened for itself, as overlayfs does for the data */
#define PROT_WRITE 0x2
#define PROT_EXEC 0x4
#define VM_EXEC 0x4
#define PTRACE_MODE_ATTACH 0x2
#define AF_ALG 38
#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IXUGO 0111
#define HASH_ALGO_SHA256 4 /* include/uapi/linux/hash_info.h */
#define FS_IOC_SETFLAGS 0x40086602
#define FS_IOC_FSSETXATTR 0x401c5820
#define FS_IOC_ENABLE_VERITY 0x40806685

struct bpf_dynptr {
	__u64 __opaque[2];
} __attribute__((aligned(8)));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct user_namespace {
	int level;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
	struct user_namespace *s_user_ns;
};

struct address_space {
	atomic_t i_mmap_writable;
};

struct inode {
	__u16 i_mode;
	struct super_block *i_sb;
	struct address_space *i_mapping;
	unsigned long i_ino;
	long long i_size;
	__u32 i_generation;
	atomic_t i_writecount;
};

struct timespec64 {
	long long tv_sec;
	long tv_nsec;
};
struct inode___v6_1 {
	struct timespec64 i_ctime;
};
struct inode___v6_6 {
	struct timespec64 __i_ctime;
};
struct inode___v6_11 {
	long long i_ctime_sec;
	__u32 i_ctime_nsec;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct super_block *mnt_sb;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	__u32 f_mode;
	struct inode *f_inode;
	struct path f_path;
};

struct linux_binprm {
	struct file *file;
};

struct vm_area_struct {
	unsigned long vm_flags;
	void *anon_vma;
	struct file *vm_file;
};

struct mm_struct {
	struct file *exe_file;
};

struct fs_struct {
	struct path root;
};

struct kernfs_node {
	__u64 id;
};
struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
};
struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};
struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	struct mm_struct *mm;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	char comm[16];
	struct fs_struct *fs;
	struct css_set *cgroups;
};

struct bpf_key { /* 6.1; include/linux/bpf.h */
	void *key;
	bool has_ref;
};

struct bpf_map {
	__u32 id;
};
struct bpf_prog_aux {
	__u32 id;
};
struct bpf_prog {
	struct bpf_prog_aux *aux;
};

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

enum kernel_read_file_id {
	READING_MODULE = 2,
	READING_KEXEC_IMAGE = 3,
	READING_KEXEC_INITRAMFS = 4,
};

#pragma clang attribute pop

#endif
