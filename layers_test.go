// SPDX-License-Identifier: Apache-2.0

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sbom-bless/sbom-bless/"

// layers says which packages of ours each package may import, and why no others. A package that is not here
// imports none of ours.
var layers = map[string]struct {
	may string
	why string
}{
	"":                     {"internal/cli", "main only starts the command line"},
	"internal/cli":         {"attest/... bless chain diagnose enforce key node policy transport xattr", "flags, printing and exit codes: the one package that knows all verbs, and that none may know"},
	"chain":                {"attest/... bless key sbom transport tree xattr internal/atomicfile", "from source image to statements and back; it knows nothing of nodes or flags"},
	"node":                 {"attest/... diagnose enforce key policy transport internal/refname", "the agent is audited alone: it links neither what blesses images nor what scans them"},
	"diagnose":             {"enforce policy internal/refname", "what a node reported; it works where there is no node"},
	"enforce":              {"xattr internal/atomicfile internal/code", "what runs on a node as root; it shares the format of attributes with bless, and no code"},
	"bless":                {"deflate transport tree xattr internal/...", "files and layers; statements about them are made of its result, by others"},
	"sbom":                 {"attest/filelist deflate tree internal/digest internal/jsonedit internal/magic", "packages and files; it knows no signatures"},
	"attest":               {"attest/filelist transport tree internal/digest internal/jsonedit", "statements; the facts in them come from the caller"},
	"attest/embedded":      {"attest transport xattr internal/digest internal/imageconfig internal/magic", "read by nodes, so it must not know bless"},
	"attest/locate":        {"attest attest/embedded transport", "where statements are; what they say of an image is for others"},
	"transport":            {"internal/atomicfile internal/filelock internal/jsonedit internal/magic internal/refname", "places and bytes; it knows nothing of what they hold"},
	"policy":               {"internal/refname", "a policy file; it knows no kernel and no keys"},
	"internal/imageconfig": {"internal/jsonedit", "marks in image configs, for bless and for nodes"},
}

// linked says what a program must not link that imports a package; "modules": anything but the standard library.
var linked = map[string]struct{ not, why string }{
	"node":    {"bless deflate sbom chain internal/cli internal/twinhash internal/p256 github.com/anchore/... github.com/urfave/...", "the module count of an agent is what its auditor reads"},
	"enforce": {"attest/... transport github.com/google/go-containerregistry/... github.com/containerd/...", "three modules beside the standard library"},
	"xattr":   {"modules", "the format stands on the standard library"},
	"deflate": {"modules", "it parses hostile bytes"},
}

func TestLayers(t *testing.T) {
	for pkg, imports := range list(t, "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...") {
		name, ours := strings.CutPrefix(pkg, module)
		switch {
		case pkg == strings.TrimSuffix(module, "/"):
			name = ""
		case !ours || strings.HasPrefix(name, "test/") || strings.HasPrefix(name, "bench") || isTestHelper(name):
			continue
		}
		for _, imported := range imports {
			imported, ours := strings.CutPrefix(imported, module)
			if ours && !matches(layers[name].may, imported) {
				t.Errorf("%s imports %s, and may import %q: %s", pkg, imported, layers[name].may, layers[name].why)
			}
			if ours && isTestHelper(imported) {
				t.Errorf("%s imports %s, which is for tests", pkg, imported)
			}
		}
	}
}

func TestLinked(t *testing.T) {
	for name, rule := range linked {
		for pkg := range list(t, "list", "-deps", "./"+name) {
			own, ours := strings.CutPrefix(pkg, module)
			if own == name {
				continue
			}
			host, _, _ := strings.Cut(pkg, "/")
			if matches(rule.not, pkg) || ours && matches(rule.not, own) || rule.not == "modules" && strings.Contains(host, ".") {
				t.Errorf("%s links %s: %s", name, pkg, rule.why)
			}
		}
	}
}

// TestErrorsNameNoFlags: a package that any program may import knows no command line. internal/cli adds
// the flag that helps (hints.go). Flags of other tools may be named.
func TestErrorsNameNoFlags(t *testing.T) {
	flag := regexp.MustCompile(`(^|[^a-z-])--[a-z]`)
	others := regexp.MustCompile(`pkcs11-tool |tar -|openssl `)
	for pkg, files := range list(t, "list", "-f", "{{.Dir}} {{join .GoFiles \" \"}}", "./...") {
		if dir := filepath.ToSlash(pkg); strings.Contains(dir, "/internal/") || strings.Contains(dir, "/test/") || strings.Contains(dir, "/bench") {
			continue
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(pkg, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if of, ok := call.Fun.(*ast.SelectorExpr); !ok || of.Sel.Name != "Errorf" && of.Sel.Name != "New" {
					return true
				}
				ast.Inspect(call, func(n ast.Node) bool {
					if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING && flag.MatchString(text.Value) && !others.MatchString(text.Value) {
						t.Errorf("%s: %s", filepath.Join(pkg, name), text.Value)
					}
					return true
				})
				return true
			})
		}
	}
}

// TestMainIsThin holds what package main has: a call.
func TestMainIsThin(t *testing.T) {
	files := list(t, "list", "-f", "{{join .GoFiles \" \"}}", ".")
	if len(files) != 1 || files["main.go"] == nil {
		t.Errorf("package main has the files %v", files)
	}
}

func isTestHelper(name string) bool {
	return strings.HasPrefix(name, "internal/test") || strings.HasPrefix(name, "internal/vm") || name == "internal/gotool" ||
		name == "attest/keyless/keylesstest" || name == "xattr/testdata/tar"
}

// matches tells whether a pattern of the list is pkg, or ends in "..." and begins it.
func matches(patterns, pkg string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(p string) bool {
		prefix, all := strings.CutSuffix(p, "...")
		return p == pkg || all && (strings.HasPrefix(pkg, prefix) || path.Clean(prefix) == pkg)
	})
}

// list runs go and gives the words of each line by the first one.
func list(t *testing.T, args ...string) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go %q: %v", args, err)
	}
	lines := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) > 0 {
			lines[words[0]] = append([]string{}, words[1:]...)
		}
	}
	return lines
}
