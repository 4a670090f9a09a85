// SPDX-License-Identifier: Apache-2.0

package tree

import "strings"

// Resolve finds what a process in the container finds at the path: symbolic
// links among the parents are followed, one that the path ends in is not. Package databases name files by
// such paths: "/lib/libz.so" where lib is a link to usr/lib. The answer is nil if there is nothing.
func (t *Tree) Resolve(path string) *Entry {
	var at *Entry
	dir, rest, links, length := "", path, 0, len(path)
	for rest != "" {
		var c string
		c, rest, _ = strings.Cut(rest, "/")
		switch c {
		case "", ".":
			continue
		case "..":
			dir = dirname(dir)
			continue
		}
		name := c
		if dir != "" {
			name = dir + "/" + c
		}
		if at = t.Lookup(name); at == nil {
			return nil
		}
		if strings.Trim(rest, "/") != "" && at.Type == '2' {
			links, length = links+1, length+len(at.Link)
			if links > maxLinks || length > maxPath {
				return nil
			}
			if strings.HasPrefix(at.Link, "/") {
				dir = ""
			}
			rest = at.Link + "/" + rest
			continue
		}
		dir = name
	}
	return at
}
