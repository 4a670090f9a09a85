// SPDX-License-Identifier: Apache-2.0

package enforce

import "encoding/hex"

// Listing is what a list says of one path and one digest.
type Listing struct {
	// Files are how many the list has; none: there is no list.
	Files int `json:"files"`
	// SHA256 and Package are those of the path; empty: the list does not have it.
	SHA256  string `json:"sha256,omitempty"`
	Package string `json:"package,omitempty"`
	// Elsewhere are other paths that have the digest, five at most.
	Elsewhere []string `json:"elsewhere,omitempty"`
}

// Listing looks for a path and a digest in hexadecimal, either of which may be empty.
func (s Set) Listing(path, sha256 string) *Listing {
	l := &Listing{Files: len(s.Files)}
	for _, f := range s.Files {
		sum := hex.EncodeToString(f.SHA256[:])
		switch {
		case f.Path == path && l.SHA256 == "":
			l.SHA256, l.Package = sum, f.Package
		case f.Path != path && sum == sha256 && len(l.Elsewhere) < 5:
			l.Elsewhere = append(l.Elsewhere, f.Path)
		}
	}
	return l
}
