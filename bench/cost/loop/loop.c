/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop OPERATION PATH BATCHES TIMES does the operation TIMES times and prints,
 * once for each batch, what one took: nanoseconds of the guest's clock while the
 * processor worked, and while it waited. It is linked statically and calls the
 * kernel as directly as C can, so that nearly all that is counted is the kernel's.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char buf[65536];

static long long now(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t))
		err(1, "clock_gettime");
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* idle is how long the processor has waited since boot (proc_uptime(5)). */
static double idle(void)
{
	static int fd = -1;
	double up, waited;
	char text[64];
	ssize_t n;

	if (fd < 0 && (fd = open("/proc/uptime", O_RDONLY)) < 0)
		err(1, "/proc/uptime");
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[n < 0 ? 0 : n] = 0;
	if (sscanf(text, "%lf %lf", &up, &waited) != 2)
		errx(1, "/proc/uptime: %s", text);
	return waited * 1e9;
}

/* execute is fork, execve and wait of a program that exits with status 0. */
static void execute(const char *path)
{
	char *argv[] = { (char *)path, NULL };
	pid_t pid = fork();
	int status;

	if (!pid) {
		execve(path, argv, argv + 1);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s: status %d", path, status);
}

/* try_program is the same of a program that may be refused. */
static void try_program(const char *path)
{
	char *argv[] = { (char *)path, NULL };
	pid_t pid = fork();

	if (!pid) {
		execve(path, argv, argv + 1);
		_exit(127);
	}
	if (waitpid(pid, NULL, 0) != pid)
		err(1, "%s", path);
}

static void map(const char *path)
{
	static int fd = -1;
	void *p;

	if (fd < 0 && (fd = open(path, O_RDONLY)) < 0)
		err(1, "%s", path);
	p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED || munmap(p, 4096))
		err(1, "mmap %s", path);
}

static void read_file(const char *path, size_t size)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, buf, size) != (ssize_t)size || close(fd))
		err(1, "read %s", path);
}

static void status(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		err(1, "stat %s", path);
}

static void write_file(const char *path)
{
	static int fd = -1;

	if (fd < 0 && (fd = open(path, O_WRONLY | O_CREAT, 0600)) < 0)
		err(1, "%s", path);
	if (pwrite(fd, buf, 4096, 0) != 4096)
		err(1, "write %s", path);
}

static void create(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, buf, 4096) != 4096 || close(fd) || unlink(path))
		err(1, "create %s", path);
}

static void operate(const char *op, const char *path, long n)
{
	char numbered[256];

	if (!strcmp(op, "first")) { /* another file each time */
		snprintf(numbered, sizeof(numbered), "%s%ld", path, n);
		execute(numbered);
	} else if (!strcmp(op, "exec"))
		execute(path);
	else if (!strcmp(op, "refused"))
		try_program(path);
	else if (!strcmp(op, "mmap"))
		map(path);
	else if (!strcmp(op, "read4k"))
		read_file(path, 4096);
	else if (!strcmp(op, "read64k"))
		read_file(path, 65536);
	else if (!strcmp(op, "stat"))
		status(path);
	else if (!strcmp(op, "write"))
		write_file(path);
	else if (!strcmp(op, "create"))
		create(path);
	else
		errx(2, "operation %s", op);
}

int main(int argc, char **argv)
{
	long batches, times, n = 0;

	if (argc != 5)
		errx(2, "usage: loop OPERATION PATH BATCHES TIMES");
	batches = atol(argv[3]);
	times = atol(argv[4]);
	if (strcmp(argv[1], "first"))
		for (int i = 0; i < 3; i++)
			operate(argv[1], argv[2], 0); /* warm */
	while (batches--) {
		double waited = idle();
		long long start = now();

		for (long i = 0; i < times; i++)
			operate(argv[1], argv[2], n++);
		start = now() - start;
		waited = idle() - waited;
		printf("%.1f %.1f\n", (start - waited) / times, waited / times);
	}
	return 0;
}
