// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// File is one file that an image lists.
type File struct {
	Path    string // absolute in the container
	SHA256  [32]byte
	Package string // such as "deb openssl 3.0.15"; empty when unknown
}

// Set is the file list of one image: what its containers may execute.
type Set struct {
	// Name is shared by the containers that share the list, as the image's
	// registry.example/app@sha256:… does.
	Name  string
	Files []File
}

// ParseSet reads lines "sha256  path", as sha256sum prints them, optionally
// followed by a tab and the package.
func ParseSet(name string, r io.Reader) (Set, error) {
	set := Set{Name: name}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<16)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" {
			continue
		}
		sum, rest, ok := strings.Cut(line, " ")
		// sha256sum puts a space before the name of a text file, an asterisk before that of a binary.
		if !ok || len(rest) < 2 || rest[0] != ' ' && rest[0] != '*' {
			return Set{}, fmt.Errorf("line %d: not \"sha256  path\": %.80q", n, line)
		}
		var f File
		if b, err := hex.DecodeString(sum); err != nil || copy(f.SHA256[:], b) != 32 || len(b) != 32 {
			return Set{}, fmt.Errorf("line %d: not a SHA-256: %.80q", n, sum)
		}
		f.Path, f.Package, _ = strings.Cut(rest[1:], "\t")
		set.Files = append(set.Files, f)
	}
	if err := lines.Err(); err != nil {
		return Set{}, err
	}
	return set, nil
}

// Write writes the set in the form that ParseSet reads.
func (s Set) Write(w io.Writer) error {
	b := bufio.NewWriterSize(w, 1<<16)
	var line []byte
	for i := range s.Files {
		f := &s.Files[i]
		line = append(hex.AppendEncode(line[:0], f.SHA256[:]), "  "...)
		line = append(line, f.Path...)
		if f.Package != "" {
			line = append(append(line, '\t'), f.Package...)
		}
		_, _ = b.Write(append(line, '\n')) // Flush tells
	}
	return b.Flush()
}
