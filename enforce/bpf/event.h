/* SPDX-License-Identifier: Apache-2.0 */
/* What the verifier and its agent both know: records, keys, flags, codes. */
#ifndef SBOM_BLESS_EVENT_H
#define SBOM_BLESS_EVENT_H

/* What was tried. */
enum op {
	OP_EXEC = 1,
	OP_MMAP,
	OP_MPROTECT,
	OP_READ_CODE,
	OP_WRITE,
	OP_SETATTR,
	OP_XATTR,
	OP_UNLINK,
	OP_RENAME,
	OP_LINK,
	OP_IOCTL,
	OP_PTRACE,
	OP_BPF,
	OP_MODULE,
	OP_SOCKET,
	OP_UMOUNT,
	OP_MOUNT,
	OP_USERFAULTFD,
	OP_CREATE,
	OP_SIGNAL,
	OP_LIMIT, /* of a process: priority, processors, resources */
};

/* Why it was decided so. The counters' index too. */
enum reason {
	REASON_ALLOWED,
	REASON_NO_DOMAIN,      /* the container is no longer known */
	REASON_REJECTED_FS,    /* FUSE, network, or mounted in a user namespace */
	REASON_FOREIGN_FS,     /* not the container's root filesystem */
	REASON_WRITABLE_LAYER, /* the data is in the writable layer */
	REASON_WRITER,	       /* somebody may write to the file now */
	REASON_TOO_LARGE,
	REASON_NO_DIGEST,     /* the kernel gave no SHA-256 */
	REASON_NO_SET,	      /* no file set is loaded for the container */
	REASON_NOT_LISTED,    /* the digest is not in the set */
	REASON_NOT_SIGNED,    /* the kernel gave no security.bpf.bless */
	REASON_BAD_SIGNATURE, /* no key of the keyring verifies it */
	REASON_ANONYMOUS,     /* executable memory without a file */
	REASON_WRITE_EXEC,    /* memory that is, or was, writable made executable */
	REASON_GUARDED,	      /* a shipped code file may not be changed */
	REASON_HARDENED,      /* closed to every enforced container */
	REASON_SELF,	      /* the verifier protects itself */
	REASON_TAKEOVER,      /* another executable makes itself the agent: reported, never denied */
	REASON_UNANNOUNCED,   /* its container was not announced to the agent */
	REASON_LOST,	      /* counter only: the ring buffer was full */
	REASON_REPEATED,      /* counter only: the same again within a second, or too much of one container */
	REASON_HASHED,	      /* counter only: the kernel computed a digest */
	REASON_UNMARKED,      /* counter only: the map of inodes was full */
	REASON_FOREIGN,	      /* counter only, the agent's: a record of another version in the ring buffer */
	REASONS,
};

/* struct domain.flags */
enum domain_flags {
	DOMAIN_ENFORCE = 1,	  /* deny; else only report */
	DOMAIN_SOFT = 2,	  /* accept the writable layer, if nobody can write to the file */
	DOMAIN_PLAIN = 4,	  /* the root filesystem is no overlay */
	DOMAIN_JIT = 8,		  /* executable anonymous memory is normal */
	DOMAIN_INTERPRETERS = 16, /* judge the opening of files with a code suffix */
	DOMAIN_GUARD_ALL = 32,	  /* guard every file of the image, not only code */
	DOMAIN_HOST_ROOT = 64,	  /* shares the root filesystem with the host */
	/* What makes a file good: one of these, or both. None: nothing does. */
	DOMAIN_LISTED = 128,	/* its digest is in the set */
	DOMAIN_SIGNED = 256,	/* the kernel verifies its security.bpf.bless */
	DOMAIN_SIZES = 512,	/* the set has the sizes of its files: another size need not be hashed */
	DOMAIN_DEVICES = 1024,	/* may open block devices for writing */
	DOMAIN_REDIRECT = 2048, /* its overlay could rename directories of the image whole */
	/* No task is ever labelled by these two. */
	DOMAIN_EXEMPT = 4096, /* tasks here belong to no domain, whatever is registered above */
	DOMAIN_CLOSED = 8192, /* tasks below that no other domain has may execute nothing */
};

struct domain {
	__u32 flags;
	__u32 set;	  /* key of sets; 0: none */
	__u32 root_dev;	  /* s_dev of the root filesystem */
	__u32 generation; /* verdicts of another generation are void */
	__u32 host_dev;	  /* s_dev of the host's root filesystem */
	__u32 reserved;
	__u64 host_inode; /* of its root directory */
	__u64 max_size;	  /* larger files are denied; 0: no limit */
};

/* The one value that concerns every hook; written by the agent. */
struct settings {
	__s32 keyring;	    /* what security.bpf.bless is verified with; 0: none */
	__u32 interpreters; /* some domain has DOMAIN_INTERPRETERS */
	__u32 epoch;	    /* of the registered cgroups: what was found in another is void */
};

/* What was found of a cgroup: the domain of it, or of the nearest above; 0: none. */
struct nearest {
	__u32 epoch;
	__u32 domain;
};

/*
 * What is known of an inode for as long as it is in memory. The key is its
 * address: numbers, generations and times can be set by an attacker.
 */
enum inode_flags {
	INODE_GUARDED = 1,  /* judged good once: no container may change it */
	INODE_HASHING = 2,  /* the same, while its digest is computed */
	INODE_MAPPED = 4,   /* was mapped shared and writable: a page of it may be pinned, and written later */
	INODE_COPIED = 8,   /* a file of the image that a change without effect copied up, guarded since */
	INODE_SHIPPED = 16, /* lies in a layer of the image: nor may it be removed */
};
struct known_inode {
	__u32 flags;
	__u32 writes; /* how often it was opened for writing, or truncated, since it is known */
};

/* A file by what lasts longer than its inode is in memory. */
struct file_key {
	__u32 dev;
	__u32 generation;
	__u64 inode;
};

struct mount_key {
	__u32 domain;
	__u32 dev;
};

/* What a name means for the guard. */
enum name_meaning {
	NAME_SUFFIX = 1, /* ".py": of a file that an interpreter reads */
	NAME_CODE,	 /* "bin": a directory of programs and libraries */
	NAME_DATA,	 /* "etc": a directory that is meant to change */
};
#define NAME_KEY_LEN 8
struct name_key {
	char text[NAME_KEY_LEN]; /* padded with NUL */
};

/* A file's content, as far as can be told without reading it: while this is the same, its digest is. */
struct content {
	__u64 size;
	__u64 ctime;
	__u64 writes; /* known_inode.writes */
};

/* The digest of an inode's content, for all the overlays above it: a layer is hashed once on a node. */
struct measured {
	struct content content;
	__u8 digest[32];
};

/* Who computes the digests of files. */
enum hashing {
	HASHED_BY_KERNEL, /* when a file is first used */
	HASHED_BY_AGENT,  /* before the container starts: seals */
};

/*
 * The agent's word on a file's content. It begins a seal, reads the file, and ends the seal
 * with the digest. Whoever opens the file for writing in between, or later, voids it.
 */
struct seal {
	struct content content;
	__u8 digest[32];
	__u64 whole; /* it was ended */
};

/* What the agent asks by ioctl(2) on a file: so the kernel itself finds the inode. */
enum seal_command {
	SEAL_BEGIN = 0x5b0b0001,
	SEAL_END, /* with the digest */
};

/* What came of a file, by the inode that is above. While content and rules are the same, so is the reason. */
struct judged {
	struct content content; /* of the inode that has the data */
	__u32 set;
	__u32 generation;
	__s32 keyring; /* 0: its signature did not count */
	__u32 reason;
};

/* What a domain reported since a time, ns. */
struct spent {
	__u64 since;
	__u32 denials;
	__u32 allowed;
};
#define DENIALS_PER_SECOND 100
#define ALLOWED_PER_SECOND 1000

/* In the set of an image, the size of one of its files: no SHA-256 that a file can have looks so. */
struct size_key {
	__u64 size;
	__u8 ones[24]; /* 0xff */
};

/* A digest that the kernel verified a signature of. */
struct signed_digest {
	__s32 keyring;
	__u8 digest[32];
};

/* What security.bpf.bless signs (xattr.Statement; docs/design.md). */
struct signed_file {
	char magic[16]; /* "sbom-bless file", NUL */
	__u8 version;	/* 1 */
	__u8 hash_algo; /* enum hash_algo */
	__u8 zero[6];
	__u8 digest[64];
};

struct process {
	__u32 pid;
	char comm[16];
};

#define PATH_LEN 256
#define NAME_LEN 64
#define ANCESTORS 4
/* Changes with what any field means, op and reason too: the agent skips records of another version. */
enum event_version {
	EVENT_VERSION = 1,
};
struct event {
	__u32 version; /* always the first field */
	__u32 dev;
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u64 cgroup;
	__u64 inode;
	__u32 domain;
	__u32 pid;
	__u32 tid;
	__u32 uid;
	__u32 file;  /* value in the set, when allowed */
	__s32 error; /* of the helper that failed */
	__u8 op;
	__u8 reason;
	__u8 denied;   /* else it was only reported */
	__u8 reversed; /* path holds names from the file upwards, each ended by NUL */
	__u8 digest[32];
	char comm[16];
	struct process ancestors[ANCESTORS]; /* the parent first; pid 0: no more */
	char path[PATH_LEN + NAME_LEN];
};

/* Values of the map of our objects. */
enum object {
	OBJECT_GUARDED = 1,
	OBJECT_AGENTS = 2, /* the map that says who the agent is */
};

/*
 * Directories and files of the agent. A key names an inode of a filesystem, a
 * whole filesystem (id 0: has it any?), or a mount of the host.
 */
enum place_kind {
	PLACE_INODE,
	PLACE_FILESYSTEM,
	PLACE_MOUNTED, /* id: mnt_id */
};
struct place_key {
	__u32 dev; /* 0 with PLACE_MOUNTED */
	__u32 kind;
	__u64 id;
};
enum place_flags {
	PLACE_WAY = 1,	   /* leads to one: no container renames it */
	PLACE_SEEN = 2,	   /* leads to one that must stay in sight: nothing is mounted over it */
	PLACE_COVERED = 4, /* a mount on the way covers it: nobody unmounts that, nor a copy that takes it along */
	PLACE_PINS = 8,	   /* its filesystem has the pins: it is not reconfigured */
	PLACE_AGENT = 16,  /* no container changes it or what is directly in it */
	PLACE_STATE = 32,  /* nobody but the agent does */
	PLACE_TREE = 64,   /* that holds for all below it, too */
};

enum armed {
	DISARMED, /* anybody may change maps and pins: while they are made */
	ARMED,	  /* the agent alone */
	RELEASED, /* unloaded: nothing is denied any more, whoever still holds the programs */
};

struct agent {
	__u32 armed; /* enum armed */
	__u32 dev;
	__u64 inode;
};

#endif
