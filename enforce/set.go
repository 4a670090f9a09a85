// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
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
	Size    uint64 // if the set has Sizes
	// Image is the one whose list the file is from, if that was joined to the set; else
	// empty.
	Image string
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
	// Sizes says that the size of every file is known. Then the verifier need not hash a
	// file whose size none of them has.
	Sizes bool
}

// Join is the union of a list with others: a file that any of them has is good. What is
// joined says of each file where it is from.
func (s Set) Join(others ...Set) Set {
	if len(others) == 0 {
		return s
	}
	sum := sha256.New()
	fmt.Fprintln(sum, s.digest())
	files := slices.Clone(s.Files)
	for _, o := range others {
		fmt.Fprintln(sum, o.digest())
		for _, f := range o.Files {
			f.Image = o.Name
			files = append(files, f)
		}
		s.Sizes = s.Sizes && o.Sizes
	}
	s.Files, s.Digest = files, fmt.Sprintf("sha256:%x", sum.Sum(nil))
	return s
}

// digest is Digest, or taken of Files.
func (s Set) digest() string {
	if s.Digest != "" {
		return s.Digest
	}
	sum := sha256.New()
	_ = s.Write(sum) // a hash takes everything
	return fmt.Sprintf("sha256:%x", sum.Sum(nil))
}

// imageLine begins a comment, as sha256sum has them, that names the image whose list the
// following lines are from.
const imageLine = "# image "

// ParseSet reads lines "sha256  path", as sha256sum prints them, optionally
// followed by a tab and the package, and by another tab and the size. The set has Sizes if
// every line has one. Lines that begin with # are comments. A line that begins with a backslash has
// backslash, line feed, carriage return and tab in its path escaped; sha256sum
// does so, too, but for tabs.
func ParseSet(name string, r io.Reader) (Set, error) {
	set := Set{Name: name}
	sizes, image := 0, ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20) // paths of tar archives have no limit but bless's --max-header-size
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, imageLine); ok {
			image = strings.Map(printable, name)
		}
		if line == "" || line[0] == '#' {
			continue
		}
		line, escaped := strings.CutPrefix(line, `\`)
		sum, rest, ok := strings.Cut(line, " ")
		// sha256sum puts a space before the name of a text file, an asterisk before that of a binary.
		if !ok || len(rest) < 2 || rest[0] != ' ' && rest[0] != '*' {
			return Set{}, fmt.Errorf("line %d: not \"sha256  path\": %.80q", number, line)
		}
		f := File{Image: image}
		if b, err := hex.DecodeString(sum); err != nil || copy(f.SHA256[:], b) != 32 || len(b) != 32 {
			return Set{}, fmt.Errorf("line %d: not a SHA-256: %.80q", number, sum)
		}
		path, more, _ := strings.Cut(rest[1:], "\t")
		pkg, size, sized := strings.Cut(more, "\t")
		if f.Path, f.Package = path, strings.Map(printable, pkg); escaped {
			f.Path = unescape.Replace(path)
		}
		if f.Path == "" {
			return Set{}, fmt.Errorf("line %d: no path", number)
		}
		if sized {
			n, err := strconv.ParseUint(size, 10, 63)
			if err != nil {
				return Set{}, fmt.Errorf("line %d: not a size behind the second tab: %.80q\nhint: a path that has tabs is written with \\t for each, in a line that begins with a backslash", number, size)
			}
			f.Size = n
			sizes++
		}
		set.Files = append(set.Files, f)
	}
	if err := lines.Err(); err != nil {
		return Set{}, err
	}
	if set.Sizes = sizes > 0 && sizes == len(set.Files); !set.Sizes {
		for i := range set.Files {
			set.Files[i].Size = 0
		}
	}
	return set, nil
}

// Write writes the set in the form that ParseSet reads.
func (s Set) Write(w io.Writer) error {
	b := bufio.NewWriterSize(w, 1<<16)
	var line []byte
	image := ""
	for i := range s.Files {
		f := &s.Files[i]
		line = line[:0]
		if f.Image != image {
			image = f.Image
			line = append(append(append(line, imageLine...), strings.Map(printable, image)...), '\n')
		}
		path := f.Path
		if strings.ContainsAny(path, "\\\n\r\t") {
			line, path = append(line, '\\'), escape.Replace(path)
		}
		line = append(hex.AppendEncode(line, f.SHA256[:]), "  "...)
		line = append(line, path...)
		if f.Package != "" || s.Sizes {
			line = append(append(line, '\t'), strings.Map(printable, f.Package)...)
		}
		if s.Sizes {
			line = strconv.AppendUint(append(line, '\t'), f.Size, 10)
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
