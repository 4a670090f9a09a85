// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"os"

	"golang.org/x/sys/unix"
)

// auditedAttacks come from a container that is only audited, whose tasks reach
// the root filesystem of one that is enforced.
var auditedAttacks = []*attack{
	{name: "audited container executes a dropped file on an enforced one's root", op: "exec", reason: "writable-layer", audited: true,
		try: func() error { return execute(drop("/data/home/x")) }},
	{name: "audited container executes an unlisted file on an enforced one's root", op: "exec", reason: "not-listed", audited: true,
		try: func() error { return execute("/data/opt/unlisted") }},
	{name: "audited container enters an enforced one's root and executes a dropped file", op: "exec", reason: "writable-layer", audited: true,
		try: func() error {
			drop("/data/home/x")
			must(unix.Mount("/dev", "/data/dev", "", unix.MS_BIND, ""))
			return apart(func() error {
				must(unix.Unshare(unix.CLONE_FS))
				must(unix.Chroot("/data"))
				must(unix.Chdir("/"))
				return execute("/home/x")
			})
		}},
	{name: "audited container loads a dropped library from an enforced one's root", op: "mmap", reason: "writable-layer", audited: true,
		try: func() error { return loaded("evil.so", "LD_PRELOAD="+changedCopy(libm, "/data/home/evil.so.1")) }},
	{name: "audited container writes to a listed file on an enforced one's root", op: "write", reason: "guarded", audited: true,
		try: func() error { return open("/data/bin/true", unix.O_WRONLY) }},
	{name: "audited container empties a listed file on an enforced one's root", op: "write", reason: "guarded", audited: true,
		try: func() error { return open("/data/bin/true", unix.O_RDONLY|unix.O_TRUNC) }},
	{name: "audited container unlinks a listed file on an enforced one's root", op: "unlink", reason: "guarded", audited: true,
		try: func() error { return os.Remove("/data/bin/fortytwo") }},
	{name: "audited container renames over a listed file on an enforced one's root", op: "rename", reason: "guarded", audited: true,
		try: func() error { return os.Rename(drop("/data/home/x"), "/data/bin/true") }},
	{name: "audited container changes the mode of a listed file on an enforced one's root", op: "setattr", reason: "guarded", audited: true,
		try: func() error { return unix.Chmod("/data/bin/true", 0o4755) }},
}
