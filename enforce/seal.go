// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbom-bless/sbom-bless/internal/code"
)

// Where the kernel computes no SHA-256 to rely on, the agent does, before a container starts.
// A seal is such a digest as the programs keep it: by the inode that has the data, until that
// changes or its filesystem goes. bpf/seal.bpf.h is the other half.

// clockTick is longer than the kernel's times stay the same (CONFIG_HZ is 100 at least; multigrain
// from 6.13 on): a write that begins later than this after another changes the time of change.
const clockTick = 20 * time.Millisecond

// hashAhead says who computes digests from now on, the agent or the kernel. What is registered
// already is sealed, if it was not.
func (e *Enforcer) hashAhead(ahead bool) error {
	by := blessHashingHASHED_BY_KERNEL
	if ahead {
		by = blessHashingHASHED_BY_AGENT
	}
	if err := e.maps["hashing"].Put(uint32(0), uint32(by)); err != nil {
		return fmt.Errorf("hashing: %w", err)
	}
	if !ahead {
		return nil
	}
	domains, err := e.Domains()
	if err != nil {
		return err
	}
	for _, d := range domains {
		if d.SetID == 0 {
			continue
		}
		// Where this fails, as for a container that ended, files are denied, with an event each.
		if set, err := e.set(d.SetID, d.Image); err == nil {
			_ = e.seal(d, set)
		}
	}
	return nil
}

// HashedAhead reports whether the agent computes digests, before a container starts, and not the
// kernel, when a file is used.
func (e *Enforcer) HashedAhead() (bool, error) {
	var by uint32
	if err := e.maps["hashing"].Lookup(uint32(0), &by); err != nil {
		return false, fmt.Errorf("hashing: %w", err)
	}
	return by == uint32(blessHashingHASHED_BY_AGENT), nil
}

// Prepare does what takes time of Add and Update, and needs no lock: where the kernel hashes no files,
// the code files of the list are hashed. Of d, it is about Root and Rules. Add does it all the same.
func (e *Enforcer) Prepare(d Domain, set Set) error {
	ahead, err := e.HashedAhead()
	if err != nil || !ahead || d.Closed || d.Exempt {
		return err
	}
	if d.Trust.Signed() {
		return fmt.Errorf("trust %s: this kernel hashes no files: %w", d.Trust, ErrNotSupported)
	}
	return e.seal(d, set)
}

// sealAtOnce is how many files are sealed under one lock: who seals another image waits for so many.
const sealAtOnce = 256

// seal has the programs know the digests of a list's code files in d's root. A file that is not there,
// not of root's filesystem, or open for writing is passed over: when it is used, it has no digest.
func (e *Enforcer) seal(d Domain, set Set) error {
	dir, err := os.OpenFile(d.Root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	names := make([]string, len(set.Files))
	for i := range set.Files {
		names[i] = set.Files[i].Path
	}
	slices.Sort(names)
	names = slices.Compact(names) // joined lists have a path twice
	for some := range slices.Chunk(names, sealAtOnce) {
		if err := e.sealSome(root{dir, d.MaxSize}, some); err != nil {
			return err
		}
	}
	return nil
}

// sealSome begins seals, reads the files, and ends the seals. Nobody else does so in between: the
// digest of what a file had before a change must not end a seal that was begun after it.
func (e *Enforcer) sealSome(r root, names []string) error {
	e.sealing.Lock() // in turn: flock(2) alone lets the same process go first again and again
	defer e.sealing.Unlock()
	unlock, err := e.lockFile("sealing")
	if err != nil {
		return err
	}
	defer unlock()
	begun, err := each(names, func(name string) (bool, error) { return r.with(name, beginSeal) })
	if err != nil || len(begun) == 0 {
		return err
	}
	time.Sleep(clockTick)
	_, err = each(begun, func(name string) (bool, error) { return r.with(name, endSeal) })
	return err
}

// each calls do with every name, on all processors, and gives those for which it says true. The
// first error ends it.
func each(names []string, do func(string) (bool, error)) (yes []string, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := 0
	take := func() (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil || next == len(names) {
			return "", false
		}
		next++
		return names[next-1], true
	}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for name, more := take(); more; name, more = take() {
				ok, failed := do(name)
				mu.Lock()
				if ok {
					yes = append(yes, name)
				}
				if failed != nil && err == nil {
					err = fmt.Errorf("%s: %w", name, failed)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return yes, err
}

// root is the root filesystem of a container.
type root struct {
	dir     *os.File
	maxSize uint64 // larger files are denied unhashed; 0: none are
}

// lacking are errors of this process. All others of opening or reading are the file's, which then has
// no digest.
var lacking = []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM}

func ofProcess(err error) error {
	if slices.ContainsFunc(lacking, func(e error) bool { return errors.Is(err, e) }) {
		return err
	}
	return nil
}

// with calls do with a file of the root, unless there is none, it is too large, or another filesystem
// is mounted over it. What a container put in its place, such as a device, is not opened.
func (r root) with(name string, do func(*os.File) (bool, error)) (bool, error) {
	fd, err := unix.Openat2(int(r.dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return false, ofProcess(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, nil
	}
	if r.maxSize > 0 && uint64(st.Size) > r.maxSize {
		return false, nil
	}
	open, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, ofProcess(err)
	}
	f := os.NewFile(uintptr(open), name)
	defer f.Close()
	return do(f)
}

// beginSeal has the programs note what the file has now. true: it is to be hashed; false: its seal
// is good, it is no code, or somebody may write to it.
func beginSeal(f *os.File) (bool, error) {
	if !executable(f) {
		return false, nil
	}
	switch err := sealCommand(f, blessSealCommandSEAL_BEGIN, nil); err {
	case unix.EINPROGRESS:
		return true, nil
	case unix.EALREADY, unix.EBUSY:
		return false, nil
	default:
		return false, sealError(err)
	}
}

// endSeal hashes the file and gives the programs its digest. false: it cannot be read, or was changed
// since the seal was begun.
func endSeal(f *os.File) (bool, error) {
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return false, ofProcess(err)
	}
	switch err := sealCommand(f, blessSealCommandSEAL_END, h.Sum(nil)); err {
	case unix.EALREADY:
		return true, nil
	case unix.ESTALE, unix.EBUSY:
		return false, nil
	default:
		return false, sealError(err)
	}
}

func sealError(err error) error {
	switch {
	case errors.Is(err, unix.ENOTTY):
		return errors.New("the verifier does not answer")
	case errors.Is(err, unix.ENOSPC):
		return errors.New("no room for another digest: the node has more code files than the verifier can know")
	}
	return fmt.Errorf("seal: %w", err)
}

// sealCommand gives the programs' answer, which is an error always: what the filesystem itself
// would say is ENOTTY.
func sealCommand(f *os.File, command blessSealCommand, digest []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(command), uintptr(unsafe.Pointer(unsafe.SliceData(digest))))
	return errno
}

// executable tells whether the kernel may be asked to run or map code of the file: by its mode, by
// its name, or by its first bytes.
func executable(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	name := path.Base(f.Name())
	if info.Mode()&0o111 != 0 || code.IsSuffix(path.Ext(name)) || strings.Contains(name, ".so.") {
		return true
	}
	var head [4]byte
	_, err = f.ReadAt(head[:], 0)
	return err == nil && bytes.Equal(head[:], []byte("\x7fELF"))
}
