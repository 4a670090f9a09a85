// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestHelpReadsAsWritten looks for what the library makes of usage texts: a word in backquotes
// becomes the flag's placeholder, and a default is named by itself.
func TestHelpReadsAsWritten(t *testing.T) {
	twice := regexp.MustCompile(`\(default.*\(default|\(default: 0s?\)|\[arguments\.\.\.\]`)
	var each func(path []string, commands []*cli.Command)
	each = func(path []string, commands []*cli.Command) {
		for _, c := range commands {
			path := append(path, c.Name)
			var out bytes.Buffer
			if code := run(t.Context(), append(path, "--help"), nil, &out, &out); code != exitDone {
				t.Errorf("%q --help: exit code %d", path, code)
			}
			for line := range strings.Lines(out.String()) {
				if twice.MatchString(line) {
					t.Errorf("%q --help: %s", path, line)
				}
			}
			for _, f := range c.Flags {
				if d, ok := f.(cli.DocGenerationFlag); ok && strings.Contains(d.GetUsage(), "`") {
					t.Errorf("%q --%s: usage with a backquote: %s", path, f.Names()[0], d.GetUsage())
				}
			}
			each(path, c.Subcommands)
		}
	}
	each([]string{"sbom-bless"}, newApp().Commands)
}
