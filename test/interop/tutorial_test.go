// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// TestTutorial runs the commands of docs/tutorial.md that begin with "$", in their order, and demands that each says what
// stands below it, line by line. Debian of the tests takes the place of the one that a registry has.
func TestTutorial(t *testing.T) {
	need(t, "buildah")
	doc := must[[]byte](t)(os.ReadFile("../../docs/tutorial.md"))
	dir := workdir(t)
	product := must[string](t)(program())
	conf := filepath.Join(dir, "storage.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", dir+"/graph", dir+"/run"), 0o600); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	shell := func(command string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", command)
		cmd.Dir = work
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(product)+":"+os.Getenv("PATH"), "SBOM_BLESS_PASSWORD=",
			"XDG_CACHE_HOME="+dir+"/cache", "CONTAINERS_STORAGE_CONF="+conf)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	base := "localhost/debian:12-slim"
	if err := testimage.CopyLayout(filepath.Join(work, "debian"), must[string](t)(debian())); err != nil {
		t.Fatal(err)
	}
	if out, err := shell(fmt.Sprintf("buildah pull oci:debian:%s && buildah tag \"$(buildah images -q)\" %s", tag, base)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	commands, said := 0, ""
	for line := range strings.Lines(string(doc)) {
		line, code := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    ")
		if !code {
			said = ""
			continue
		}
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			var err error
			if said, err = shell(strings.ReplaceAll(command, "FROM debian:12-slim", "FROM "+base)); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, said)
			}
			commands++
			continue
		}
		if said == "" || strings.HasPrefix(line, "# ") {
			said = ""
			continue
		}
		pattern := "(?m)^" + strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*")
		pattern = regexp.MustCompile(` +`).ReplaceAllString(pattern, " +")
		if !regexp.MustCompile(pattern).MatchString(said) {
			t.Errorf("%q is not said, but\n%s", line, said)
		}
	}
	if commands < 15 {
		t.Errorf("%d commands in the tutorial", commands)
	}
}
