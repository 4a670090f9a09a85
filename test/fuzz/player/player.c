/* SPDX-License-Identifier: Apache-2.0 */
/*
 * player does the system calls that it reads from a pipe and writes back what
 * they gave. It links no library and has no memory of its own that grows, so
 * that it starts at once, forks for little, and does nothing by itself that a
 * security hook would see.
 *
 * Each actor is a task that plays: the first process, and those that it
 * spawned. Actor i reads descriptor 3+2i and writes descriptor 4+2i.
 */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/io_uring.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>

#define ACTORS 4
#define ROOM 32768
#define STACK 16384
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

/* Calls that are no system calls: wire_test.go has the same numbers. */
enum {
	SPAWN = 10000, /* actor, clone's flags */
	RUN,	       /* directory, path, execveat's flags, how */
	CALL,	       /* address */
	URING,	       /* opcode, fd, addr, len, off, flags */
	PIN,	       /* addr, len */
	GROW,	       /* bytes: the heap by so many */
};

enum { RUN_VFORK = 1, RUN_ON = 2 }; /* how: with vfork; without waiting for its end */

/* Fixed descriptors: a pipe, and a file whose content is not listed. */
enum { PIPE_OUT = 40, PIPE_IN, SOURCE };

struct call {
	unsigned int nr;
	unsigned int pointers; /* bit i: arg[i] is an offset in the data */
	long fd;	       /* where a descriptor that it gives goes; 0: nowhere */
	unsigned long arg[6];
};

struct request {
	unsigned int calls, data;
};

struct ring {
	int fd; /* 0: not set up */
	unsigned int *sq_tail, *sq_array, *cq_head;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	unsigned int sq_mask, cq_mask;
};

static char room[ACTORS][ROOM] __attribute__((aligned(64)));
static char stacks[ACTORS][STACK] __attribute__((aligned(64), used));
static struct ring rings[ACTORS];
static volatile long *failed; /* shared with what RUN forks */

static inline long sys(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
	long ret;

	asm volatile("syscall"
		     : "=a"(ret)
		     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
}

static inline __attribute__((noreturn)) void leave(int nr, long status)
{
	for (;;)
		sys(nr, status, 0, 0, 0, 0, 0);
}

void *memset(void *at, int value, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		((volatile char *)at)[i] = value;
	return at;
}

static long wait_for(long pid)
{
	int status = 0;

	if (sys(__NR_wait4, pid, (long)&status, 0x40000000 /* __WALL */, 0, 0, 0) != pid)
		return 2000;
	return status & 0x7f ? 1000 + (status & 0x7f) : status >> 8 & 0xff;
}

/* run gives the exit status of a program, 1000 and the signal that ended it, or why it did not start. */
static long run(long dir, long path, long flags, long how)
{
	long argv[3] = { (long)"program", how & RUN_ON ? (long)"wait" : 0, 0 }, pid;

	*failed = 0;
	pid = sys(__NR_clone, SIGCHLD | (how & (RUN_VFORK | RUN_ON) ? CLONE_VM | CLONE_VFORK : 0), 0, 0, 0, 0, 0);
	if (!pid) {
		*failed = sys(__NR_execveat, dir, path, (long)argv, (long)(argv + 2), flags, 0);
		if (!*failed) /* AT_EXECVE_CHECK */
			leave(__NR_exit_group, 0);
		leave(__NR_exit_group, 127);
	}
	if (pid < 0)
		return pid;
	if (how & RUN_ON && !*failed)
		return 0;
	long status = wait_for(pid);
	return *failed ? *failed : status;
}

static long jump(unsigned long to)
{
	long pid = sys(__NR_clone, SIGCHLD, 0, 0, 0, 0, 0);

	if (!pid) /* as a program is entered: with the number of its arguments */
		asm volatile("push $1\n\tjmp *%0" : : "r"(to));
	return pid < 0 ? pid : wait_for(pid);
}

static long set_up(struct ring *r)
{
	struct io_uring_params p;
	char *sq, *cq;

	if (r->fd)
		return 0;
	memset(&p, 0, sizeof(p));
	long fd = sys(__NR_io_uring_setup, 4, (long)&p, 0, 0, 0, 0);
	if (fd < 0)
		return fd;
	sq = (char *)sys(__NR_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
	cq = (char *)sys(__NR_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_CQ_RING);
	r->sqes = (void *)sys(__NR_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
	if ((long)sq < 0 || (long)cq < 0 || (long)r->sqes < 0)
		return -1000;
	r->sq_tail = (void *)(sq + p.sq_off.tail);
	r->sq_array = (void *)(sq + p.sq_off.array);
	r->sq_mask = *(unsigned int *)(sq + p.sq_off.ring_mask);
	r->cq_head = (void *)(cq + p.cq_off.head);
	r->cq_mask = *(unsigned int *)(cq + p.cq_off.ring_mask);
	r->cqes = (void *)(cq + p.cq_off.cqes);
	/* Away from the descriptors that programs use, and from what a played close() could name. */
	r->fd = sys(__NR_fcntl, fd, F_DUPFD, 100, 0, 0, 0);
	sys(__NR_close, fd, 0, 0, 0, 0, 0);
	return 0;
}

/* uring has the ring do one thing and gives its result. */
static long uring(struct ring *r, const unsigned long *arg)
{
	long ret = set_up(r);

	if (ret)
		return ret;
	unsigned int tail = *r->sq_tail, at = tail & r->sq_mask;
	struct io_uring_sqe *sqe = r->sqes + at;

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = arg[0];
	sqe->fd = arg[1];
	sqe->addr = arg[2];
	sqe->len = arg[3];
	sqe->off = arg[4];
	sqe->open_flags = arg[5];
	r->sq_array[at] = at;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	ret = sys(__NR_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0);
	if (ret != 1)
		return ret < 0 ? ret : -1000;
	unsigned int head = *r->cq_head;
	ret = r->cqes[head & r->cq_mask].res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	return ret;
}

/* pin has the ring hold the pages, after it let go of those it held. */
static long pin(struct ring *r, const unsigned long *arg)
{
	long ret = set_up(r);

	if (ret)
		return ret;
	sys(__NR_io_uring_register, r->fd, IORING_UNREGISTER_BUFFERS, 0, 0, 0, 0);
	return sys(__NR_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, (long)arg, 1, 0, 0);
}

static void play(long actor) __attribute__((noreturn, used));

/* spawn makes another actor. */
static long spawn(long actor, unsigned long flags)
{
	long pid;

	if (flags & CLONE_VM) {
		asm volatile("mov %[actor], %%r12\n\t"
			     "syscall\n\t"
			     "test %%rax, %%rax\n\t"
			     "jnz 1f\n\t"
			     "mov %%r12, %%rdi\n\t"
			     "call play\n"
			     "1:"
			     : "=a"(pid)
			     : "a"(__NR_clone), "D"(flags), "S"(stacks[actor] + STACK), "d"(0), [actor] "r"(actor)
			     : "rcx", "r11", "r12", "memory");
		return pid;
	}
	pid = sys(__NR_clone, flags, 0, 0, 0, 0, 0);
	if (!pid)
		play(actor);
	return pid;
}

static long perform(long actor, struct call *c)
{
	unsigned long *a = c->arg;
	long ret;

	switch (c->nr) {
	case SPAWN:
		return spawn(a[0], a[1]);
	case RUN:
		return run(a[0], a[1], a[2], a[3]);
	case CALL:
		return jump(a[0]);
	case URING:
		ret = uring(rings + actor, a);
		break;
	case PIN:
		return pin(rings + actor, a);
	case GROW:
		ret = sys(__NR_brk, 0, 0, 0, 0, 0, 0);
		return sys(__NR_brk, ret + a[0], 0, 0, 0, 0, 0) == ret + (long)a[0] ? 0 : -12 /* ENOMEM */;
	default:
		ret = sys(c->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	if (ret >= 0 && c->fd) {
		long fd = sys(__NR_dup3, ret, c->fd, O_CLOEXEC, 0, 0, 0);

		sys(__NR_close, ret, 0, 0, 0, 0, 0);
		return fd;
	}
	return ret;
}

static void receive(long actor, void *to, unsigned long n)
{
	for (char *at = to; n;) {
		long got = sys(__NR_read, 3 + 2 * actor, (long)at, n, 0, 0, 0);

		if (got <= 0)
			leave(actor ? __NR_exit : __NR_exit_group, 0);
		at += got;
		n -= got;
	}
}

static void play(long actor)
{
	struct request *q = (void *)room[actor];
	struct call *calls = (void *)(q + 1);

	for (;;) {
		receive(actor, q, sizeof(*q));
		receive(actor, calls, q->calls * sizeof(*calls) + q->data);
		char *data = (char *)(calls + q->calls);
		long *results = (long *)calls;

		for (unsigned int i = 0; i < q->calls; i++) {
			struct call *c = calls + i;

			for (int j = 0; j < 6; j++)
				if (c->pointers & 1 << j)
					c->arg[j] += (unsigned long)data;
			long ret = perform(actor, c);

			results[i] = ret; /* no later call's: a call is longer than a result */
		}
		sys(__NR_write, 4 + 2 * actor, (long)results, q->calls * sizeof(*results), 0, 0, 0);
	}
}

static void keep(long fd, long at)
{
	if (fd < 0 || sys(__NR_dup3, fd, at, O_CLOEXEC, 0, 0, 0) != at)
		leave(__NR_exit_group, 100);
	sys(__NR_close, fd, 0, 0, 0, 0, 0);
}

static void start(void) __attribute__((noreturn, used));
asm(".globl _start\n_start: lea stacks + " TEXT(STACK) "(%rip), %rsp\n\tcall start");

static void start(void)
{
	struct {
		long handler, flags, restorer, mask;
	} ignore = { 1, 0, 0, 0 };
	int ends[2];

	failed = (long *)sys(__NR_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if ((long)failed < 0 || sys(__NR_pipe2, (long)ends, 00004000 /* O_NONBLOCK */, 0, 0, 0, 0))
		leave(__NR_exit_group, 101);
	keep(ends[0], PIPE_OUT);
	keep(ends[1], PIPE_IN);
	keep(sys(__NR_openat, AT_FDCWD, (long)"/opt/unlisted", 0, 0, 0, 0), SOURCE);
	sys(__NR_rt_sigaction, SIGPIPE, (long)&ignore, 0, 8, 0, 0);
	sys(__NR_rt_sigaction, SIGXFSZ, (long)&ignore, 0, 8, 0, 0);
	sys(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0);
	sys(__NR_umask, 0, 0, 0, 0, 0, 0);
	play(0);
}
