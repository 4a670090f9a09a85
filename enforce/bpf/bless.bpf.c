/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container may execute only files that its image lists, unmodified.
 *
 * Hooks that ask whether code may run:
 *   bprm_check_security   what execve names, and the interpreter of a script
 *   bprm_creds_for_exec   all that AT_EXECVE_CHECK asks (6.14)
 *   mmap_file             libraries; the only check that `ld.so ./x` ever gets
 *   file_mprotect         code made in memory
 *   mmap_addr             the heap, where a personality makes it executable
 *   file_open             files an interpreter is about to read; and the write guard
 * Hooks that follow a container: task_alloc, iter/task, sb_delete, inode_free_security.
 * Hooks that keep what was judged as it was: file_open, inode_setattr, inode_file_setattr,
 *   inode_setxattr, inode_removexattr, inode_set_acl, inode_remove_acl, inode_unlink,
 *   inode_rename, inode_link, file_ioctl, file_ioctl_compat.
 * Hooks that close ways around: ptrace_access_check, ptrace_traceme, kernel_load_data,
 *   kernel_read_file, socket_create, sb_kern_mount, inode_init_security_anon,
 *   uring_cmd.
 * Hooks that protect these programs and the agent: bpf, bpf_map, bpf_prog, sb_mount, move_mount,
 *   sb_umount, sb_remount, sb_pivotroot, inode_create, inode_mkdir, inode_mknod, inode_symlink,
 *   inode_rmdir, task_kill, task_setrlimit, task_setnice, task_setscheduler, task_setioprio,
 *   task_movememory.
 *
 * A hook filters and extracts; judge() finds the reason; verdict() alone says -EPERM.
 * Rooms, from the ground up: maps, verdict, domain, provenance, seal, judge and guard, hooks_*.
 * After a denial the kernel runs no further BPF program of that hook, so none
 * looks at the result of an earlier one.
 */
#include "hooks_code.bpf.h"
#include "hooks_open.bpf.h"
#include "hooks_identity.bpf.h"
#include "hooks_guard.bpf.h"
#include "hooks_self.bpf.h"
#include "hooks_harden.bpf.h"

char _license[] SEC("license") = "Dual MIT/GPL";
