// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// Each hint names a flag that exists, and each limit has a hint.
func TestHints(t *testing.T) {
	var flags []string
	for _, command := range newApp().Commands {
		for _, f := range command.Flags {
			flags = append(flags, f.Names()...)
		}
	}
	known := strings.Join(flags, " ") + " "
	check := func(hint string) {
		for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(hint, -1) {
			if !strings.Contains(known, flag[1]+" ") {
				t.Errorf("%s: no command has --%s", hint, flag[1])
			}
		}
	}
	for _, h := range hints {
		check(h.hint)
	}
	limits := reflect.TypeFor[bless.Limits]()
	for field := range limits.Fields() {
		hint := limitHints[field.Name]
		if field.Name == "Header" { // which xattr keeps
			hint = hintFor(xattr.ErrHeaderLimit)
		}
		if hint == "" {
			t.Errorf("limit %s has no hint", field.Name)
		}
		check(hint)
	}
	err := fmt.Errorf("layer 1: %w", &bless.LimitError{Limit: "Entries"})
	if got, want := hintFor(err), "\nhint: --max-entries raises the limit"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := hintFor(fmt.Errorf("push: %w", transport.ErrPlainHTTP)); !strings.HasPrefix(got, "\nhint: --insecure") {
		t.Errorf("plain HTTP: %q", got)
	}
	if got := hintFor(transport.ErrNotFound); got != "" {
		t.Errorf("not found: %q", got)
	}
}
