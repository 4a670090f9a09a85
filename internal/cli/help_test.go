// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"os"
	"regexp"
	"runtime"
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

// TestManualPage: the page in docs is what the program says of itself.
func TestManualPage(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems have no enforce")
	}
	var got, errs bytes.Buffer
	if code := run(t.Context(), []string{"sbom-bless", "man"}, nil, &got, &errs); code != exitDone {
		t.Fatal(errs.String())
	}
	want, err := os.ReadFile("../../docs/sbom-bless.1")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("docs/sbom-bless.1 is not what the flags say: make man")
	}
}

// TestCategories: a flag under a heading exists, and every heading of few flags is meant to be.
func TestCategories(t *testing.T) {
	known := map[string]bool{}
	var each func(commands []*cli.Command)
	each = func(commands []*cli.Command) {
		for _, c := range commands {
			for _, f := range c.Flags {
				known[f.Names()[0]] = true
			}
			each(c.Subcommands)
		}
	}
	each(newApp().Commands)
	seen := map[string]string{}
	for category, flags := range categories {
		for _, flag := range strings.Fields(flags) {
			if !known[flag] {
				t.Errorf("%s: no command has --%s", category, flag)
			}
			if seen[flag] != "" {
				t.Errorf("--%s is under %s and under %s", flag, seen[flag], category)
			}
			seen[flag] = category
		}
	}
}
