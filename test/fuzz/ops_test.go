// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fuzz

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// kind is a kind of step. A new one is a row of a group: a name, how often it
// is taken compared with others, and the calls of one such step, drawn from g.
type kind struct {
	name   string
	weight int
	calls  func(g *gen) []call
}

const (
	at    = unix.AT_FDCWD
	tmp   = 48         // the descriptor of a file that a step opens and closes
	area  = 0x20000000 // where the mappings of a sequence are
	apart = 0x100000   // from one to the next
	room  = 4 * page   // of each
)

func atFD(n int) flags { return flags{n, fmt.Sprint("fd ", n)} }

var (
	cwd      = flags{at, "AT_FDCWD"}
	nonBlock = flags{2, "SPLICE_F_NONBLOCK"}
)

// common are what most sequences have: files made, changed and run.
var common = []kind{
	{"put", 6, func(g *gen) []call { return g.write(g.own(), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, g.content()) }},
	{"rewrite", 4, func(g *gen) []call { return g.write(g.any(), g.openFlags(), g.content()) }},
	{"run", 6, func(g *gen) []call {
		return []call{{nr: callRun, arg: []any{cwd, g.any(), 0, g.how()}}}
	}},
	{"map a file executable", 5, func(g *gen) []call {
		return []call{
			g.open(g.any(), unix.O_RDONLY, tmp),
			{nr: unix.SYS_MMAP, arg: []any{g.address(), room, prot(unix.PROT_READ | unix.PROT_EXEC), mapFlags(unix.MAP_FIXED | g.pickInt(unix.MAP_PRIVATE, unix.MAP_SHARED)), atFD(tmp), 0}},
			closing(tmp),
		}
	}},
	{"truncate", 1, func(g *gen) []call { return []call{{nr: unix.SYS_TRUNCATE, arg: []any{g.any(), g.offset()}}} }},
	{"open and truncate", 2, func(g *gen) []call {
		return []call{g.open(g.any(), g.openFlags()|unix.O_TRUNC, tmp), closing(tmp)}
	}},
}

// groups are the others. A sequence takes from a few of them.
var groups = [][]kind{{ // Open files.
	{"open", 4, func(g *gen) []call { return []call{g.open(g.any(), g.openFlags(), g.fd())} }},
	{"open a path only", 1, func(g *gen) []call { return []call{g.open(g.any(), unix.O_PATH, g.fd())} }},
	{"open a nameless file", 1, func(g *gen) []call {
		return []call{g.open(path.Dir(g.own()), unix.O_TMPFILE|unix.O_RDWR, g.fd())}
	}},
	{"reopen", 2, func(g *gen) []call {
		return []call{g.open(fmt.Sprint("/proc/self/fd/", g.fd()), g.openFlags()&^unix.O_CREAT, g.fd())}
	}},
	{"open by handle", 1, func(g *gen) []call {
		handle := append(binary.LittleEndian.AppendUint32(nil, 64), make([]byte, 4+64)...)
		return []call{
			{nr: unix.SYS_NAME_TO_HANDLE_AT, arg: []any{cwd, g.any(), handle, make([]byte, 8), 0}},
			g.open(g.pick("/", "/data", "/mnt/1", "/mnt/overlay"), unix.O_RDONLY|unix.O_DIRECTORY, tmp),
			{nr: unix.SYS_OPEN_BY_HANDLE_AT, arg: []any{atFD(tmp), handle, openFlags(g.openFlags() &^ unix.O_CREAT)}, fd: g.fd()},
			closing(tmp),
		}
	}},
	{"open by io_uring", 2, func(g *gen) []call {
		const opOpenAt = 18
		return []call{{nr: callRing, arg: []any{flags{opOpenAt, "OPENAT"}, cwd, g.any(), 0o755, 0, openFlags(g.openFlags())}, fd: g.fd()}}
	}},
	{"memfd", 1, func(g *gen) []call {
		fd := g.fd()
		return []call{{nr: unix.SYS_MEMFD_CREATE, arg: []any{"memfd", unix.MFD_CLOEXEC}, fd: fd}, {nr: unix.SYS_WRITE, arg: g.buffer(fd)}}
	}},
	{"close", 2, func(g *gen) []call { return []call{closing(g.fd())} }},
	{"read", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_READ, arg: []any{atFD(g.fd()), make([]byte, 64), 64}}}
	}},
	{"write", 2, func(g *gen) []call { return []call{{nr: unix.SYS_WRITE, arg: g.buffer(g.fd())}} }},
	{"pwrite", 3, func(g *gen) []call { return []call{{nr: unix.SYS_PWRITE64, arg: append(g.buffer(g.fd()), g.offset())}} }},
	{"write by io_uring", 2, func(g *gen) []call {
		const opWrite = 23
		b := g.content()
		return []call{{nr: callRing, arg: []any{flags{opWrite, "WRITE"}, atFD(g.fd()), b, len(b), g.offset(), 0}}}
	}},
	{"ftruncate", 1, func(g *gen) []call { return []call{{nr: unix.SYS_FTRUNCATE, arg: []any{atFD(g.fd()), g.offset()}}} }},
	{"fallocate", 1, func(g *gen) []call {
		mode := g.flag("0", 0, "PUNCH_HOLE", unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, "ZERO_RANGE", unix.FALLOC_FL_ZERO_RANGE,
			"COLLAPSE_RANGE", unix.FALLOC_FL_COLLAPSE_RANGE, "INSERT_RANGE", unix.FALLOC_FL_INSERT_RANGE)
		return []call{{nr: unix.SYS_FALLOCATE, arg: []any{atFD(g.fd()), mode, g.offset(), g.pickInt(64, page)}}}
	}},
	{"copy_file_range", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_COPY_FILE_RANGE, arg: []any{atFD(g.from()), number(0), atFD(g.fd()), number(g.offset()), 256, 0}}}
	}},
	{"sendfile", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_SENDFILE, arg: []any{atFD(g.fd()), atFD(g.from()), number(0), 256}}}
	}},
	{"splice", 1, func(g *gen) []call {
		return []call{
			{nr: unix.SYS_SPLICE, arg: []any{atFD(g.from()), number(0), atFD(pipeIn), 0, 256, nonBlock}},
			{nr: unix.SYS_SPLICE, arg: []any{atFD(pipeOut), 0, atFD(g.fd()), number(g.offset()), 256, nonBlock}},
		}
	}},
	{"splice to the pipe", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_SPLICE, arg: []any{atFD(g.from()), number(0), atFD(pipeIn), 0, 256, nonBlock}}}
	}},
	{"write to the pipe", 1, func(g *gen) []call { return []call{{nr: unix.SYS_WRITE, arg: g.buffer(pipeIn)}} }},
	{"vmsplice", 1, func(g *gen) []call {
		iovec := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(g.address())), 256)
		return []call{{nr: unix.SYS_VMSPLICE, arg: []any{atFD(g.pickInt(pipeIn, pipeOut)), iovec, 1, g.flag("NONBLOCK", 2, "NONBLOCK|GIFT", 10)}}}
	}},
}, { // Memory.
	{"map", 4, func(g *gen) []call { return []call{g.mmap(g.fd())} }},
	{"map a file", 6, func(g *gen) []call {
		return []call{g.open(g.any(), g.pickInt(unix.O_RDONLY, unix.O_RDONLY, unix.O_RDWR), tmp), g.mmap(tmp), closing(tmp)}
	}},
	{"map memory", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_MMAP, arg: []any{g.address(), room, prot(g.r.IntN(8)), mapFlags(unix.MAP_FIXED | unix.MAP_ANON | g.pickInt(unix.MAP_PRIVATE, unix.MAP_SHARED)), -1, 0}}}
	}},
	{"mprotect", 3, func(g *gen) []call {
		return []call{{nr: unix.SYS_MPROTECT, arg: []any{g.address(), g.pickInt(page, room), prot(g.r.IntN(8))}}}
	}},
	{"munmap", 2, func(g *gen) []call { return []call{{nr: unix.SYS_MUNMAP, arg: []any{g.address(), room}}} }},
	{"mremap", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_MREMAP, arg: []any{g.address(), room, room, flags{unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED, "MAYMOVE|FIXED"}, g.address()}}}
	}},
	{"remap_file_pages", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_REMAP_FILE_PAGES, arg: []any{g.address(), page, 0, g.r.IntN(2), 0}}}
	}},
	{"madvise", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_MADVISE, arg: []any{g.address(), room, g.flag("DONTNEED", unix.MADV_DONTNEED, "REMOVE", unix.MADV_REMOVE,
			"POPULATE_READ", unix.MADV_POPULATE_READ, "POPULATE_WRITE", unix.MADV_POPULATE_WRITE, "COLLAPSE", 25, "PAGEOUT", unix.MADV_PAGEOUT)}}}
	}},
	{"write to memory", 4, func(g *gen) []call {
		return []call{{nr: unix.SYS_PREAD64, arg: []any{atFD(source), g.address() + g.offset(), g.pickInt(16, 256, page), g.pickInt(0, entry)}}}
	}},
	{"write to memory by /proc/self/mem", 1, func(g *gen) []call {
		b := g.content()
		return []call{g.open("/proc/self/mem", unix.O_RDWR, tmp), {nr: unix.SYS_PWRITE64, arg: []any{atFD(tmp), b, len(b), g.address()}}, closing(tmp)}
	}},
	{"have memory executable by itself", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_PERSONALITY, arg: []any{g.flag("READ_IMPLIES_EXEC", 0x400000, "0", 0)}}}
	}},
	{"grow the heap", 1, func(g *gen) []call { return []call{{nr: callGrow, arg: []any{page}}} }},
	{"hold pages by io_uring", 2, func(g *gen) []call { return []call{{nr: callPin, arg: []any{g.address(), page}}} }},
	{"hold pages of a file by io_uring", 3, func(g *gen) []call {
		to := g.address()
		return []call{
			g.open(g.own(), unix.O_RDWR, tmp),
			{nr: unix.SYS_MMAP, arg: []any{to, page, prot(unix.PROT_READ | unix.PROT_WRITE), mapFlags(unix.MAP_FIXED | unix.MAP_SHARED), atFD(tmp), 0}},
			{nr: callPin, arg: []any{to, page}},
			{nr: unix.SYS_MUNMAP, arg: []any{to, page}},
			closing(tmp),
		}
	}},
	{"read into held pages", 3, func(g *gen) []call {
		const opReadFixed = 4
		return []call{{nr: callRing, arg: []any{flags{opReadFixed, "READ_FIXED"}, atFD(source), g.address(), g.pickInt(256, page), 0, 0}}}
	}},
	{"read into memory by io_uring", 1, func(g *gen) []call {
		const opRead = 22
		return []call{{nr: callRing, arg: []any{flags{opRead, "READ"}, atFD(source), g.address() + g.offset(), 256, 0, 0}}}
	}},
}, { // Names and attributes.
	{"rename", 2, func(g *gen) []call {
		return []call{{nr: unix.SYS_RENAMEAT2, arg: []any{cwd, g.any(), cwd, g.any(), g.flag("0", 0, "EXCHANGE", unix.RENAME_EXCHANGE, "NOREPLACE", unix.RENAME_NOREPLACE, "WHITEOUT", unix.RENAME_WHITEOUT)}}}
	}},
	{"link", 2, func(g *gen) []call { return []call{{nr: unix.SYS_LINKAT, arg: []any{cwd, g.any(), cwd, g.any(), 0}}} }},
	{"link an open file", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_LINKAT, arg: []any{atFD(g.fd()), "", cwd, g.any(), flags{unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"}}}}
	}},
	{"symlink", 1, func(g *gen) []call { return []call{{nr: unix.SYS_SYMLINKAT, arg: []any{g.any(), cwd, g.any()}}} }},
	{"unlink", 2, func(g *gen) []call { return []call{{nr: unix.SYS_UNLINKAT, arg: []any{cwd, g.any(), 0}}} }},
	{"rename a directory", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_RENAMEAT2, arg: []any{cwd, g.pick("/lib", "/opt", "/home/d"), cwd, g.pick("/lib", "/opt", "/home/d"), g.flag("0", 0, "EXCHANGE", unix.RENAME_EXCHANGE)}}}
	}},
	{"mkdir", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_MKDIRAT, arg: []any{cwd, g.pick("/home/d", "/opt", "/data/d"), 0o755}}}
	}},
	{"chmod", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_FCHMODAT, arg: []any{cwd, g.any(), g.flag("0644", 0o644, "0755", 0o755, "0777", 0o777, "04755", 0o4755)}}}
	}},
	{"fchmod", 1, func(g *gen) []call { return []call{{nr: unix.SYS_FCHMOD, arg: []any{atFD(g.fd()), 0o777}}} }},
	{"chown", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_FCHOWNAT, arg: []any{cwd, g.any(), g.pickInt(0, 1000), 0, 0}}}
	}},
	{"utimes", 1, func(g *gen) []call { return []call{{nr: unix.SYS_UTIMENSAT, arg: []any{cwd, g.any(), 0, 0}}} }},
	{"setxattr", 1, func(g *gen) []call {
		name := g.pick("user.x", "security.bpf.bless", "security.capability", "trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.x")
		value := make([]byte, 20)
		value[3] = 2 // struct vfs_cap_data of no capability
		return []call{{nr: unix.SYS_SETXATTR, arg: []any{g.any(), name, value, len(value), 0}}}
	}},
	{"removexattr", 1, func(g *gen) []call { return []call{{nr: unix.SYS_REMOVEXATTR, arg: []any{g.any(), "user.x"}}} }},
	{"set inode flags", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_IOCTL, arg: []any{atFD(g.fd()), flags{unix.FS_IOC_SETFLAGS, "FS_IOC_SETFLAGS"}, number(g.pickInt(0, 0x80 /* noatime */, 0x10 /* immutable */))}}}
	}},
}, { // Mounts.
	{"bind", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_MOUNT, arg: []any{g.pick("/bin", "/lib", "/data", "/home", "/data/upper"), "/mnt/1", 0, flags{unix.MS_BIND, "MS_BIND"}, 0}}}
	}},
	{"bind over a file", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_MOUNT, arg: []any{g.any(), g.any(), 0, flags{unix.MS_BIND, "MS_BIND"}, 0}}}
	}},
	{"tmpfs", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_MOUNT, arg: []any{"tmpfs", "/mnt/2", "tmpfs", 0, 0}}}
	}},
	{"overlay", 3, func(g *gen) []call {
		lower, upper := g.pick("/bin", "/lib", "/mnt/2", "/mnt/1"), g.pick("/data", "/data", "/home", "/mnt/2")
		return []call{{nr: unix.SYS_MOUNT, arg: []any{"overlay", "/mnt/overlay", "overlay", 0,
			fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, upper, upper)}}}
	}},
	{"umount", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_UMOUNT2, arg: []any{g.pick("/mnt/1", "/mnt/2", "/mnt/overlay"), flags{unix.MNT_DETACH, "MNT_DETACH"}}}}
	}},
	{"clone a mount", 1, func(g *gen) []call {
		return []call{
			{nr: unix.SYS_OPEN_TREE, arg: []any{cwd, g.pick("/bin", "/data", "/mnt/overlay"), flags{unix.OPEN_TREE_CLONE, "OPEN_TREE_CLONE"}}, fd: tmp},
			{nr: unix.SYS_MOVE_MOUNT, arg: []any{atFD(tmp), "", cwd, "/mnt/1", flags{unix.MOVE_MOUNT_F_EMPTY_PATH, "EMPTY_PATH"}}},
			closing(tmp),
		}
	}},
}, { // Programs.
	{"run an open file", 2, func(g *gen) []call {
		return []call{{nr: callRun, arg: []any{atFD(g.fd()), "", flags{unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"}, g.how()}}}
	}},
	{"ask whether it may run", 1, func(g *gen) []call {
		const check = 0x10000 // AT_EXECVE_CHECK, include/uapi/linux/fcntl.h of 6.14
		return []call{{nr: callRun, arg: []any{cwd, g.any(), flags{check, "AT_EXECVE_CHECK"}, flags{0, "fork"}}}}
	}},
	{"jump into memory", 2, func(g *gen) []call { return []call{{nr: callJump, arg: []any{g.address() + entry}}} }},
}, { // Tasks.
	{"spawn", 2, func(g *gen) []call {
		thread := unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD
		return []call{{nr: callSpawn, arg: []any{g.spawn(), g.flag(
			"fork", int(unix.SIGCHLD), "thread", thread, "CLONE_VM|CLONE_FILES", unix.CLONE_VM|unix.CLONE_FILES|int(unix.SIGCHLD),
			"CLONE_NEWNS", unix.CLONE_NEWNS|int(unix.SIGCHLD), "CLONE_NEWUSER|CLONE_NEWNS", unix.CLONE_NEWUSER|unix.CLONE_NEWNS|int(unix.SIGCHLD))}}}
	}},
	{"unshare", 1, func(g *gen) []call {
		return []call{{nr: unix.SYS_UNSHARE, arg: []any{g.flag("CLONE_NEWNS", unix.CLONE_NEWNS, "CLONE_FILES", unix.CLONE_FILES, "CLONE_NEWUSER|CLONE_NEWNS", unix.CLONE_NEWUSER|unix.CLONE_NEWNS)}}}
	}},
	{"become another user", 1, func(g *gen) []call { return []call{{nr: unix.SYS_SETRESUID, arg: []any{1000, 1000, 1000}}} }},
	{"leave the cgroup", 1, func(g *gen) []call {
		return []call{g.open("/sys/fs/cgroup/cgroup.procs", unix.O_WRONLY, tmp), {nr: unix.SYS_WRITE, arg: []any{atFD(tmp), "0", 1}}, closing(tmp)}
	}},
}}

// harmless are steps of which no call may get EPERM from us, whatever happened before.
var harmless = []kind{
	{"write a file of one's own", 1, func(g *gen) []call {
		g.named++
		name := fmt.Sprint("/home/own", g.named)
		b := bytes.Repeat([]byte{byte(g.named)}, 100)
		return []call{
			g.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, tmp),
			{nr: unix.SYS_WRITE, arg: []any{atFD(tmp), b, len(b)}},
			{nr: unix.SYS_FTRUNCATE, arg: []any{atFD(tmp), 50}},
			{nr: unix.SYS_FCHMOD, arg: []any{atFD(tmp), 0o600}},
			{nr: unix.SYS_RENAMEAT2, arg: []any{cwd, name, cwd, name + "-renamed", 0}},
			g.open(name+"-renamed", unix.O_WRONLY|unix.O_TRUNC, tmp+1),
			closing(tmp + 1),
			{nr: unix.SYS_UNLINKAT, arg: []any{cwd, name + "-renamed", 0}},
			closing(tmp),
		}
	}},
	{"read a file of the image", 1, func(g *gen) []call {
		return []call{g.open(control, unix.O_RDONLY, tmp), {nr: unix.SYS_READ, arg: []any{atFD(tmp), make([]byte, 64), 64}}, closing(tmp)}
	}},
	{"map a library of the image", 1, func(g *gen) []call {
		return []call{
			g.open(control, unix.O_RDONLY, tmp),
			{nr: unix.SYS_MMAP, arg: []any{g.address(), page, prot(unix.PROT_READ | unix.PROT_EXEC), mapFlags(unix.MAP_FIXED | unix.MAP_PRIVATE), atFD(tmp), 0}},
			closing(tmp),
		}
	}},
	{"run the control", 1, func(g *gen) []call { return []call{runControl} }},
}

var runControl = call{nr: callRun, arg: []any{cwd, control, 0, flags{runVfork, "vfork"}}}

func closing(fd int) call { return call{nr: unix.SYS_CLOSE, arg: []any{atFD(fd)}} }

// number is the address of one.
func number(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

// names gives the value the names of its bits.
func names(value int, zero string, bits ...any) flags {
	var out []string
	left := value
	for i := 0; i < len(bits); i += 2 {
		if bit := bits[i+1].(int); left&bit == bit {
			out = append(out, bits[i].(string))
			left &^= bit
		}
	}
	if left != 0 || len(out) == 0 && zero == "" {
		out = append(out, fmt.Sprintf("%#x", left))
	}
	if len(out) == 0 {
		out = append(out, zero)
	}
	return flags{value, strings.Join(out, "|")}
}

func openFlags(value int) flags {
	access := []string{"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"}[value&unix.O_ACCMODE]
	more := names(value&^unix.O_ACCMODE, access, "O_TMPFILE", unix.O_TMPFILE, "O_CREAT", unix.O_CREAT, "O_EXCL", unix.O_EXCL,
		"O_TRUNC", unix.O_TRUNC, "O_APPEND", unix.O_APPEND, "O_DIRECT", unix.O_DIRECT, "O_DIRECTORY", unix.O_DIRECTORY,
		"O_NOFOLLOW", unix.O_NOFOLLOW, "O_PATH", unix.O_PATH)
	if more.name != access {
		more.name = access + "|" + more.name
	}
	return flags{value, more.name}
}

func prot(value int) flags {
	return names(value, "PROT_NONE", "PROT_READ", 1, "PROT_WRITE", 2, "PROT_EXEC", 4)
}

func mapFlags(value int) flags {
	return names(value, "0", "MAP_SHARED", 1, "MAP_PRIVATE", 2, "MAP_FIXED", unix.MAP_FIXED, "MAP_ANONYMOUS", unix.MAP_ANON)
}

// callNames are the names of the calls above.
var callNames = map[uint32]string{
	callSpawn: "spawn", callRun: "run", callJump: "jump", callRing: "io_uring", callPin: "io_uring_register_buffers", callGrow: "brk", unix.SYS_PERSONALITY: "personality",
	unix.SYS_TRUNCATE: "truncate", unix.SYS_OPENAT: "openat", unix.SYS_CLOSE: "close", unix.SYS_READ: "read", unix.SYS_WRITE: "write",
	unix.SYS_PREAD64: "pread", unix.SYS_PWRITE64: "pwrite", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate",
	unix.SYS_COPY_FILE_RANGE: "copy_file_range", unix.SYS_SENDFILE: "sendfile", unix.SYS_SPLICE: "splice", unix.SYS_VMSPLICE: "vmsplice",
	unix.SYS_NAME_TO_HANDLE_AT: "name_to_handle_at", unix.SYS_OPEN_BY_HANDLE_AT: "open_by_handle_at", unix.SYS_MEMFD_CREATE: "memfd_create",
	unix.SYS_MMAP: "mmap", unix.SYS_MPROTECT: "mprotect", unix.SYS_MUNMAP: "munmap", unix.SYS_MREMAP: "mremap", unix.SYS_MADVISE: "madvise",
	unix.SYS_REMAP_FILE_PAGES: "remap_file_pages", unix.SYS_RENAMEAT2: "renameat2", unix.SYS_LINKAT: "linkat", unix.SYS_SYMLINKAT: "symlinkat",
	unix.SYS_UNLINKAT: "unlinkat", unix.SYS_MKDIRAT: "mkdirat", unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FCHMOD: "fchmod",
	unix.SYS_FCHOWNAT: "fchownat", unix.SYS_UTIMENSAT: "utimensat", unix.SYS_SETXATTR: "setxattr", unix.SYS_REMOVEXATTR: "removexattr",
	unix.SYS_IOCTL: "ioctl", unix.SYS_MOUNT: "mount", unix.SYS_UMOUNT2: "umount2", unix.SYS_OPEN_TREE: "open_tree",
	unix.SYS_MOVE_MOUNT: "move_mount", unix.SYS_UNSHARE: "unshare", unix.SYS_SETRESUID: "setresuid",
}
