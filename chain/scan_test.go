// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/digest"
)

// Scans that do not heed their context hold up no run that has failed, and leave nothing.
func TestNobodyWaitsForAScanThatDoesNotEnd(t *testing.T) {
	all, dir := scans{}, t.TempDir()
	for _, name := range []string{"endless", "another"} {
		s := &scan{done: make(chan struct{}), dir: filepath.Join(dir, name)}
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		all[digest.Of([]byte(name))] = s
	}
	all.end()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}
