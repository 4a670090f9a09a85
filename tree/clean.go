// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Longest names that Linux takes, in bytes: NAME_MAX, and PATH_MAX without its NUL
// (include/uapi/linux/limits.h).
const (
	maxName = 255
	maxPath = 4095
)

// Clean turns the name of a tar entry, or the target of a hard link, into a path inside the root
// filesystem: relative, without "." and empty components, without a slash at
// the end. "./usr//bin/", "/usr/bin" and "usr/lib/../bin" all are "usr/bin";
// the root itself is ".". Bytes are kept as they are, UTF-8 or not.
//
// Errors: the name is empty, leads out of the root, holds a NUL, or is longer than Linux allows.
func Clean(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("empty name")
	case strings.IndexByte(name, 0) >= 0:
		return "", errors.New("name with a NUL byte")
	}
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", errors.New("name leads out of the root filesystem")
	}
	if len(p) > maxPath {
		return "", errors.New("name longer than 4095 bytes")
	}
	for rest := p; rest != ""; {
		var c string
		c, rest, _ = strings.Cut(rest, "/")
		if len(c) > maxName {
			return "", errors.New("name with a component longer than 255 bytes")
		}
	}
	return p, nil
}

// CheckTarget refuses the target of a symbolic link that is longer than Linux allows.
func CheckTarget(link string) error {
	if len(link) > maxPath {
		return fmt.Errorf("symbolic link to %s: target longer than %d bytes", Show(link), maxPath)
	}
	return nil
}

// maxShown is how many bytes of a name Show gives.
const maxShown = 200

// Show writes a name of an image for a person: on one line, whatever bytes it
// holds, and without the middle of a long one.
func Show(name string) string {
	if len(name) > maxShown {
		name = name[:maxShown/2] + "…" + name[len(name)-maxShown/2:]
	}
	if q := strconv.Quote(name); name == "" || q != `"`+name+`"` {
		return q
	}
	return name
}

// IsWhiteout tells whether the clean path is a whiteout of the OCI layer
// specification: an entry that hides others and is no file of the image.
func IsWhiteout(name string) bool { return strings.HasPrefix(path.Base(name), whiteout) }
