// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// violation is a breach of what must hold.
type violation struct {
	invariant string // one of the constants below
	detail    string
}

// What must hold.
const (
	unlistedCode = "no unlisted byte is ever executable"
	changedFile  = "no guarded or judged file changes"
	silentDenial = "every denial has an event or is counted"
	falseDenial  = "what is always allowed is not denied"
)

func (v *violation) String() string { return v.invariant + ": " + v.detail }

// checkMemory looks at what every task of the tree can execute, and at what
// it is executing.
func checkMemory(pid int, jit, programs bool) (*violation, error) {
	for _, p := range processes(pid) {
		v, err := checkProcess(p, jit, programs)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it ended
		}
		if v != nil || err != nil {
			return v, err
		}
	}
	return nil, nil
}

func checkProcess(pid int, jit, program bool) (*violation, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	var mem *os.File
	defer func() { mem.Close() }()
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line) // "from-to prot offset device inode name", proc(5)
		if len(fields) < 5 || fields[1][2] != 'x' {
			continue
		}
		if len(fields) > 5 && (fields[5] == "[vdso]" || fields[5] == "[vsyscall]" || fields[5] == "[uprobes]") {
			continue
		}
		if jit && (fields[4] == "0" || strings.Contains(line, " /memfd:") || strings.Contains(line, " /dev/zero (deleted)")) {
			continue // memory without a name
		}
		if fields[4] == "0" {
			return &violation{unlistedCode, fmt.Sprintf("memory without a file is executable: %s", strings.TrimSpace(line))}, nil
		}
		if mem == nil {
			if mem, err = os.Open(fmt.Sprintf("/proc/%d/mem", pid)); err != nil {
				return nil, err
			}
		}
		first, last, _ := strings.Cut(fields[0], "-")
		from, err1 := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		offset, err3 := strconv.ParseUint(fields[2], 16, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, err
		}
		// With jit a private mapping of a good file is memory, too; the file itself must be good.
		if jit && fields[1][3] == 'p' {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, from, to)) // without the zeros in front that maps has
			if err != nil {
				return nil, err
			}
			if !isListed(b) {
				return &violation{unlistedCode, "an executable mapping is of a file that is not listed, or was changed: " + strings.TrimSpace(line)}, nil
			}
			continue
		}
		if !listedBytes(mem, from, to, offset) {
			return &violation{unlistedCode, fmt.Sprintf("an executable mapping has the bytes of no listed file: %s", strings.TrimSpace(line))}, nil
		}
	}
	if !program {
		return nil, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return nil, err
	}
	if !isListed(b) {
		return &violation{unlistedCode, fmt.Sprintf("a program runs whose file is not listed, or was changed: %d bytes", len(b))}, nil
	}
	return nil, nil
}

func isListed(b []byte) bool {
	return slices.ContainsFunc(listed, func(content []byte) bool { return bytes.Equal(b, content) })
}

// listedBytes tells whether the memory has what some listed file has from the
// offset on, and zeroes behind its end. Pages beyond the end of the mapped
// file cannot be read, nor executed.
func listedBytes(mem *os.File, from, to, offset uint64) bool {
	got := make([]byte, 0, to-from)
	for at := from; at < to; at += page {
		got = got[:len(got)+page]
		if _, err := mem.ReadAt(got[len(got)-page:], int64(at)); err != nil {
			got = got[:len(got)-page]
			break
		}
	}
	for _, want := range listed {
		if offset > uint64(len(want)) {
			if len(got) == 0 {
				return true
			}
			continue
		}
		want = want[offset:]
		n := min(len(want), len(got))
		if bytes.Equal(got[:n], want[:n]) && len(bytes.Trim(got[n:], "\x00")) == 0 {
			return true
		}
	}
	return false
}

// state is what a file is by its attributes.
type state struct {
	size          int64
	mode, uid     uint32
	gid           uint32
	mtime         syscall.Timespec
	links         uint64
	attributes    string
	content       string
	target, error string
}

// stateOf reads it; whole: with content and extended attributes.
func stateOf(name string, whole bool) state {
	var st syscall.Stat_t
	if err := syscall.Lstat(name, &st); err != nil {
		return state{error: err.Error()}
	}
	s := state{size: st.Size, mode: st.Mode, uid: st.Uid, gid: st.Gid, mtime: st.Mtim, links: st.Nlink}
	if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		s.target, _ = os.Readlink(name)
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG || !whole {
		return s
	}
	list := make([]byte, 1024)
	n, err := unix.Llistxattr(name, list)
	if err != nil {
		s.error = err.Error()
		return s
	}
	s.attributes = string(list[:n])
	b, err := os.ReadFile(name)
	if err != nil {
		s.error = err.Error()
	}
	s.content = string(b)
	return s
}

// kept are the files that must stay what they were.
type kept map[string]state

// keep takes down the state of the files that the rules guard, through the
// overlay of c, and of every file of the layer below. With rule soft what the
// container may do to a file that was never judged is another matter: only
// judged ones are kept.
func keep(p plan, c *container) kept {
	k := kept{}
	for _, f := range imageFiles {
		k[image+f.name] = stateOf(image+f.name, true)
		guarded := !f.plain || p.rules.GuardAll
		if p.rules.Soft {
			guarded = f.name == control
			for _, name := range p.judged {
				guarded = guarded || name == f.name
			}
		}
		if guarded {
			k[c.root+f.name] = stateOf(c.root+f.name, true)
		}
	}
	k[c.root+"/bin/link"] = stateOf(c.root+"/bin/link", true)
	return k
}

func (k kept) check(whole bool) *violation {
	for name, before := range k {
		now := stateOf(name, whole)
		if !whole {
			before.attributes, before.content = "", ""
		}
		if now != before {
			return &violation{changedFile, fmt.Sprintf("%s: %s", name, difference(before, now))}
		}
	}
	return nil
}

func difference(before, now state) string {
	switch {
	case now.error != "":
		return now.error
	case now.content != before.content || now.size != before.size:
		return fmt.Sprintf("its content is another, %d bytes after %d", now.size, before.size)
	}
	now.content, before.content = "", ""
	return fmt.Sprintf("%+v after %+v", now, before)
}
