// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"os"

	"github.com/sbom-bless/sbom-bless/enforce"
	"golang.org/x/sys/unix"
)

// linkAttacks change which file a name leads to: symbolic links and directories of the image.
var linkAttacks = []*attack{
	{name: "symbolic link in /bin unlinked, and another put there", op: "unlink", reason: "guarded",
		try: func() error {
			if err := os.Remove("/bin/sh"); err != nil {
				return err
			}
			return os.Symlink("/bin/fortytwo", "/bin/sh")
		}},
	{name: "symbolic link in /bin renamed", op: "rename", reason: "guarded",
		try: func() error { return os.Rename("/bin/python3", "/bin/python2") }},
	{name: "symbolic link in /bin renamed over by a file", op: "rename", reason: "guarded",
		try: func() error { return os.Rename(drop("/home/x"), "/bin/python3") }},
	{name: "symbolic link in /bin renamed over by a link", op: "rename", reason: "guarded",
		try: func() error {
			must(os.Symlink("/tmp/x", "/home/link"))
			return os.Rename("/home/link", "/bin/sh")
		}},
	{name: "symbolic link in /bin exchanged with a link", op: "rename", reason: "guarded",
		try: func() error {
			must(os.Symlink("/tmp/x", "/home/link"))
			return unix.Renameat2(unix.AT_FDCWD, "/home/link", unix.AT_FDCWD, "/bin/sh", unix.RENAME_EXCHANGE)
		}},
	{name: "symbolic link to a library replaced", op: "rename", reason: "guarded",
		try: func() error {
			must(os.Symlink("/tmp/x.so", "/home/link"))
			return os.Rename("/home/link", linkedLibrary)
		}},
	{name: "symbolic link outside of /bin to a program replaced", op: "rename", reason: "guarded",
		try: func() error {
			must(os.Symlink("/tmp/x", "/home/link"))
			return os.Rename("/home/link", "/opt/tool")
		}},
	{name: "symbolic link outside of /bin to a program unlinked", op: "unlink", reason: "guarded",
		try: func() error { return os.Remove("/opt/tool") }},
	{name: "io_uring unlinks a symbolic link in /bin", op: "unlink", reason: "guarded",
		try: func() error { return pathsByRing(opUnlinkat, "/bin/sh", "") }},
	{name: "hard link to a symbolic link in /bin, which is then unlinked", op: "link", reason: "guarded",
		try: func() error {
			if err := os.Link("/bin/sh", "/home/sh"); err != nil { // linkat(2) does not follow it
				return err
			}
			return os.Remove("/bin/sh")
		}},
	{name: "owner of a symbolic link in /bin changed, and the link unlinked", op: "setattr", reason: "guarded",
		try: func() error {
			if err := os.Lchown("/bin/sh", 1, 1); err != nil {
				return err
			}
			return os.Remove("/bin/sh")
		}},
	{name: "times of a symbolic link in /bin set, and the link unlinked", op: "setattr", reason: "guarded",
		try: func() error {
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, "/bin/sh", make([]unix.Timespec, 2), unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
			return os.Remove("/bin/sh")
		}},
	{name: "attribute of a symbolic link in /bin set, and the link unlinked", op: "xattr", reason: "guarded",
		try: func() error {
			if err := unix.Lsetxattr("/bin/sh", "trusted.x", []byte("x"), 0); err != nil {
				return err
			}
			return os.Remove("/bin/sh")
		}},
	{name: "symbolic link that is no code unlinked (guard-all)", op: "unlink", reason: "guarded", ours: true,
		rules: func(r *enforce.Rules) { r.GuardAll = true },
		try:   func() error { return os.Remove("/etc/localtime") }},
	{name: "symbolic link that is no code renamed over (guard-all)", op: "rename", reason: "guarded", ours: true,
		rules: func(r *enforce.Rules) { r.GuardAll = true },
		try:   func() error { return os.Rename(drop("/home/x"), "/etc/localtime") }},

	// Where overlayfs renames directories of the image, another can take their place.
	{name: "directory with code renamed (redirect_dir)", op: "rename", reason: "guarded", errno: unix.EXDEV,
		layout: layout{overlay: "redirect_dir=on"},
		try:    func() error { return os.Rename("/opt/code", "/opt/old") }},
	{name: "directory of programs renamed, and another put there (metacopy)", op: "rename", reason: "guarded", errno: unix.EXDEV,
		layout: layout{overlay: "redirect_dir=on,metacopy=on"},
		try: func() error {
			if err := os.Rename("/opt", "/old"); err != nil {
				return err
			}
			return os.Mkdir("/opt", 0o755)
		}},
	{name: "directory of libraries renamed (redirect_dir)", op: "rename", reason: "guarded", errno: unix.EXDEV,
		layout: layout{overlay: "redirect_dir=on"},
		try:    func() error { return os.Rename("/usr/lib/x86_64-linux-gnu", "/usr/lib/old") }},
	{name: "directory with code exchanged with another (redirect_dir)", op: "rename", reason: "guarded", errno: unix.EXDEV,
		layout: layout{overlay: "redirect_dir=on"},
		try: func() error {
			must(os.Mkdir("/home/code", 0o755))
			return unix.Renameat2(unix.AT_FDCWD, "/home/code", unix.AT_FDCWD, "/opt/code", unix.RENAME_EXCHANGE)
		}},
	{name: "io_uring renames a directory with code (redirect_dir)", op: "rename", reason: "guarded", errno: unix.EXDEV,
		layout: layout{overlay: "redirect_dir=on"},
		try:    func() error { return pathsByRing(opRenameat, "/opt/code", "/opt/old") }},
}
