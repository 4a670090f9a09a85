// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

var (
	escape   = strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
	unescape = strings.NewReplacer(`\\`, "\\", `\n`, "\n", `\r`, "\r", `\t`, "\t")
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
	Name string
	// Digest tells lists of one name apart, as of an image that was blessed twice: that of
	// the file list, or empty, to have it taken of Files.
	Digest string
	Files  []File
}

// ParseSet reads lines "sha256  path", as sha256sum prints them, optionally
// followed by a tab and the package. A line that begins with a backslash has
// backslash, line feed, carriage return and tab in its path escaped; sha256sum
// does so, too, but for tabs.
func ParseSet(name string, r io.Reader) (Set, error) {
	set := Set{Name: name}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20) // paths of tar archives have no limit but bless's --max-header-size
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" {
			continue
		}
		line, escaped := strings.CutPrefix(line, `\`)
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
		if escaped {
			f.Path = unescape.Replace(f.Path)
		}
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
		line = line[:0]
		path := f.Path
		if strings.ContainsAny(path, "\\\n\r\t") {
			line, path = append(line, '\\'), escape.Replace(path)
		}
		line = append(hex.AppendEncode(line, f.SHA256[:]), "  "...)
		line = append(line, path...)
		if f.Package != "" {
			line = append(append(line, '\t'), strings.Map(printable, f.Package)...)
		}
		_, _ = b.Write(append(line, '\n')) // Flush tells
	}
	return b.Flush()
}

// printable keeps a line a line: packages have the names that the image gives them.
func printable(r rune) rune {
	if r < ' ' {
		return '?'
	}
	return r
}
