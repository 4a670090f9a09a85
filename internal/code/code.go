// SPDX-License-Identifier: Apache-2.0

// Package code names files that count as code by their suffix, whatever their mode: an interpreter
// or a loader runs them. bless signs by this table and the kernel guards by it, so that no file is code
// for the one and no code for the other.
package code

import (
	"slices"
	"strings"
)

// MaxSuffix is the longest suffix with its dot: the kernel compares this many bytes.
const MaxSuffix = 8

var suffixes = both(
	".so", ".ko", ".dll", ".exe", ".node", ".wasm",
	".sh", ".bash", ".zsh", ".ps1", ".awk", ".tcl",
	".py", ".pyc", ".pyo", ".pl", ".pm", ".rb", ".php", ".phar", ".js", ".mjs", ".cjs", ".lua", ".r",
	".jar", ".war", ".class", ".dex", ".el", ".elc", ".beam",
)

// both spells each suffix in lower and in upper case. The kernel looks names up as they are, so a
// mixture of the two is not in the table.
func both(lower ...string) (all []string) {
	for _, s := range lower {
		all = append(all, s, strings.ToUpper(s))
	}
	slices.Sort(all)
	return all
}

// Suffixes are all suffixes, as names of files end in them.
func Suffixes() []string { return slices.Clone(suffixes) }

// IsSuffix tells whether suffix, with its dot, is one of Suffixes.
func IsSuffix(suffix string) bool {
	_, ok := slices.BinarySearch(suffixes, suffix)
	return ok
}
