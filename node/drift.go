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

	"golang.org/x/sys/unix"
)

// drift reports what the processes of a container execute that its list lacks:
// what they mapped before the verifier knew of them, it does not judge again. A
// container without a list has nothing to compare with.
func (a *Agent) drift(ctx context.Context, c *Container, domain uint32, d *decision) {
	if d.unblessed != nil || !d.rules.Trust.Listed() {
		return
	}
	listed := make(map[[32]byte]bool, len(d.set.Files))
	for _, f := range d.set.Files {
		listed[f.SHA256] = true
	}
	seen := map[string]bool{} // mappings of one file in many processes
	host, _ := placeOf(hostRoot)
	for _, pid := range processes(c.Cgroup) {
		root, err := placeOf(rootOf(pid))
		if err != nil || root == host && root != c.RootAt { // it ended, or is the runtime's still
			continue
		}
		command := readLine(fmt.Sprintf("/proc/%d/comm", pid))
		for _, m := range executable(pid) {
			n := Notice{
				Operation: "drift", Action: "reported", Container: c.Name, Image: c.image(), Domain: domain,
				PID: pid, Command: command, Path: m.path,
			}
			if d.rules.JIT && m.anonymous() {
				continue
			}
			if m.inode == "0" {
				n.Reason, n.Message = "anonymous", fmt.Sprintf("reported: drift: process %d (%s) has executable memory that no file stands behind", pid, command)
				if !seen[strconv.Itoa(pid)] {
					a.notify(n)
				}
				seen[strconv.Itoa(pid)] = true
				continue
			}
			if seen[m.device+m.inode] {
				continue
			}
			seen[m.device+m.inode] = true
			if ctx.Err() != nil {
				return
			}
			sum, err := m.sum(pid)
			if errors.Is(err, fs.ErrNotExist) {
				continue // it ended, or unmapped it
			}
			if err == nil && listed[sum] {
				continue
			}
			n.Reason = "not-listed"
			n.Message = fmt.Sprintf("reported: drift: process %d (%s) executes %s, which is not in the SBOM of %s", pid, command, m.path, c.image())
			switch {
			case err == nil:
				n.SHA256 = hex.EncodeToString(sum[:])
			case errors.Is(err, errTooLarge):
				n.Reason, n.Message = "too-large", fmt.Sprintf("reported: drift: process %d (%s) executes %s, which is larger than 1 GiB, and was not read", pid, command, m.path)
			default:
				n.Reason, n.Message = "no-digest", fmt.Sprintf("reported: drift: process %d (%s) executes %s, which cannot be read: %v", pid, command, m.path, err)
			}
			a.notify(n)
		}
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
		m := mapping{addresses: field[0], device: field[3], inode: field[4]}
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

// maxHashed is the size up to which a file is read for a drift report: anybody can make
// one that takes a day, and needs no room for it.
const maxHashed = 1 << 30

var errTooLarge = errors.New("too large")

// sum is the SHA-256 of the file that is mapped, be its name gone or another's now.
func (m mapping) sum(pid int) (sum [32]byte, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%s", pid, m.addresses))
	if err != nil {
		return sum, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return sum, err
	case !info.Mode().IsRegular():
		return sum, errors.New("it is no regular file")
	case info.Size() > maxHashed:
		return sum, errTooLarge
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxHashed)); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
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
