// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
)

// Programs gives the host's programs of these names, and the shared libraries
// that they are linked with, in the form of Config.Files: at the paths of the
// host.
func Programs(names ...string) (map[string]string, error) {
	files := map[string]string{}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, err
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		files[path] = path
		// ldd fails for a static program, which needs nothing.
		out, _ := exec.Command("ldd", path).Output()
		for _, m := range library.FindAllSubmatch(out, -1) {
			lib := string(m[1])
			if _, err := filepath.EvalSymlinks(lib); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			files[lib] = lib
		}
	}
	return files, nil
}

// library finds the path in a line of ldd: "libc.so.6 => /lib/x/libc.so.6
// (0x7f…)", or "/lib64/ld-linux-x86-64.so.2 (0x7f…)".
var library = regexp.MustCompile(`(?m)^\t(?:\S+ => )?(/\S+) \(0x`)
