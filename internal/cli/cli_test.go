// SPDX-License-Identifier: Apache-2.0

package cli

// The scripts in testdata/script are the promises of the README and of
// docs/output.md, each tried on the real command.

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sbom-bless": func() {
			code := Main(os.Args, os.Stdin, os.Stdout, os.Stderr)
			reportPeak()
			os.Exit(code)
		},
		"mkimage": func() { os.Exit(testimage.Main(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/script",
		Setup: func(env *testscript.Env) error {
			server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
			env.Defer(server.Close)
			env.Setenv("REGISTRY", strings.TrimPrefix(server.URL, "http://"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/cache")
			env.Setenv("SBOM_BLESS_PASSWORD", "")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status,
		},
	})
}

// status runs a command and demands its exit code: status CODE COMMAND...
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := err.(interface{ ExitCode() int }); ok {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// TestScriptsSayWhy: a command that must fail is followed by what it must say. Any other reason to fail,
// such as a file that the script never made, would pass as well.
func TestScriptsSayWhy(t *testing.T) {
	scripts, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	fails := regexp.MustCompile(`^(! (exec )?.*(sbom-bless|\$ADD) |status [1-9])`)
	for _, name := range scripts {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(archive.Comment), "\n")
		for i, line := range lines {
			if !fails.MatchString(line) {
				continue
			}
			said := false
			for _, next := range lines[i+1:] {
				checks := regexp.MustCompile(`^(! )?(stdout|stderr|cmp|exists|grep) `).FindStringSubmatch(next)
				if strings.HasPrefix(next, "#") {
					continue
				}
				if checks == nil {
					break
				}
				said = said || checks[1] == "" && checks[2] != "exists"
			}
			if !said {
				t.Errorf("%s:%d: %s: nothing says why", filepath.Base(name), i+1, line)
			}
		}
	}
}
