// SPDX-License-Identifier: Apache-2.0

package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	put := func(content string, then error) error {
		return Write(name, 0o640, func(w io.Writer) error {
			if _, err := io.WriteString(w, content); err != nil {
				return err
			}
			return then
		})
	}
	broken := errors.New("broken")
	for _, step := range []struct {
		content string
		err     error
		want    string
	}{{"old", nil, "old"}, {"half", broken, "old"}, {"new", nil, "new"}} {
		if err := put(step.content, step.err); !errors.Is(err, step.err) {
			t.Errorf("%s: error %v, want %v", step.content, err, step.err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != step.want {
			t.Errorf("after %s: %q, %v", step.content, got, err)
		}
	}
	st, err := os.Stat(name)
	if err != nil || st.Mode() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
	if ok, err := filepath.Match(Pattern, TempName()); !ok || err != nil {
		t.Errorf("%s does not match %s: %v", TempName(), Pattern, err)
	}
}
