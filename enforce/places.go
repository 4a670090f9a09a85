// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// places are what the programs keep from others: directories and files of the
// agent, the ways to them, and the mounts on those. The programs know them by
// inode; a file that is open here has a number that no other file gets.
type places struct {
	flags map[blessPlaceKey]blessPlaceFlags
	open  []*os.File
	devs  map[uint64]uint32 // s_dev by mount
}

const (
	container = blessPlaceFlagsPLACE_AGENT
	everybody = blessPlaceFlagsPLACE_STATE
	tree      = blessPlaceFlagsPLACE_TREE
	inSight   = blessPlaceFlagsPLACE_SEEN
)

// Guard has the programs keep these files and directories, besides those of [Options].Guard and in
// the place of those of the Guard before. Those that are not there are passed over until they are.
func (e *Enforcer) Guard(names ...string) error {
	e.placesMu.Lock()
	e.guard = names
	e.placesMu.Unlock()
	return e.guardPlaces()
}

// guardPlaces tells the programs which files are the agent's now.
func (e *Enforcer) guardPlaces() (err error) {
	if e.options.Pins == "" {
		return nil
	}
	e.placesMu.Lock()
	defer e.placesMu.Unlock()
	p := &places{flags: map[blessPlaceKey]blessPlaceFlags{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("the agent's files: %w", err), p.Close())
		}
	}()
	if p.devs, err = mountDevs(); err != nil {
		return err
	}
	o := e.options
	o.Guard = slices.Concat(o.Guard, e.guard)
	if err := p.addAll(o); err != nil {
		return err
	}
	m := e.maps["places"]
	for key, flags := range p.flags {
		if err := m.Put(key, flags); err != nil {
			return err
		}
	}
	var gone []blessPlaceKey
	var key blessPlaceKey
	var flags uint32
	it := m.Iterate()
	for it.Next(&key, &flags) {
		if _, ok := p.flags[key]; !ok {
			gone = append(gone, key)
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	for _, key := range gone {
		if err := e.unset("places", key); err != nil {
			return err
		}
	}
	p, e.places = e.places, p
	return p.Close()
}

func (p *places) addAll(o Options) error {
	if err := p.add(o.Pins, everybody|tree|inSight|blessPlaceFlagsPLACE_PINS); err != nil {
		return err
	}
	if err := p.add(o.State, everybody|tree|inSight); err != nil {
		return err
	}
	for _, name := range o.Guard {
		st, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		flags := container
		// What is directly below the root, such as /etc, has things of others, too.
		if st.IsDir() && filepath.Dir(filepath.Clean(name)) != "/" {
			flags |= tree
		}
		if err := p.add(name, flags); err != nil {
			return err
		}
	}
	if err := p.addFile("/proc/self/exe", container); err != nil {
		return err
	}
	// An executable that was replaced has no name any more.
	if name, err := os.Readlink("/proc/self/exe"); err == nil && !strings.HasSuffix(name, " (deleted)") {
		if err := p.add(name, container); err != nil {
			return err
		}
	}
	return p.addCgroups()
}

// addCgroups has no container freeze or kill the agent by a cgroup that it is in.
func (p *places) addCgroups() error {
	dir, err := CgroupOf(os.Getpid())
	if err != nil {
		return err
	}
	for ; strings.HasPrefix(dir, cgroupRoot+"/"); dir = filepath.Dir(dir) { // the root cannot be frozen
		err := p.addFile(dir, container)
		if errors.Is(err, fs.ErrNotExist) { // out of sight: what hides it hides it from a container, too
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add has the programs keep a file or directory, and the way to it.
func (p *places) add(name string, flags blessPlaceFlags) error {
	name, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	if name, err = filepath.EvalSymlinks(name); err != nil {
		return err
	}
	seen := flags & inSight
	if err := p.addFile(name, flags); err != nil {
		return err
	}
	mount, err := mountID(name)
	if err != nil {
		return err
	}
	for name != "/" {
		if seen != 0 {
			p.flags[blessPlaceKey{Kind: uint32(blessPlaceKindPLACE_MOUNTED), Id: mount}] |= seen
		}
		parent := filepath.Dir(name)
		if err := p.addFile(parent, blessPlaceFlagsPLACE_WAY|seen); err != nil {
			return err
		}
		above, err := mountID(parent)
		if err != nil {
			return err
		}
		if seen != 0 && above != mount {
			if err := p.addCovered(parent, filepath.Base(name), above); err != nil {
				return err
			}
		}
		name, mount = parent, above
	}
	if seen != 0 {
		p.flags[blessPlaceKey{Kind: uint32(blessPlaceKindPLACE_MOUNTED), Id: mount}] |= seen
	}
	return nil
}

// addFile has the programs know one inode.
func (p *places) addFile(name string, flags blessPlaceFlags) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	p.open = append(p.open, os.NewFile(uintptr(fd), name))
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil {
		return &fs.PathError{Op: "statx", Path: name, Err: err}
	}
	dev, ok := p.devs[st.Mnt_id]
	if !ok {
		dev = st.Dev_major<<20 | st.Dev_minor
	}
	p.inode(dev, st.Ino, flags)
	return nil
}

// addCovered has them know the directory on which the mount in parent lies.
func (p *places) addCovered(parent, name string, mount uint64) error {
	// A copy of the parent's mount alone has nothing on it.
	fd, err := unix.OpenTree(unix.AT_FDCWD, parent, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("%s: open_tree: %w", parent, err)
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO, &st); err != nil {
		return fmt.Errorf("%s below its mount: statx: %w", filepath.Join(parent, name), err)
	}
	dev, ok := p.devs[mount]
	if !ok {
		dev = st.Dev_major<<20 | st.Dev_minor
	}
	p.inode(dev, st.Ino, blessPlaceFlagsPLACE_COVERED)
	return nil
}

func (p *places) inode(dev uint32, inode uint64, flags blessPlaceFlags) {
	p.flags[blessPlaceKey{Dev: dev, Kind: uint32(blessPlaceKindPLACE_INODE), Id: inode}] |= flags
	p.flags[blessPlaceKey{Dev: dev, Kind: uint32(blessPlaceKindPLACE_FILESYSTEM)}] |= flags
}

// Close lets go of the files; the programs keep what they know.
func (p *places) Close() error {
	if p == nil {
		return nil
	}
	var errs []error
	for _, f := range p.open {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// mountDevs gives s_dev of each mount that this process sees; see superDev.
func mountDevs() (map[uint64]uint32, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	devs := map[uint64]uint32{}
	for line := range strings.Lines(string(b)) { // "36 35 98:0 /mnt1 /mnt2 …", proc(5)
		var id uint64
		var parent, major, minor uint32
		if _, err := fmt.Sscanf(line, "%d %d %d:%d", &id, &parent, &major, &minor); err == nil {
			devs[id] = major<<20 | minor
		}
	}
	return devs, nil
}

func mountID(name string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_MNT_ID, &st); err != nil {
		return 0, &fs.PathError{Op: "statx", Path: name, Err: err}
	}
	return st.Mnt_id, nil
}

// ---- The pins, out of sight and back ----

// Kept are descriptors that keep a pinned verifier in force when its pins are
// out of sight: whoever holds them, such as systemd between two agents. They
// give no power over it.
type Kept struct {
	// BPFFS is a copy of the mount that the pins are on; nil if there is none.
	BPFFS *os.File
	// Links attach the programs.
	Links []*os.File
}

// Close closes the descriptors.
func (k Kept) Close() error {
	var errs []error
	if k.BPFFS != nil {
		errs = append(errs, k.BPFFS.Close())
	}
	for _, f := range k.Links {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Keep gives copies of the descriptors that keep this verifier in force.
func (e *Enforcer) Keep() (k Kept, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	if e.bpffs == nil {
		return k, nil
	}
	if k.BPFFS, err = duplicate(int(e.bpffs.Fd()), "bpffs"); err != nil {
		return k, err
	}
	for _, l := range e.links {
		f, err := duplicate(l.(interface{ FD() int }).FD(), "link")
		if err != nil {
			return k, err
		}
		k.Links = append(k.Links, f)
	}
	return k, nil
}

func duplicate(fd int, name string) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Restore puts the pins back in sight, if they went: by umount of what they are
// on, or a mount over it. It tells whether it had to. The programs learn which files
// of the agent are new.
func (e *Enforcer) Restore() (bool, error) {
	if e.bpffs == nil {
		return false, nil
	}
	if e.inSight() {
		return false, e.guardPlaces()
	}
	where, ok := mountPoint(e.bpffs, e.options.Pins)
	if !ok {
		return false, fmt.Errorf("%s: the pins are gone: what this process holds is in force until it ends\nhint: restart `sbom-bless enforce run` to pin the verifier again", e.options.Pins)
	}
	if err := attach(e.bpffs, where); err != nil {
		return false, err
	}
	return true, errors.Join(e.holdPins(), e.guardPlaces())
}

// inSight tells whether the pins are where they are looked for.
func (e *Enforcer) inSight() bool {
	var here, kept unix.Stat_t
	where, ok := mountPoint(e.bpffs, e.options.Pins)
	return ok && unix.Stat(e.options.Pins, &here) == nil &&
		unix.Stat(below(e.bpffs, where, e.options.Pins), &kept) == nil && here.Dev == kept.Dev && here.Ino == kept.Ino
}

// mountPoint finds where the kept bpffs was mounted, that has pins in it.
func mountPoint(bpffs *os.File, pins string) (string, bool) {
	for dir := filepath.Dir(pins); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(below(bpffs, dir, pins), "maps", "agents")); err == nil {
			return dir, true
		}
		if dir == "/" || dir == "." {
			return "", false
		}
	}
}

// below names pins in the kept bpffs that was mounted at dir.
func below(bpffs *os.File, dir, pins string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", bpffs.Fd(), strings.TrimPrefix(pins, dir))
}

// attach mounts what is mounted nowhere.
func attach(mount *os.File, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("%s: move_mount: %w", dir, err)
	}
	return nil
}

// holdPins opens a copy of the mount that the pins are on.
func (e *Enforcer) holdPins() error {
	pins, err := filepath.EvalSymlinks(e.options.Pins)
	if err != nil {
		return err
	}
	mount, err := mountID(pins)
	if err != nil {
		return err
	}
	root := pins
	for root != "/" {
		if above, err := mountID(filepath.Dir(root)); err != nil {
			return err
		} else if above != mount {
			break
		}
		root = filepath.Dir(root)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, root, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("%s: open_tree: %w", root, err)
	}
	old := e.bpffs
	e.bpffs = os.NewFile(uintptr(fd), root)
	if old != nil {
		return old.Close()
	}
	return nil
}

// takeUp brings the pins back that an agent before this one left in the kept bpffs, if
// they are out of sight.
func (e *Enforcer) takeUp(kept *os.File) (bool, error) {
	pins := e.options.Pins
	where, ok := mountPoint(kept, pins)
	if !ok {
		return false, nil
	}
	if _, err := os.Stat(filepath.Join(pins, "maps", "agents")); err == nil { // these, or those of a verifier loaded since
		return false, nil
	}
	err := attach(kept, where)
	if errors.Is(err, fs.ErrPermission) { // another version was the agent
		there := below(kept, where, pins)
		before, err := takeOver(there)
		if err != nil {
			return true, err
		}
		if err := attach(kept, where); err != nil {
			return true, errors.Join(err, giveBack(there, before))
		}
		return true, nil
	}
	return true, err
}

// Released tells whether the verifier was unloaded since, by another process.
func (e *Enforcer) Released() (bool, error) {
	var a blessAgent
	err := e.maps["agents"].Lookup(uint32(0), &a)
	return a.Armed == uint32(blessArmedRELEASED), err
}

// hostMounts gives the mount namespace of the host's first process.
func hostMounts() (uint32, error) {
	link, err := os.Readlink("/proc/1/ns/mnt")
	if err != nil {
		return 0, err
	}
	var inum uint32
	if _, err := fmt.Fscanf(bytes.NewReader([]byte(link)), "mnt:[%d]", &inum); err != nil {
		return 0, fmt.Errorf("/proc/1/ns/mnt: %s: %w", link, err)
	}
	return inum, nil
}
