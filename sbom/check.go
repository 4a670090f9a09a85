// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sbom-bless/sbom-bless/tree"
)

// maxDifferences is how many differences an error of Check lists.
const maxDifferences = 10

// Check compares an SBOM, SPDX 2.3 or CycloneDX, with a tree: the regular
// files of both must be the same, with the same SHA-256, and SHA-1 where the tree has one. The error lists the first
// differences, a line each.
func Check(document []byte, files *tree.Tree) error {
	c := check{files: files.Files, seen: make([]bool, len(files.Files)), strange: map[string]bool{}}
	if err := c.document(document); err != nil {
		return fmt.Errorf("SBOM: %w", err)
	}
	for i := range c.files {
		if e := &c.files[i]; e.Regular() && !c.seen[i] {
			c.differ("%q: not in the SBOM", e.Name)
		}
	}
	differences := c.differences
	if len(differences) == 0 {
		return nil
	}
	slices.Sort(differences)
	more := ""
	if n := len(differences) - maxDifferences; n > 0 {
		differences = differences[:maxDifferences]
		more = fmt.Sprintf("\nand %d more", n)
	}
	return errors.New("SBOM and files differ:\n" + strings.Join(differences, "\n") + more)
}

// check reads a document once, file by file.
type check struct {
	files       []tree.Entry    // sorted by name
	seen        []bool          // which of files
	strange     map[string]bool // paths that are not among the files
	differences []string
}

func (c *check) differ(format string, args ...any) {
	c.differences = append(c.differences, fmt.Sprintf(format, args...))
}

type sums struct{ sha1, sha256 string }

// file takes a file of the document, under its path in the image. A path twice is an error.
func (c *check) file(name string, s sums) error {
	name, err := unquote(name)
	if err != nil {
		return err
	}
	name = strings.TrimPrefix(name, "/")
	i, ok := slices.BinarySearchFunc(c.files, name, func(e tree.Entry, name string) int { return strings.Compare(e.Name, name) })
	if ok && c.files[i].Regular() {
		if c.seen[i] {
			return fmt.Errorf("%q: listed twice", name)
		}
		c.seen[i] = true
		switch e := &c.files[i]; {
		case s.sha256 != hex.EncodeToString(e.SHA256):
			c.differ("%q: SHA-256 %s in the SBOM, the file has %x", name, s.sha256, e.SHA256)
		case e.SHA1 != nil && s.sha1 != hex.EncodeToString(e.SHA1):
			c.differ("%q: SHA-1 %s in the SBOM, the file has %x", name, s.sha1, e.SHA1)
		}
		return nil
	}
	if c.strange[name] {
		return fmt.Errorf("%q: listed twice", name)
	}
	c.strange[name] = true
	c.differ("%q: in the SBOM, not in the image", name)
	return nil
}

// document reads the files of a whole document.
func (c *check) document(document []byte) error {
	var kind struct{ SPDXVersion, BOMFormat string }
	if err := json.Unmarshal(document, &kind); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(document))
	switch {
	case kind.SPDXVersion != "":
		return object(dec, func(key string) error {
			if !strings.EqualFold(key, "files") { // as encoding/json matches
				return skip(dec)
			}
			return array(dec, func() error { return c.spdxFile(dec) })
		})
	case kind.BOMFormat == "CycloneDX":
		return c.component(dec)
	}
	return errors.New("neither SPDX 2 nor CycloneDX")
}

func (c *check) spdxFile(dec *json.Decoder) error {
	var f struct {
		FileName  string
		Checksums []struct{ Algorithm, ChecksumValue string }
	}
	if err := dec.Decode(&f); err != nil {
		return err
	}
	var s sums
	for _, sum := range f.Checksums {
		switch sum.Algorithm {
		case "SHA1":
			s.sha1 = sum.ChecksumValue
		case "SHA256":
			s.sha256 = sum.ChecksumValue
		}
	}
	return c.file(f.FileName, s)
}

// component reads a component of CycloneDX with those nested in it, or the document itself.
func (c *check) component(dec *json.Decoder) error {
	var kind, name string
	var hashes []struct{ Alg, Content string }
	err := object(dec, func(key string) error {
		switch {
		case strings.EqualFold(key, "type"):
			return dec.Decode(&kind)
		case strings.EqualFold(key, "name"):
			return dec.Decode(&name)
		case strings.EqualFold(key, "hashes"):
			return dec.Decode(&hashes)
		case strings.EqualFold(key, "components"):
			return array(dec, func() error { return c.component(dec) })
		}
		return skip(dec)
	})
	if err != nil || kind != "file" {
		return err
	}
	var s sums
	for _, h := range hashes {
		switch h.Alg {
		case "SHA-1":
			s.sha1 = h.Content
		case "SHA-256":
			s.sha256 = h.Content
		}
	}
	return c.file(name, s)
}

// object reads an object; member reads the value of each key.
func object(dec *json.Decoder, member func(key string) error) error {
	if err := enter(dec, '{'); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if err := member(key.(string)); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// array reads an array, or null; element reads each element.
func array(dec *json.Decoder, element func() error) error {
	switch t, err := dec.Token(); {
	case err != nil:
		return err
	case t == nil:
		return nil
	case t != json.Delim('['):
		return fmt.Errorf("%v where an array belongs", t)
	}
	for dec.More() {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

func enter(dec *json.Decoder, open json.Delim) error {
	t, err := dec.Token()
	if err == nil && t != open {
		err = fmt.Errorf("%v where %v belongs", t, open)
	}
	return err
}

// skip reads a value that does not matter, token by token: it may be the largest of all.
func skip(dec *json.Decoder) error {
	for depth := 0; ; {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
