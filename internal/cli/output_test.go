// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/bless"
)

// TestEveryFieldOfTheJSONIsDocumented holds docs/output.md against what bless
// --output json writes.
func TestEveryFieldOfTheJSONIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/output.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "\n## bless\n")
	if !ok {
		t.Fatal("docs/output.md has no section on bless")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for _, code := range regexp.MustCompile("`[^`]+`").FindAllString(section, -1) {
		for _, name := range regexp.MustCompile(`[A-Za-z0-9]+`).FindAllString(code, -1) {
			documented[name] = true
		}
	}
	fields := 0
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Slice, reflect.Pointer:
			walk(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if typ.PkgPath() != reflect.TypeFor[bless.Result]().PkgPath() {
			return // a descriptor or a digest, which the OCI image specification documents
		}
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "-" || !f.IsExported():
				continue
			case f.Anonymous:
			case name == "":
				t.Errorf("%s.%s has no name in JSON", typ, f.Name)
			case !documented[name]:
				t.Errorf("%s.%s: `%s` is not in docs/output.md", typ, f.Name, name)
			default:
				fields++
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[bless.Result]())
	if fields < 20 {
		t.Errorf("only %d fields were found", fields)
	}
}
