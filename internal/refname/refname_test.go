// SPDX-License-Identifier: Apache-2.0

package refname

import "testing"

func TestRepository(t *testing.T) {
	for name, want := range map[string]string{
		"app":                         "app",
		"app:1":                       "app",
		"host:5000/app":               "host:5000/app",
		"host:5000/app:1":             "host:5000/app",
		"host:5000/app:1@sha256:00ff": "host:5000/app",
		"host/a/b@sha256:00ff":        "host/a/b",
		"":                            "",
	} {
		if got := Repository(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
