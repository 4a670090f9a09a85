// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive writes a cpio archive in the newc format: a header of 6 magic bytes
// and 13 fields of 8 hexadecimal digits, the name with a NUL, the content,
// both padded to 4 bytes. The first error stays and is given by close.
type archive struct {
	w    *bufio.Writer
	ino  int
	off  int64
	dirs map[string]bool
	err  error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{"/": true}}
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
)

// add writes an entry; name is an absolute path, its directories are made.
func (a *archive) add(name string, mode uint32, size int64, content io.Reader) {
	if dir := path.Dir(name); !a.dirs[dir] {
		a.dir(dir, 0o755)
	}
	a.entry(name[1:], mode, size, content)
}

func (a *archive) dir(name string, perm uint32) {
	if a.dirs[name] {
		return
	}
	a.add(name, modeDir|perm, 0, nil)
	a.dirs[name] = true
}

func (a *archive) entry(name string, mode uint32, size int64, content io.Reader) {
	if a.err != nil {
		return
	}
	a.ino++
	n, err := fmt.Fprintf(a.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	a.off += int64(n)
	if err == nil {
		err = a.pad()
	}
	if err == nil && size > 0 {
		_, err = io.CopyN(a.w, content, size)
		a.off += size
	}
	if err == nil {
		err = a.pad()
	}
	if err != nil {
		a.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (a *archive) pad() error {
	n := -a.off & 3
	a.off += n
	_, err := a.w.Write(make([]byte, n))
	return err
}

func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, nil)
	if a.err != nil {
		return a.err
	}
	return a.w.Flush()
}

// tree adds the host's file or directory src as name. Links inside src stay
// links; src itself is followed. Owners are root; modes are kept.
func (a *archive) tree(name, src string) error {
	src, err := filepath.EvalSymlinks(src)
	if err != nil {
		return err
	}
	return filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		return a.copy(path.Join(name, rel), p, d)
	})
}

func (a *archive) copy(name, src string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		a.dir(name, uint32(info.Mode().Perm()))
	case fs.ModeSymlink:
		to, err := os.Readlink(src)
		if err != nil {
			return err
		}
		a.add(name, modeLink|0o777, int64(len(to)), strings.NewReader(to))
	case 0:
		f, err := os.Open(src)
		if err != nil {
			return err
		}
		defer f.Close()
		a.add(name, modeFile|uint32(info.Mode().Perm()), info.Size(), f)
	default:
		return fmt.Errorf("%s: %s cannot go into an initrd", src, info.Mode().Type())
	}
	return a.err
}
