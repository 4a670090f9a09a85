// SPDX-License-Identifier: Apache-2.0

package code

import "testing"

func TestSuffixes(t *testing.T) {
	for _, s := range Suffixes() {
		if len(s) > MaxSuffix || s[0] != '.' || !IsSuffix(s) {
			t.Errorf("suffix %q", s)
		}
	}
	for suffix, want := range map[string]bool{".py": true, ".PY": true, ".R": true, ".r": true, ".Py": false, "": false, ".": false, ".txt": false} {
		if IsSuffix(suffix) != want {
			t.Errorf("%q: %t", suffix, !want)
		}
	}
}
