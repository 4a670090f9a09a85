// SPDX-License-Identifier: Apache-2.0

package sbom

// Layers in the form that syft's library finds all files in: every directory has an
// entry, and no name has two. It searches by directory, and stops at a name that is
// first one thing and then another. Tars in use leave directories out (Bazel, Jib),
// and repeat names: the same files must give the same packages, however they were packed.

import (
	"archive/tar"
	"errors"
	"io"
	"path"
	"strings"
	"time"
)

// errRepeated means that a name stands twice in the layer: which entry counts is known only at its end.
var errRepeated = errors.New("a name stands twice")

// rewrite copies the files of a tar. With counts, the entries with these numbers alone; without, all of them, and
// errRepeated ends it if that will not do.
func rewrite(w io.Writer, layer io.Reader, counts map[int]bool) error {
	types := map[string]byte{"": tar.TypeDir, ".": tar.TypeDir}
	in, out := tar.NewReader(layer), tar.NewWriter(w)
	for i := 0; ; i++ {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if counts != nil && !counts[i] || !isFile(h) {
			continue
		}
		name := cleanName(h.Name)
		if t, ok := types[name]; ok && counts == nil && (t != tar.TypeDir || h.Typeflag != tar.TypeDir) {
			return errRepeated
		}
		if err := parents(out, types, path.Dir(name)); err != nil {
			return err
		}
		types[name] = h.Typeflag
		if err := writeFile(out, name, h, in); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, layer) // the end of the stream says whether it was what it should be
	return err
}

// parents writes entries for the directory and those above it that have none yet.
func parents(out *tar.Writer, types map[string]byte, dir string) error {
	if _, ok := types[dir]; ok {
		return nil
	}
	if err := parents(out, types, path.Dir(dir)); err != nil {
		return err
	}
	types[dir] = tar.TypeDir
	return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, Format: tar.FormatGNU})
}

// writeFile writes one entry with what matters for finding packages. GNU's format holds every name and number.
func writeFile(out *tar.Writer, name string, h *tar.Header, content io.Reader) error {
	e := &tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid, Format: tar.FormatGNU}
	if h.ModTime.Unix() > 0 {
		e.ModTime = time.Unix(h.ModTime.Unix(), 0)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		e.Name += "/"
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse:
		e.Typeflag, e.Size = tar.TypeReg, h.Size
	}
	if err := out.WriteHeader(e); err != nil {
		return err
	}
	if e.Size == 0 {
		return nil
	}
	_, err := io.Copy(out, content)
	return err
}

// counting reads a tar and tells which entries count, by their numbers: of those with one name the last, and none
// below what a later one replaces. tree.Flatten has the same rules.
func counting(layer io.Reader) (map[int]bool, error) {
	number := map[string]int{}
	below := map[string]map[string]bool{} // names by directory, with every directory above them
	var drop func(name string)
	drop = func(name string) {
		for child := range below[name] {
			drop(child)
			delete(number, child)
		}
		delete(below, name)
	}
	in := tar.NewReader(layer)
	for i := 0; ; i++ {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if !isFile(h) {
			continue
		}
		name := cleanName(h.Name)
		if h.Typeflag != tar.TypeDir {
			drop(name)
		}
		number[name] = i
		for child := name; child != "."; child = path.Dir(child) {
			dir := path.Dir(child)
			if below[dir] == nil {
				below[dir] = map[string]bool{}
			}
			below[dir][child] = true
		}
	}
	counts := map[int]bool{}
	for _, i := range number {
		counts[i] = true
	}
	return counts, nil
}

func isFile(h *tar.Header) bool {
	return h.Typeflag != tar.TypeXGlobalHeader && cleanName(h.Name) != "."
}

func cleanName(name string) string { return path.Clean(strings.TrimLeft(name, "/")) }
