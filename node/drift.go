// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// budget is what one drift report on a container may cost. The container chooses how many files
// it maps, how large they are, and, on FUSE, how long it takes to read one.
type budget struct {
	files, events int
	bytes         int64
	time          time.Duration
}

var driftBudget = budget{files: 4096, events: 256, bytes: 8 << 30, time: 2 * time.Minute}

// drift reports what the processes of a container execute that its list lacks:
// what they mapped before the verifier knew of them, it does not judge again. A
// container without a list has nothing to compare with. What exceeds the budget is
// counted, in one event.
func (a *Agent) drift(parent context.Context, c *Container, domain uint32, d *decision, limit budget) {
	if d.unblessed != nil || !d.rules.Trust.Listed() {
		return
	}
	ctx, cancel := context.WithTimeout(parent, limit.time)
	defer cancel()
	listed := make(map[[32]byte]bool, len(d.set.Files))
	for _, f := range d.set.Files {
		listed[f.SHA256] = true
	}
	left, unread := limit, 0
	tell := func(n Notice) {
		if left.events == 0 {
			unread++
			return
		}
		left.events--
		a.notify(n)
	}
	seen := map[string]bool{} // mappings of one file in many processes
	host, _ := placeOf(hostRoot)
	for _, pid := range processes(c.Cgroup) {
		root, err := placeOf(rootOf(pid))
		if err != nil || root == host && root != c.RootAt { // it ended, or is the runtime's still
			continue
		}
		if ctx.Err() != nil {
			break
		}
		command := readLine(fmt.Sprintf("/proc/%d/comm", pid))
		anonymous := d.rules.JIT
		for _, m := range executable(pid) {
			n := Notice{
				Operation: "drift", Action: "reported", Container: c.Name, Image: c.image(), Domain: domain,
				PID: pid, Command: command, Path: m.path,
			}
			if d.rules.JIT && m.anonymous() {
				continue
			}
			if m.inode == "0" {
				if !anonymous {
					n.Reason, n.Message = "anonymous", fmt.Sprintf("reported: drift: process %d (%s) has executable memory that no file stands behind", pid, command)
					tell(n)
				}
				anonymous = true
				continue
			}
			file := m.device + " " + m.inode
			if seen[file] {
				continue
			}
			if left.files == 0 || left.events == 0 || ctx.Err() != nil {
				unread++
				continue
			}
			seen[file] = true
			left.files--
			sum, size, err := m.sum(ctx, pid, left.bytes)
			left.bytes -= size
			switch {
			case parent.Err() != nil:
				return
			case errors.Is(err, fs.ErrNotExist), err == nil && listed[sum]:
				continue // it ended or unmapped the file, or all is well
			case errors.Is(err, errBudget), err != nil && ctx.Err() != nil:
				unread++
				continue
			case err == nil:
				n.SHA256, n.Reason = hex.EncodeToString(sum[:]), "not-listed"
				n.Message = fmt.Sprintf("which is not in the SBOM of %s", c.image())
			case errors.Is(err, errTooLarge):
				n.Reason, n.Message = "too-large", "which is larger than 1 GiB, and was not read"
			default:
				n.Reason, n.Message = "no-digest", fmt.Sprintf("which cannot be read: %v", err)
			}
			n.Message = fmt.Sprintf("reported: drift: process %d (%s) executes %s, %s", pid, command, m.path, n.Message)
			tell(n)
		}
	}
	if unread > 0 || ctx.Err() != nil && parent.Err() == nil {
		a.notify(Notice{
			Operation: "drift", Action: "reported", Reason: "unread", Container: c.Name, Image: c.image(), Domain: domain,
			Message: fmt.Sprintf("reported: drift: %d or more further executable mappings of %s are not in this report: it has at most %d events, and reads at most %d files and %d MiB in %s",
				unread, c.Name, limit.events, limit.files, limit.bytes>>20, limit.time),
		})
	}
}

// processes are those in a cgroup and below it.
func processes(cgroup string) []int {
	var pids []int
	// Cgroups go while they are walked; what is gone has no processes.
	_ = filepath.WalkDir(cgroup, func(dir string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil
		}
		b, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for field := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// mapping is a line of /proc/PID/maps.
type mapping struct{ addresses, device, inode, path string }

// anonymous tells whether no file of a filesystem that anybody mounted is behind it: none at
// all, or one of the kernel's own tmpfs, by memfd_create(2), shmget(2), or shared anonymous memory.
func (m mapping) anonymous() bool {
	name, unlinked := strings.CutSuffix(m.path, " (deleted)")
	return m.inode == "0" || unlinked && (strings.HasPrefix(name, "/memfd:") || strings.HasPrefix(name, "/SYSV") || name == "/dev/zero")
}

// executable are the executable mappings of a process, but for those that the
// kernel makes.
func executable(pid int) []mapping {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil // it ended
	}
	defer f.Close()
	var list []mapping
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 7f… -7f… r-xp 00000000 00:1f 1234     /usr/bin/dash
		field := strings.Fields(lines.Text())
		if len(field) < 5 || !strings.Contains(field[1], "x") {
			continue
		}
		m := mapping{addresses: unpadded(field[0]), device: field[3], inode: field[4]}
		if len(field) > 5 {
			m.path = strings.Join(field[5:], " ")
		}
		switch m.path {
		case "[vdso]", "[vsyscall]", "[uprobes]":
			continue
		}
		list = append(list, m)
	}
	return list
}

// unpadded gives a range of addresses as map_files has it: without the zeros that maps puts in front of
// those below 4 GiB, where a program that is not position-independent lies.
func unpadded(addresses string) string {
	from, to, _ := strings.Cut(addresses, "-")
	return strings.TrimLeft(from, "0") + "-" + strings.TrimLeft(to, "0")
}

// maxHashed is the size up to which a file is read for a drift report: anybody can make
// one that takes a day, and needs no room for it.
const maxHashed = 1 << 30

var (
	errTooLarge = errors.New("too large")
	errBudget   = errors.New("larger than what is left of the budget")
)

// sum is the SHA-256 of the file that is mapped, be its name gone or another's now, and what
// of it was read. A file on FUSE may never come: nobody waits for it longer than ctx.
func (m mapping) sum(ctx context.Context, pid int, limit int64) (sum [32]byte, size int64, err error) {
	done := make(chan struct{})
	var read struct {
		sum  [32]byte
		size int64
		err  error
	}
	go func() {
		defer close(done)
		read.sum, read.size, read.err = m.read(pid, limit)
	}()
	select {
	case <-done:
		return read.sum, read.size, read.err
	case <-ctx.Done():
		return sum, 0, ctx.Err()
	}
}

func (m mapping) read(pid int, limit int64) (sum [32]byte, size int64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%s", pid, m.addresses))
	if err != nil {
		return sum, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return sum, 0, err
	case !info.Mode().IsRegular():
		return sum, 0, errors.New("it is no regular file")
	case info.Size() > maxHashed:
		return sum, 0, errTooLarge
	case info.Size() > limit:
		return sum, 0, errBudget
	}
	h := sha256.New()
	// A file that grows while it is read is read no further; its digest then matches no file.
	if size, err = io.Copy(h, io.LimitReader(f, min(maxHashed, limit))); err != nil {
		return sum, size, err
	}
	h.Sum(sum[:0])
	return sum, size, nil
}

func readLine(name string) string {
	b, _ := os.ReadFile(name)
	return strings.TrimSpace(string(b))
}

// hostRoot is the root of processes that have not entered a container's: the agent's, which
// is that of the first process, as the verifier has it, unless the agent is in a container.
const hostRoot = "/"

func rootOf(pid int) string { return fmt.Sprintf("/proc/%d/root", pid) }

// place tells directories apart, by whatever path they are reached.
type place struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

func placeOf(dir string) (place, error) {
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	return place{st.Dev, st.Ino}, err
}

// refresh finds a process of the container that lives; false: there is none. What a process
// says of itself does not count, and one in a root of its own only if there is no other.
func (c *Container) refresh() bool {
	host, _ := placeOf(hostRoot)
	best := 0
	for _, pid := range processes(c.Cgroup) {
		root, err := placeOf(rootOf(pid))
		fits := 1
		switch {
		case err != nil:
			continue // it ended
		case root == c.RootAt:
			fits = 3
		case root == host:
			continue // the runtime's, which waits to enter the container
		case root.Device == c.RootAt.Device:
			fits = 2
		}
		if fits > best {
			best, c.PID, c.Root = fits, pid, rootOf(pid)
		}
	}
	return best > 0
}
