// SPDX-License-Identifier: Apache-2.0

package sbom_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

// npm has the validators that the tests run; their versions are pinned here.
var npm = []string{"@cyclonedx/cyclonedx-library@10.3.0", "ajv@8.17.1", "ajv-formats@3.0.1", "ajv-formats-draft2019@1.6.1"}

// validator returns a function that runs testdata/validate.cjs. The packages it needs are installed once, into the cache.
func validator(t *testing.T) func(how string, document []byte) error {
	t.Helper()
	if testing.Short() {
		t.Skip("installs npm packages the first time")
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install nodejs npm", tool)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "sbom-bless", "npm")
	stamp := filepath.Join(cache, "installed")
	if b, err := os.ReadFile(stamp); err != nil || string(b) != strings.Join(npm, " ") {
		if err := os.MkdirAll(cache, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("npm", append([]string{"install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", cache}, npm...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("npm install: %v\n%s", err, out)
		}
		if err := os.WriteFile(stamp, []byte(strings.Join(npm, " ")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(how string, document []byte) error {
		file := filepath.Join(t.TempDir(), "document.json")
		if err := os.WriteFile(file, document, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("node", filepath.Join("testdata", "validate.cjs"), how, file)
		cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(cache, "node_modules"))
		if out, err := cmd.CombinedOutput(); err != nil {
			return &invalid{string(out)}
		}
		return nil
	}
}

type invalid struct{ output string }

func (e *invalid) Error() string { return e.output[:min(len(e.output), 2000)] }

// spdxSchema is the official schema of SPDX 2.3, from syft's module.
func spdxSchema(t *testing.T) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/anchore/syft").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), "schema", "spdx-json", "spdx-schema-2.3.json")
}

func TestCycloneDXValidatorAccepts(t *testing.T) {
	validate := validator(t)
	r := debianImage(t)
	for name, doc := range map[string][]byte{"whole": r.sbom.CycloneDX, "without files": r.sbom.CycloneDXShort} {
		if err := validate("cyclonedx", doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := validate("cyclonedx", bytes.Replace(r.sbom.CycloneDX, []byte(`"SHA-256"`), []byte(`"SHA-255"`), 1)); err == nil {
		t.Error("the validator accepts anything")
	}
}

func TestSPDXSchemaAccepts(t *testing.T) {
	validate := validator(t)
	schema := spdxSchema(t)
	r := debianImage(t)
	for name, doc := range map[string][]byte{"whole": r.sbom.SPDX, "without files": r.sbom.SPDXShort} {
		if err := validate(schema, doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := validate(schema, bytes.Replace(r.sbom.SPDX, []byte(`"SHA256"`), []byte(`"SHA255"`), 1)); err == nil {
		t.Error("the schema accepts anything")
	}
}

func TestSPDXToolsRead(t *testing.T) {
	r := debianImage(t)
	doc, err := spdxjson.Read(bytes.NewReader(r.sbom.SPDX))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	regular := 0
	for i := range r.files.Files {
		if r.files.Files[i].Regular() {
			regular++
		}
	}
	if len(doc.Files) != regular || len(doc.Packages) != len(r.sbom.Packages)+1 {
		t.Errorf("%d files and %d packages, want %d and %d", len(doc.Files), len(doc.Packages), regular, len(r.sbom.Packages)+1)
	}
	described, err := spdxlib.GetDescribedPackageIDs(doc)
	if err != nil || len(described) != 1 {
		t.Errorf("described packages %v, %v", described, err)
	}
}
