// SPDX-License-Identifier: Apache-2.0

package sbom

import (
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
	listed, err := parse(document)
	if err != nil {
		return fmt.Errorf("SBOM: %w", err)
	}
	var differences []string
	for i := range files.Files {
		e := &files.Files[i]
		if !e.Regular() {
			continue
		}
		got, ok := listed[e.Name]
		delete(listed, e.Name)
		switch want := hex.EncodeToString(e.SHA256); {
		case !ok:
			differences = append(differences, fmt.Sprintf("%q: not in the SBOM", e.Name))
		case got.sha256 != want:
			differences = append(differences, fmt.Sprintf("%q: SHA-256 %s in the SBOM, the file has %s", e.Name, got.sha256, want))
		case e.SHA1 != nil && got.sha1 != hex.EncodeToString(e.SHA1):
			differences = append(differences, fmt.Sprintf("%q: SHA-1 %s in the SBOM, the file has %x", e.Name, got.sha1, e.SHA1))
		}
	}
	for name := range listed {
		differences = append(differences, fmt.Sprintf("%q: in the SBOM, not in the image", name))
	}
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

type sums struct{ sha1, sha256 string }

func parse(document []byte) (map[string]sums, error) {
	var kind struct{ SPDXVersion, BOMFormat string }
	if err := json.Unmarshal(document, &kind); err != nil {
		return nil, err
	}
	switch {
	case kind.SPDXVersion != "":
		return parseSPDX(document)
	case kind.BOMFormat == "CycloneDX":
		return parseCycloneDX(document)
	}
	return nil, errors.New("neither SPDX 2 nor CycloneDX")
}

func parseSPDX(document []byte) (map[string]sums, error) {
	var doc struct {
		Files []struct {
			FileName  string
			Checksums []struct{ Algorithm, ChecksumValue string }
		}
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, err
	}
	files := map[string]sums{}
	for _, f := range doc.Files {
		var s sums
		for _, c := range f.Checksums {
			switch c.Algorithm {
			case "SHA1":
				s.sha1 = c.ChecksumValue
			case "SHA256":
				s.sha256 = c.ChecksumValue
			}
		}
		if err := add(files, f.FileName, s); err != nil {
			return nil, err
		}
	}
	return files, nil
}

type component struct {
	Type, Name string
	Hashes     []struct{ Alg, Content string }
	Components []component
}

func parseCycloneDX(document []byte) (map[string]sums, error) {
	var doc component
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, err
	}
	files := map[string]sums{}
	return files, doc.files(files)
}

func (c *component) files(files map[string]sums) error {
	if c.Type == "file" {
		var s sums
		for _, h := range c.Hashes {
			switch h.Alg {
			case "SHA-1":
				s.sha1 = h.Content
			case "SHA-256":
				s.sha256 = h.Content
			}
		}
		if err := add(files, c.Name, s); err != nil {
			return err
		}
	}
	for i := range c.Components {
		if err := c.Components[i].files(files); err != nil {
			return err
		}
	}
	return nil
}

// add takes a file into the list, under its path in the image. A path twice is an error.
func add(files map[string]sums, name string, s sums) error {
	name, err := unquote(name)
	if err != nil {
		return err
	}
	name = strings.TrimPrefix(name, "/")
	if _, ok := files[name]; ok {
		return fmt.Errorf("%q: listed twice", name)
	}
	files[name] = s
	return nil
}
