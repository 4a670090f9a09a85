// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sbom-bless/sbom-bless/internal/code"
)

// What the names of directories say to the guard of symbolic links (FHS 3.0, and what images
// add to it): where programs and libraries are, and what is meant to change.
var (
	codeDirectories = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec"}
	dataDirectories = []string{"etc", "var", "run", "srv", "tmp", "dev", "mnt", "media", "home", "root", "data"}
)

// fillNames tells the programs what names mean to the guard.
func (e *Enforcer) fillNames() error {
	for meaning, names := range map[blessNameMeaning][]string{
		blessNameMeaningNAME_SUFFIX: code.Suffixes(),
		blessNameMeaningNAME_CODE:   codeDirectories,
		blessNameMeaningNAME_DATA:   dataDirectories,
	} {
		for _, s := range names {
			var key blessNameKey
			for i := range s {
				key.Text[i] = int8(s[i])
			}
			if err := e.maps["names"].Put(key, uint8(meaning)); err != nil {
				return fmt.Errorf("names: %w", err)
			}
		}
	}
	return nil
}

// Add puts the container d under the set and gives its id; with trust keyring
// no file of the set counts, only its name. The tasks that are
// in its cgroup already are labelled; what they have mapped is not judged again.
// A set without files is no list at all: under it nothing is good.
func (e *Enforcer) Add(d Domain, set Set) (uint32, error) {
	if d.Trust.Signed() {
		if err := e.checkKeys(); err != nil {
			return 0, fmt.Errorf("trust %s: %w", d.Trust, err)
		}
	}
	d, err := e.add(d, set)
	return d.ID, err
}

// add is Add, and gives the domain as it is registered.
func (e *Enforcer) add(d Domain, set Set) (Domain, error) {
	if err := e.Prepare(d, set); err != nil {
		return d, err
	}
	unlock, err := e.lock()
	if err != nil {
		return d, err
	}
	defer unlock()
	if d.Cgroup == "" {
		return d, errNoCgroup
	}
	rules, mounts, err := d.kernel()
	if err != nil {
		return d, err
	}
	if d.Trust.Listed() {
		if d.SetID, d.List, err = e.addSet(set); err != nil {
			return d, fmt.Errorf("set %s: %w", set.Name, err)
		}
	}
	rules.use(d.SetID, set)
	d.Image, d.Added = set.Name, time.Now()
	if err := e.register(&d, rules, mounts); err != nil {
		return d, errors.Join(err, e.remove(d))
	}
	return d, nil
}

// register tells the kernel of a domain, and gives it its id.
func (e *Enforcer) register(d *Domain, rules blessDomain, mounts []uint32) error {
	for d.ID == 0 {
		id := rand.Uint32()
		err := e.maps["domains"].Update(id, rules, ebpf.UpdateNoExist)
		if err == nil && id != 0 {
			d.ID = id
		} else if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("domains: %w", err)
		}
	}
	for _, dev := range mounts {
		if err := e.maps["mounts"].Put(blessMountKey{Domain: d.ID, Dev: dev}, uint8(1)); err != nil {
			return fmt.Errorf("mounts: %w", err)
		}
	}
	if err := e.remember(*d); err != nil {
		return err
	}
	cgroup, err := cgroupID(d.Cgroup)
	if err != nil {
		return err
	}
	// By its number anybody's program is judged, so that must be the container's alone.
	const rootless = blessDomainFlagsDOMAIN_PLAIN | blessDomainFlagsDOMAIN_HOST_ROOT | blessDomainFlagsDOMAIN_CLOSED | blessDomainFlagsDOMAIN_EXEMPT
	if rules.Flags&uint32(rootless) == 0 {
		if err := e.maps["roots"].Put(rules.RootDev, d.ID); err != nil {
			return fmt.Errorf("roots: %w", err)
		}
	}
	if err := e.maps["cgroups"].Put(cgroup, d.ID); err != nil {
		return fmt.Errorf("cgroups: %w", err)
	}
	err = e.change(func(s *blessSettings) {
		s.Epoch++
		if d.Interpreters {
			s.Interpreters = 1
		}
	})
	if err != nil {
		return err
	}
	_, err = e.labelTasks()
	return err
}

// use names the set to the kernel.
func (r *blessDomain) use(id uint32, set Set) {
	r.Set = id
	if id != 0 && set.Sizes {
		r.Flags |= uint32(blessDomainFlagsDOMAIN_SIZES)
	}
}

// kernel gives the domain's rules in the kernel's terms, and the device
// numbers of its mounts.
func (d *Domain) kernel() (rules blessDomain, mounts []uint32, err error) {
	var root, host unix.Stat_t
	var rootFS unix.Statfs_t
	if err := stat("/proc/1/root", &host); err != nil {
		return rules, nil, err
	}
	hostDev, err := superDev("1", "/proc/1/root")
	if err != nil {
		return rules, nil, err
	}
	if d.Closed || d.Exempt {
		flag := blessDomainFlagsDOMAIN_EXEMPT
		if d.Closed {
			flag = blessDomainFlagsDOMAIN_CLOSED
		}
		if d.Enforce {
			flag |= blessDomainFlagsDOMAIN_ENFORCE
		}
		return blessDomain{Flags: uint32(flag), HostDev: hostDev, HostInode: host.Ino}, nil, nil
	}
	if err := stat(d.Root, &root); err != nil {
		return rules, nil, err
	}
	if err := unix.Statfs(d.Root, &rootFS); err != nil {
		return rules, nil, fmt.Errorf("%s: %w", d.Root, err)
	}
	redirects := false
	if rootFS.Type == unix.OVERLAYFS_SUPER_MAGIC {
		if redirects, err = redirectsDirs(d.Root); err != nil {
			return rules, nil, err
		}
	}
	var flags blessDomainFlags
	for flag, set := range map[blessDomainFlags]bool{
		blessDomainFlagsDOMAIN_ENFORCE:      d.Enforce,
		blessDomainFlagsDOMAIN_SOFT:         d.Soft,
		blessDomainFlagsDOMAIN_JIT:          d.JIT,
		blessDomainFlagsDOMAIN_INTERPRETERS: d.Interpreters,
		blessDomainFlagsDOMAIN_GUARD_ALL:    d.GuardAll,
		blessDomainFlagsDOMAIN_DEVICES:      d.Devices,
		blessDomainFlagsDOMAIN_LISTED:       d.Trust.Listed(),
		blessDomainFlagsDOMAIN_SIGNED:       d.Trust.Signed(),
		blessDomainFlagsDOMAIN_PLAIN:        d.Soft && rootFS.Type != unix.OVERLAYFS_SUPER_MAGIC,
		blessDomainFlagsDOMAIN_HOST_ROOT:    d.HostRoot || root.Dev == host.Dev,
		blessDomainFlagsDOMAIN_REDIRECT:     redirects,
	} {
		if set {
			flags |= flag
		}
	}
	if rootFS.Type != unix.OVERLAYFS_SUPER_MAGIC {
		if !d.Soft {
			return rules, nil, fmt.Errorf("root %s is not an overlay, so nothing shows which files came with the image: %w\nhint: rule \"soft\" trusts digests alone", d.Root, ErrUnfit)
		}
		if d.Interpreters {
			return rules, nil, fmt.Errorf("root %s is not an overlay, so rule \"interpreters\" cannot tell whose a file is: %w", d.Root, ErrUnfit)
		}
	}
	for _, m := range d.Mounts {
		dev, err := devIn(d.Root, m)
		if err != nil {
			return rules, nil, fmt.Errorf("mount %s: %w: %w", m, err, ErrUnfit)
		}
		mounts = append(mounts, kernelDev(dev))
	}
	return blessDomain{
		Flags:      uint32(flags),
		RootDev:    kernelDev(root.Dev),
		HostDev:    hostDev,
		HostInode:  host.Ino,
		Generation: rand.Uint32(),
		MaxSize:    d.MaxSize,
	}, mounts, nil
}

// ErrInUse says that a task has the label of a container still, wherever it went.
var ErrInUse = errors.New("a task of it lives")

// Remove forgets a container whose tasks are gone: ErrInUse if not, for without its
// container a task may execute nothing. Its set goes with the last container that
// shares it.
func (e *Enforcer) Remove(d Domain) error {
	alive, err := e.labelTasks()
	if err != nil {
		return err
	}
	if alive[d.ID] {
		return fmt.Errorf("%s: %w", d.Name, ErrInUse)
	}
	return e.removeNow(d)
}

func (e *Enforcer) removeNow(d Domain) error {
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return e.remove(d)
}

// remove is Remove of what there is, for who has the lock.
func (e *Enforcer) remove(d Domain) error {
	var errs []error
	drop := func(name string, match func(key, value any) bool, key, value any) {
		var found []any
		for it := e.maps[name].Iterate(); it.Next(key, value); {
			if match(key, value) {
				found = append(found, copyKey(key))
			}
		}
		for _, k := range found {
			errs = append(errs, e.unset(name, k))
		}
	}
	byID := func(_, value any) bool { return *value.(*uint32) == d.ID }
	drop("cgroups", byID, new(uint64), new(uint32))
	drop("roots", byID, new(uint32), new(uint32))
	drop("copies", byID, new(blessFileKey), new(uint32))
	drop("mounts", func(key, _ any) bool { return key.(*blessMountKey).Domain == d.ID }, new(blessMountKey), new(uint8))
	errs = append(errs, e.unset("domains", d.ID), e.forget(d))
	others, err := e.Domains()
	errs = append(errs, err, e.change(func(s *blessSettings) {
		s.Epoch++
		if err == nil && e.options.State != "" && !slices.ContainsFunc(others, func(o Domain) bool { return o.Interpreters }) {
			s.Interpreters = 0
		}
	}))
	if filepath.Dir(d.Cgroup) == ownCgroups {
		if err := os.Remove(d.Cgroup); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Sweep forgets the containers whose tasks are all gone: their cgroup is empty,
// or gone, and no task that left it has their label. One that was added less than a
// minute ago may be about to start. It also forgets the ids of programs and sets
// that are gone.
func (e *Enforcer) Sweep() error {
	if err := e.forgetObjects(); err != nil {
		return err
	}
	domains, err := e.Domains()
	if err != nil {
		return err
	}
	alive, err := e.labelTasks()
	if err != nil {
		return err
	}
	for _, d := range domains {
		if e.canary != nil && d.ID == e.canary.ID || time.Since(d.Added) < time.Minute || alive[d.ID] {
			continue
		}
		empty, err := d.Empty()
		if err == nil && empty {
			err = e.removeNow(d)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	return nil
}

// unset deletes an entry of a map, if it is there: the programs delete some, too.
func (e *Enforcer) unset(name string, key any) error {
	if err := e.maps[name].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func copyKey(key any) any {
	switch k := key.(type) {
	case *uint64:
		return *k
	case *uint32:
		return *k
	case *blessMountKey:
		return *k
	case *blessFileKey:
		return *k
	}
	panic("enforce: key of another type")
}

// Label labels the tasks that are in registered cgroups and have not executed anything there: CRIU
// restores tasks so.
func (e *Enforcer) Label() error {
	_, err := e.labelTasks()
	return err
}

// labelTasks labels the tasks that are in registered cgroups, and tells which
// domains have tasks. Twice: a task forked meanwhile by one that had no label
// yet is caught by the second pass.
func (e *Enforcer) labelTasks() (alive map[uint32]bool, err error) {
	alive = map[uint32]bool{}
	for range 2 {
		it, err := link.AttachIter(link.IterOptions{Program: e.label})
		if err != nil {
			return nil, fmt.Errorf("label tasks: %w", err)
		}
		var ids []byte
		r, err := it.Open()
		if err == nil {
			ids, err = io.ReadAll(r)
			err = errors.Join(err, r.Close())
		}
		if err := errors.Join(err, it.Close()); err != nil {
			return nil, fmt.Errorf("label tasks: %w", err)
		}
		for id := range slices.Chunk(ids, 4) {
			alive[binary.NativeEndian.Uint32(id)] = true
		}
	}
	return alive, nil
}

// addSet loads a set, unless the same list is loaded under its name, and gives its id and
// digest.
func (e *Enforcer) addSet(set Set) (id uint32, list string, err error) {
	if len(set.Files) == 0 {
		return 0, "", nil
	}
	list = set.digest()
	domains, err := e.Domains()
	if err != nil {
		return 0, "", err
	}
	for _, d := range domains {
		if d.Image == set.Name && d.List == list && d.SetID != 0 {
			return d.SetID, list, nil
		}
	}
	keys, values := set.kernel()
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: prefix + "set", Type: ebpf.Hash, KeySize: 32, ValueSize: 4, MaxEntries: uint32(len(keys)),
	})
	if err != nil {
		return 0, "", err
	}
	defer m.Close()
	if _, err := m.BatchUpdate(keys, values, nil); err != nil {
		return 0, "", err
	}
	if err := e.guardMap(m, blessObjectOBJECT_GUARDED); err != nil {
		return 0, "", err
	}
	for {
		id = rand.Uint32()
		err := e.maps["sets"].Update(id, m, ebpf.UpdateNoExist)
		if errors.Is(err, ebpf.ErrKeyExist) || err == nil && id == 0 {
			continue
		}
		if err != nil {
			return 0, "", err
		}
		if err := e.rememberSet(id, set); err != nil {
			return 0, "", errors.Join(err, e.maps["sets"].Delete(id))
		}
		return id, list, nil
	}
}

// kernel gives the entries of the set's map: the digest of each file with its index and, if
// sizes are known, each size that a file has. A size is 8 bytes and 24 more of 0xff, which
// no digest ends in. The first file of a digest comes last, and so it is what events name:
// the image's own before one that was joined.
func (s Set) kernel() (keys [][32]byte, values []uint32) {
	keys = make([][32]byte, 0, len(s.Files))
	sizes := map[uint64]bool{}
	for i, f := range slices.Backward(s.Files) {
		keys, values = append(keys, f.SHA256), append(values, uint32(i))
		if s.Sizes && !sizes[f.Size] {
			sizes[f.Size] = true
			keys, values = append(keys, sizeKey(f.Size)), append(values, 0)
		}
	}
	return keys, values
}

func sizeKey(size uint64) (key [32]byte) {
	binary.LittleEndian.PutUint64(key[:], size)
	for i := 8; i < len(key); i++ {
		key[i] = 0xff
	}
	return key
}

func (e *Enforcer) statePath(kind string, id uint32, ext string) string {
	return filepath.Join(e.options.State, kind, strconv.FormatUint(uint64(id), 10)+ext)
}

// remember keeps what the kernel does not: the names.
func (e *Enforcer) remember(d Domain) error {
	if e.options.State == "" {
		return nil
	}
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return writeNew(e.statePath("domains", d.ID, ".json"), b)
}

func (e *Enforcer) rememberSet(id uint32, set Set) error {
	if e.options.State == "" {
		return nil
	}
	var b bytes.Buffer
	if err := set.Write(&b); err != nil {
		return err
	}
	return writeNew(e.statePath("sets", id, ".list"), b.Bytes())
}

// forget drops the names of d, and its set unless another domain shares it.
func (e *Enforcer) forget(d Domain) error {
	if e.options.State != "" {
		if err := os.Remove(e.statePath("domains", d.ID, ".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return e.dropSet(d.SetID)
}

// dropSet drops a set unless a domain has it.
func (e *Enforcer) dropSet(id uint32) error {
	domains, err := e.Domains()
	if err != nil {
		return err
	}
	if id == 0 || slices.ContainsFunc(domains, func(d Domain) bool { return d.SetID == id }) {
		return nil
	}
	err = e.maps["sets"].Delete(id)
	if e.options.State != "" {
		err = errors.Join(err, os.Remove(e.statePath("sets", id, ".list")))
	}
	return err
}

// Domains lists the containers that are registered. Other processes register and forget some:
// what is on disk counts.
func (e *Enforcer) Domains() ([]Domain, error) {
	if e.options.State == "" {
		return nil, nil
	}
	return e.records.read(filepath.Join(e.options.State, "domains"))
}

// records keeps the domains of a directory in memory: a file there is replaced, never
// rewritten, so each is read once, and not for every operation that looks at all of them.
type records struct {
	mu    sync.Mutex
	known map[recordKey]Domain
}

// recordKey is a file as it was read.
type recordKey struct {
	name    string
	inode   uint64
	changed unix.Timespec
}

func (r *records) read(dir string) ([]Domain, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	known, domains := make(map[recordKey]Domain, len(names)), make([]Domain, 0, len(names))
	for _, name := range names {
		key, d, err := r.one(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		known[key], domains = d, append(domains, d)
	}
	r.known = known
	return domains, nil
}

func (r *records) one(name string) (recordKey, Domain, error) {
	var st unix.Stat_t
	if err := stat(name, &st); err != nil {
		return recordKey{}, Domain{}, err
	}
	if d, ok := r.known[recordKey{name, st.Ino, st.Ctim}]; ok {
		return recordKey{name, st.Ino, st.Ctim}, d, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return recordKey{}, Domain{}, err
	}
	defer f.Close()
	var d Domain
	if err := json.NewDecoder(f).Decode(&d); err != nil {
		return recordKey{}, Domain{}, fmt.Errorf("%s: %w", name, err)
	}
	err = unix.Fstat(int(f.Fd()), &st) // it may have been replaced since
	return recordKey{name, st.Ino, st.Ctim}, d, err
}

// set reads back the list that was loaded under id.
func (e *Enforcer) set(id uint32, name string) (Set, error) {
	f, err := os.Open(e.statePath("sets", id, ".list"))
	if err != nil {
		return Set{}, err
	}
	defer f.Close()
	return ParseSet(name, f)
}

// cgroupID is what bpf_get_current_cgroup_id gives: the inode number of the
// directory (fs/kernfs, 64 bits).
func cgroupID(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := stat(dir, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// devIn gives the device of a directory in root, whose symbolic links lead
// nowhere else.
func devIn(root, name string) (uint64, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", root, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return st.Dev, err
}

// superDev gives s_dev of the filesystem that a file is on, as a process has it mounted. What
// stat(2) gives is on btrfs the subvolume's (fs/btrfs/inode.c, btrfs_getattr), and is good for
// a mount that the process cannot see.
func superDev(process, name string) (uint32, error) {
	st, line, err := mountLine(process, name)
	if err != nil {
		return 0, err
	}
	var id, parent, major, minor uint32
	if _, err := fmt.Sscanf(line, "%d %d %d:%d", &id, &parent, &major, &minor); err == nil {
		return major<<20 | minor, nil
	}
	return st.Dev_major<<20 | st.Dev_minor, nil
}

// mountLine gives the line of a process' mountinfo for the mount that a file is on, as
// "36 35 98:0 /mnt1 /mnt2 … - ext4 /dev/root rw" (proc(5)); "" where the process does not have
// it mounted.
func mountLine(process, name string) (st unix.Statx_t, line string, err error) {
	if err := unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_MNT_ID, &st); err != nil {
		return st, "", fmt.Errorf("%s: %w", name, err)
	}
	b, err := os.ReadFile("/proc/" + process + "/mountinfo")
	if err != nil {
		return st, "", err
	}
	for line := range strings.Lines(string(b)) {
		var id uint64
		if _, err := fmt.Sscanf(line, "%d", &id); err == nil && id == st.Mnt_id {
			return st, line, nil
		}
	}
	return st, "", nil
}

// redirectsDirs tells whether an overlay can rename directories of its lower layers whole:
// its mount options say so, or say nothing and the module's default does
// (Documentation/filesystems/overlayfs.rst, redirect_dir). Unknown is yes.
func redirectsDirs(root string) (bool, error) {
	process := "self" // or the N of /proc/N/root, whose mount that is
	if rest, ok := strings.CutPrefix(root, "/proc/"); ok {
		process, _, _ = strings.Cut(rest, "/")
	}
	_, line, err := mountLine(process, root)
	if err != nil || line == "" {
		return true, err
	}
	options := line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1:]
	byDefault := false
	for option := range strings.SplitSeq(strings.TrimSpace(options), ",") {
		switch name, value, _ := strings.Cut(option, "="); name {
		case "redirect_dir":
			return value == "on", nil
		case "metacopy":
			byDefault = value == "on"
		}
	}
	for _, parameter := range []string{"redirect_dir", "metacopy"} {
		b, err := os.ReadFile("/sys/module/overlay/parameters/" + parameter)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true, err
		}
		byDefault = byDefault || strings.HasPrefix(string(b), "Y")
	}
	return byDefault, nil
}

func stat(name string, st *unix.Stat_t) error {
	if err := unix.Stat(name, st); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
