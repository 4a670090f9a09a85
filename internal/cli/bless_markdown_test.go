// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/chain"
)

// TestTheSummaryInMarkdown holds what a person reads on the page of a job: names of the image can neither break the
// table nor become links, tags or mentions.
func TestTheSummaryInMarkdown(t *testing.T) {
	image := func(platform string, memory ...bless.MemoryFile) bless.ImageResult {
		return bless.ImageResult{Platform: platform, Memory: memory, Layers: []bless.LayerResult{
			{Source: v1.Descriptor{Size: 1_000_000}, Blessed: v1.Descriptor{Size: 1_020_000}, LayerStats: bless.LayerStats{Regular: 4000, Code: 30}},
			{Source: v1.Descriptor{Size: 1_000_000}, Blessed: v1.Descriptor{Size: 1_020_000}, LayerStats: bless.LayerStats{Regular: 953, Code: 2}},
		}}
	}
	for name, c := range map[string]struct {
		result chain.Result
		o      chain.Options
		want   string
	}{
		"signed, two platforms": {
			chain.Result{
				Result: &bless.Result{
					Source: "oci:a|b`", Blessed: "registry.example/my_app@sha256:00", KeyID: "694871b7", Dropped: make([]v1.Descriptor, 2),
					Images: []bless.ImageResult{image("linux/amd64"), image("linux/arm64", bless.MemoryFile{Path: "opt/`|<img src=x> [a](b) @me", Asks: bless.MemoryStack})},
				},
				Attested: []chain.Attested{{Platform: "linux/amd64", Packages: 1096}, {Platform: "linux/arm64", Packages: -1}},
			},
			chain.Options{},
			`### Blessed <code>registry.example/my&#95;app&#64;sha256:00</code>

from <code>oci:a&#124;b&#96;</code>

| platform | files | code | packages | size | signed |
|---|--:|--:|--:|--:|---|
| <code>linux/amd64</code> | 4,953 | 32 | 1,096 | 2.0 MB (+2.0 %) | each file, by key <code>694871b7</code>, and the list of files and the SBOMs |
| <code>linux/arm64</code> | 4,953 | 32 | not counted | 2.0 MB (+2.0 %) | each file, by key <code>694871b7</code>, and the list of files and the SBOMs |

- 2 attestation manifests of the source dropped, which no longer hold
- **Warning:** linux/arm64: opt/&#96;&#124;&lt;img src=x&gt; &#91;a&#93;(b) &#64;me asks for an executable stack: it runs under rule jit alone
`,
		},
		"digests, and nothing attested": {
			chain.Result{Result: &bless.Result{Source: "oci:a", Blessed: "oci:b", Images: []bless.ImageResult{image("linux/amd64")}}},
			chain.Options{},
			`### Blessed <code>oci:b</code>

from <code>oci:a</code>

| platform | files | code | packages | size | signed |
|---|--:|--:|--:|--:|---|
| <code>linux/amd64</code> | 4,953 | 32 | not counted | 2.0 MB (+2.0 %) | nothing |

- **Not signed:** anything. Files carry digests, which vouch for nobody
`,
		},
	} {
		if diff := cmp.Diff(c.want, blessMarkdown(&c.result, c.o)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}
