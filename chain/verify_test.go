// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/bless"
)

// A layer that changed its family makes a manifest that runtimes refuse. A store that gave the manifest
// another family gave it to the layers, too; and what was mixed in the source stays as it was.
func TestMediaTypesOfOneFamily(t *testing.T) {
	for name, c := range map[string]struct {
		source, manifest, layer types.MediaType
		wrong                   bool
	}{
		"unchanged":             {types.OCILayer, types.OCIManifestSchema1, types.OCILayer, false},
		"changed":               {types.OCILayer, types.OCIManifestSchema1, types.DockerLayer, true},
		"changed to OCI":        {types.DockerLayer, types.DockerManifestSchema2, types.OCILayer, true},
		"saved by Docker":       {types.OCILayer, types.DockerManifestSchema2, types.DockerUncompressedLayer, false},
		"mixed in the source":   {types.DockerLayer, types.OCIManifestSchema1, types.DockerLayer, false},
		"packed in another way": {types.OCILayer, types.OCIManifestSchema1, types.OCILayerZStd, false},
	} {
		v := &attest.Verified{Files: &filelist.List{}}
		v.Blessing.Layers = make([]attest.Layer, 1)
		v.Blessing.Layers[0].Source.MediaType = c.source
		img := bless.ImageCheck{
			Descriptor: v1.Descriptor{MediaType: c.manifest},
			Layers:     []bless.LayerCheck{{Descriptor: v1.Descriptor{MediaType: c.layer}}},
		}
		wrong := slices.ContainsFunc(imageProblems(t.Context(), v, v1.Hash{}, img, nil), func(p bless.Problem) bool {
			return strings.Contains(p.Reason, "of another family")
		})
		if wrong != c.wrong {
			t.Errorf("%s: wrong %v", name, wrong)
		}
	}
}
