// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Options say where the verifier is kept. The zero value keeps it in this
// process alone: nothing is pinned, and Close detaches it.
type Options struct {
	// Pins is a directory on a bpffs. What is pinned there stays in force
	// without any process, and is adopted by the next Load.
	Pins string
	// State is a directory on a tmpfs for what the kernel does not keep: the
	// names of containers and the file lists. Required with Pins.
	State string
	// Guard are further files and directories of the agent, such as its policy's:
	// no container may change them, nor what is in them. Those that are not there
	// are passed over until they are. With Pins.
	Guard []string
	// Kept is what Keep gave, if a process before this one left it. With Pins;
	// the caller closes it, after Load.
	Kept Kept
}

// Enforcer is a loaded verifier.
type Enforcer struct {
	options  Options
	maps     map[string]*ebpf.Map
	label    *ebpf.Program
	links    []link.Link
	canary   *canary
	placesMu sync.Mutex
	places   *places
	guard    []string      // what Guard got
	bpffs    *os.File      // a copy of the mount that the pins are on
	updates  atomic.Uint32 // counts what Update did
	records  records
	sealing  sync.Mutex
	// Adopted tells that the verifier was in force before this Load.
	Adopted bool
	// Restored tells that its pins were out of sight, and that this Load put them back.
	Restored bool
}

// prefix is what all names in the kernel start with. Within our own pins it would say nothing.
const prefix = "bless_"

// labelProgram is an iterator that the agent runs, not a hook.
const labelProgram = prefix + "label_tasks"

// object names the generation of programs that this package carries.
func object() string {
	sum := sha256.Sum256(_BlessBytes)
	return hex.EncodeToString(sum[:8])
}

// Load puts the verifier in force, or adopts the one that is. Programs of
// another version are replaced without a gap: the new ones are attached before
// the old ones go, and all share the pinned maps. Without any domain the
// verifier decides nothing.
func Load(o Options) (*Enforcer, error) {
	ahead, err := fit()
	if err != nil {
		return nil, err
	}
	e, err := load(o)
	if err != nil {
		return nil, err
	}
	if err := e.hashAhead(ahead); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func load(o Options) (*Enforcer, error) {
	if err := checkFtrace(); err != nil {
		return nil, err
	}
	spec, err := newSpec()
	if err != nil {
		return nil, err
	}
	e := &Enforcer{options: o, maps: map[string]*ebpf.Map{}}
	if o.Pins == "" {
		err = e.attach(spec, nil)
	} else {
		err = e.loadPinned(spec)
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Open opens the pinned verifier, as a process does that adds a container to
// it. It fails with ErrNotLoaded when there is none.
func Open(o Options) (*Enforcer, error) {
	e := &Enforcer{options: o, maps: map[string]*ebpf.Map{}, Adopted: true}
	spec, err := loadBless()
	if err != nil {
		return nil, err
	}
	all, err := e.openMaps(spec)
	switch {
	case err != nil:
	case len(e.maps) == 0:
		err = fmt.Errorf("%s: %w", o.Pins, ErrNotLoaded)
	case !all:
		err = errOtherVersion(o.Pins)
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	e.label, err = ebpf.LoadPinnedProgram(filepath.Join(o.Pins, object(), labelProgram), nil)
	if errors.Is(err, fs.ErrNotExist) {
		err = errOtherVersion(o.Pins)
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func errOtherVersion(pins string) error {
	return fmt.Errorf("%s: programs of another version are loaded\nhint: restart `sbom-bless enforce run` to replace them", pins)
}

// laterHooks are not in every kernel: what they watch over came with them.
var laterHooks = []string{"inode_set_acl", "inode_remove_acl", "inode_file_setattr", "file_ioctl_compat"}

// newSpec is the collection fitted to the running kernel.
func newSpec() (*ebpf.CollectionSpec, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(_BlessBytes))
	if err != nil {
		return nil, err
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("kernel type information: %w: %w", err, ErrNotSupported)
	}
	for name, p := range spec.Programs {
		if p.Type != ebpf.LSM {
			continue
		}
		var hook *btf.Func
		err := kernel.TypeByName("bpf_lsm_"+p.AttachTo, &hook)
		if errors.Is(err, btf.ErrNotFound) && slices.Contains(laterHooks, p.AttachTo) {
			delete(spec.Programs, name)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: LSM hook %s: %w: %w", name, p.AttachTo, err, ErrNotSupported)
		}
		if p.AttachTo == "bprm_creds_for_exec" {
			if _, checks := member(kernel, "linux_binprm", "is_check"); !checks {
				delete(spec.Programs, name) // every execve passes bprm_check_security
				continue
			}
		}
		if p.AttachTo == "inode_setattr" {
			// The mount's id mapping came in front in 6.9.
			idmap := len(hook.Type.(*btf.FuncProto).Params) == 3
			if idmap == strings.HasSuffix(name, "_compat") {
				delete(spec.Programs, name)
			}
		}
	}
	mounts, err := hostMounts()
	if err != nil {
		return nil, err
	}
	if err := spec.Variables["host_mounts"].Set(mounts); err != nil {
		return nil, err
	}
	if err := setOverlay(spec); err != nil && !errors.Is(err, btf.ErrNotFound) {
		return nil, err
	}
	return spec, nil
}

// attach loads the programs around the maps given and attaches them; dir is
// where they get pinned, unless it is empty.
func (e *Enforcer) attach(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map, dir ...string) (err error) {
	replacements := map[string]*ebpf.Map{}
	for name, m := range maps {
		replacements[prefix+name] = m
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements})
	if err != nil {
		return lockdownError(fmt.Errorf("load programs: %w", err))
	}
	defer coll.Close()
	e.label = coll.DetachProgram(labelProgram)
	for full := range coll.Maps {
		if name, ours := strings.CutPrefix(full, prefix); ours && e.maps[name] == nil {
			e.maps[name] = coll.DetachMap(full)
		}
	}
	if err := e.fillNames(); err != nil {
		return err
	}
	for name, p := range coll.Programs {
		if p.Type() != ebpf.LSM {
			continue
		}
		l, err := link.AttachLSM(link.LSMOptions{Program: p})
		if err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
		if len(dir) > 0 {
			if err := l.Pin(filepath.Join(dir[0], name)); err != nil {
				return errors.Join(fmt.Errorf("pin %s: %w", name, err), l.Close())
			}
		}
		e.links = append(e.links, l)
		info, err := p.Info()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		id, _ := info.ID()
		if err := e.maps["objects"].Put(uint64(1)<<32|uint64(id), uint8(blessObjectOBJECT_GUARDED)); err != nil {
			return fmt.Errorf("objects: %w", err)
		}
	}
	return nil
}

func (e *Enforcer) loadPinned(spec *ebpf.CollectionSpec) error {
	o := e.options
	if o.Kept.BPFFS != nil {
		var err error
		if e.Restored, err = e.takeUp(o.Kept.BPFFS); err != nil {
			return err
		}
	}
	if err := ownPins(o.Pins); err != nil {
		return err
	}
	maps := filepath.Join(o.Pins, "maps")
	if err := os.MkdirAll(maps, 0o700); err != nil {
		return err
	}
	if err := onBPFFS(o.Pins); err != nil {
		return err
	}
	for _, dir := range []string{"domains", "sets"} {
		if err := os.MkdirAll(filepath.Join(o.State, dir), 0o700); err != nil {
			return err
		}
	}
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	all, err := e.openMaps(spec)
	if errors.Is(err, fs.ErrPermission) {
		var before blessAgent
		if before, err = takeOver(o.Pins); err != nil {
			return err
		}
		if all, err = e.openMaps(spec); err != nil {
			return errors.Join(err, giveBack(o.Pins, before))
		}
	}
	if err != nil {
		return err
	}
	e.Adopted = len(e.maps) > 0
	progs := filepath.Join(o.Pins, object())
	if _, err := os.Stat(filepath.Join(progs, "complete")); err == nil && all {
		if e.label, err = ebpf.LoadPinnedProgram(filepath.Join(progs, labelProgram), nil); err != nil {
			return err
		}
		return errors.Join(e.openLinks(progs), e.arm())
	}
	// What an interrupted load left is replaced.
	if err := os.RemoveAll(progs); err != nil {
		return err
	}
	if err := os.Mkdir(progs, 0o700); err != nil {
		return err
	}
	if err := e.attach(spec, e.maps, progs); err != nil {
		return errors.Join(err, os.RemoveAll(progs))
	}
	for name, m := range e.maps {
		if m.IsPinned() {
			continue
		}
		pin := filepath.Join(maps, name)
		if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) { // one of another version
			return err
		}
		if err := m.Pin(pin); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	if err := e.label.Pin(filepath.Join(progs, labelProgram)); err != nil {
		return fmt.Errorf("pin %s: %w", labelProgram, err)
	}
	if err := os.Mkdir(filepath.Join(progs, "complete"), 0o700); err != nil {
		return err
	}
	if err := e.arm(); err != nil {
		return err
	}
	return errors.Join(e.dropOthers(progs), e.dropMaps(spec))
}

// dropMaps unpins the maps that only another version had.
func (e *Enforcer) dropMaps(spec *ebpf.CollectionSpec) error {
	maps, err := os.ReadDir(filepath.Join(e.options.Pins, "maps"))
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range maps {
		if spec.Maps[prefix+m.Name()] == nil {
			errs = append(errs, os.Remove(filepath.Join(e.options.Pins, "maps", m.Name())))
		}
	}
	return errors.Join(errs...)
}

// openLinks takes the links that are pinned, so that they stay when their pins go.
func (e *Enforcer) openLinks(progs string) error {
	entries, err := os.ReadDir(progs)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() || entry.Name() == labelProgram {
			continue
		}
		l, err := link.LoadPinnedLink(filepath.Join(progs, entry.Name()), nil)
		if err != nil {
			return fmt.Errorf("link %s: %w", entry.Name(), err)
		}
		e.links = append(e.links, l)
	}
	return nil
}

// ownPins refuses a directory of other things, which a later version or Unload would remove.
func ownPins(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) > 0 && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "maps" }) {
		return fmt.Errorf("%s holds other things\nhint: name a directory that is the verifier's alone", dir)
	}
	return nil
}

// dropOthers unpins the programs of other versions, which detaches them.
func (e *Enforcer) dropOthers(keep string) error {
	dirs, err := os.ReadDir(e.options.Pins)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if d.Name() == "maps" || d.Name() == filepath.Base(keep) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(e.options.Pins, d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// forgetObjects drops the ids of programs and sets that are gone, which is some time
// after they are dropped. An id is never given again, so until then it only takes room.
func (e *Enforcer) forgetObjects() error {
	var gone []uint64
	var key uint64
	var object uint8
	it := e.maps["objects"].Iterate()
	for it.Next(&key, &object) {
		var o io.Closer
		var err error
		if key>>32 == 0 {
			o, err = ebpf.NewMapFromID(ebpf.MapID(key))
		} else {
			o, err = ebpf.NewProgramFromID(ebpf.ProgramID(key))
		}
		if errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, key)
			continue
		}
		if err == nil {
			err = o.Close()
		}
		if err != nil {
			return fmt.Errorf("object %#x: %w", key, err)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("objects: %w", err)
	}
	var errs []error
	for _, key := range gone {
		errs = append(errs, e.unset("objects", key))
	}
	return errors.Join(errs...)
}

// guardMap has the programs let nobody but the agent open the map.
func (e *Enforcer) guardMap(m *ebpf.Map, object blessObject) error {
	info, err := m.Info()
	if err != nil {
		return err
	}
	id, _ := info.ID()
	if err := e.maps["objects"].Put(uint64(id), uint8(object)); err != nil {
		return fmt.Errorf("objects: %w", err)
	}
	return nil
}

// passing are the maps whose content a version with another shape of them does without: files
// are judged again, counters begin anew, the rest the agent fills at each start.
var passing = []string{
	"near", "inodes", "copies", "digests", "signed_digests", "verdicts", "recent", "budgets", "events", "counters", "names", "places",
	"hashing", "seals", "sealed",
}

// openMaps opens the pinned maps and checks that they have the shape that the
// programs expect. all tells that none is missing: an older version may have fewer, or
// others in their place.
func (e *Enforcer) openMaps(spec *ebpf.CollectionSpec) (all bool, err error) {
	all = true
	for name, ms := range spec.Maps {
		name, ours := strings.CutPrefix(name, prefix)
		if !ours { // of the compiler: read-only data
			continue
		}
		m, err := ebpf.LoadPinnedMap(filepath.Join(e.options.Pins, "maps", name), nil)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			all = false
			continue
		case errors.Is(err, fs.ErrPermission):
			return false, fmt.Errorf("map %s: %w\nhint: another executable is the agent; `enforce run` with this one makes it so", name, err)
		case err != nil:
			return false, fmt.Errorf("map %s: %w", name, err)
		}
		err = ms.Compatible(m)
		if err != nil && slices.Contains(passing, name) {
			all = false
			if err := m.Close(); err != nil {
				return false, err
			}
			continue
		}
		e.maps[name] = m
		if err != nil {
			return false, fmt.Errorf("map %s is of another version: %w\nhint: run `sbom-bless enforce unload` with the version that loaded it", name, err)
		}
	}
	return all, nil
}

// takeOver makes this executable the agent in the place of an older version, which the
// programs report, and gives that version.
func takeOver(pins string) (before blessAgent, err error) {
	self, err := thisExecutable()
	if err != nil {
		return before, err
	}
	return exchangeAgent(pins, self)
}

// giveBack undoes a takeOver after which this executable cannot go on: the version before
// alone can unload what it loaded.
func giveBack(pins string, before blessAgent) error {
	_, err := exchangeAgent(pins, before)
	return err
}

// exchangeAgent names the executable that is the agent, and gives the one that was.
func exchangeAgent(pins string, a blessAgent) (before blessAgent, err error) {
	agents, err := ebpf.LoadPinnedMap(filepath.Join(pins, "maps", "agents"), nil)
	if err != nil {
		return before, fmt.Errorf("map agents: %w", err)
	}
	err = agents.Lookup(uint32(0), &before)
	if err == nil {
		err = agents.Put(uint32(0), a)
	}
	return before, errors.Join(err, agents.Close())
}

// arm names this executable as the only one that may change maps and pins, and has the
// programs keep all that is the agent's.
func (e *Enforcer) arm() error {
	for name, m := range e.maps {
		object := blessObjectOBJECT_GUARDED
		if name == "agents" {
			object = blessObjectOBJECT_AGENTS
		}
		if err := e.guardMap(m, object); err != nil {
			return fmt.Errorf("map %s: %w", name, err)
		}
	}
	self, err := thisExecutable()
	if err != nil {
		return err
	}
	if err := errors.Join(e.holdPins(), e.guardPlaces()); err != nil {
		return err
	}
	return e.maps["agents"].Put(uint32(0), self)
}

func thisExecutable() (blessAgent, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
		return blessAgent{}, fmt.Errorf("own executable: %w", err)
	}
	dev, err := superDev("self", "/proc/self/exe")
	if err != nil {
		return blessAgent{}, err
	}
	return blessAgent{Armed: uint32(blessArmedARMED), Dev: dev, Inode: st.Ino}, nil
}

// release has the programs deny nothing any more, whoever holds them.
func (e *Enforcer) release() error {
	return e.maps["agents"].Put(uint32(0), blessAgent{Armed: uint32(blessArmedRELEASED)})
}

// Unload takes the verifier away: from then on nothing is denied.
func (e *Enforcer) Unload() error {
	if err := e.release(); err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	if err := e.removeCanary(e.canary); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	e.canary = nil
	if err := e.dropKeys(); err != nil {
		return err
	}
	if err := os.RemoveAll(e.options.Pins); err != nil {
		return err
	}
	// The state directory can have things of others: at least the agent's.
	var errs []error
	for _, dir := range []string{"domains", "sets"} {
		errs = append(errs, os.RemoveAll(filepath.Join(e.options.State, dir)))
	}
	for _, name := range []string{e.proofPath(), e.keysPath(), filepath.Join(e.options.State, "lock"), filepath.Join(e.options.State, "sealing")} {
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	_ = os.Remove(e.options.State) // if nothing else is in it
	return errors.Join(errs...)
}

// Close lets go of the verifier. A pinned one stays in force.
func (e *Enforcer) Close() error {
	errs := []error{e.removeCanary(e.canary), e.places.Close()}
	if e.bpffs != nil {
		errs = append(errs, e.bpffs.Close())
	}
	for _, l := range e.links {
		errs = append(errs, l.Close())
	}
	for _, m := range e.maps {
		errs = append(errs, m.Close())
	}
	if e.label != nil {
		errs = append(errs, e.label.Close())
	}
	return errors.Join(errs...)
}

func onBPFFS(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if uint32(st.Type) != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s is not on a bpffs: %w\nhint: mount -t bpf bpf /sys/fs/bpf", dir, ErrNotSupported)
	}
	return nil
}

// lock keeps other processes from changing the same verifier.
func (e *Enforcer) lock() (func(), error) { return e.lockFile("lock") }

// lockFile holds a lock of this name; without a state directory, no other process has the verifier.
func (e *Enforcer) lockFile(name string) (func(), error) {
	if e.options.State == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(filepath.Join(e.options.State, name), os.O_CREATE|os.O_RDONLY, 0o600) // for writing, it is the agent's alone
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return func() { f.Close() }, nil
}

// kernelDev turns stat's device number into the kernel's own (20-bit minors,
// include/linux/kdev_t.h).
func kernelDev(dev uint64) uint32 {
	return unix.Major(dev)<<20 | unix.Minor(dev)
}
