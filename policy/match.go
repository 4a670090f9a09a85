// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"github.com/bmatcuk/doublestar/v4"

	"github.com/sbom-bless/sbom-bless/internal/refname"
)

func (m *Match) fits(c Container) bool {
	if m.Image != "" && !imageFits(m.Image, c.Image) {
		return false
	}
	for _, part := range []struct{ glob, text string }{
		{m.Container, c.Name}, {m.Namespace, c.Namespace}, {m.Cgroup, c.Cgroup},
	} {
		if part.glob != "" && !globFits(part.glob, part.text) {
			return false
		}
	}
	for name, glob := range m.Labels {
		value, ok := c.Labels[name]
		if !ok || !globFits(glob, value) {
			return false
		}
	}
	return true
}

// globFits matches the whole text. Within it * and ? stop at a slash, ** does
// not. An empty text is fitted by "*" only.
func globFits(glob, text string) bool {
	ok, _ := doublestar.Match(glob, text) // Parse refused bad patterns
	return ok
}

// imageFits matches the name as it is, and without its tag and digest.
func imageFits(glob, name string) bool {
	return globFits(glob, name) || globFits(glob, refname.Repository(name))
}
