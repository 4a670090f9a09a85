// SPDX-License-Identifier: Apache-2.0

// Package chain goes from a source image to a blessed image with its SBOMs and signed
// statements, and back: it is what the verbs of the command line do, for any program.
//
// [Bless] blesses an image, scans it for packages, makes the SBOMs and attestations, and makes
// all of it visible in one step. [Verify] holds an image against its attributes and against
// everything that attestations say of it. [Inspect] describes both without judging them.
//
// The stages are packages of their own: bless for files and layers, sbom for packages, attest for
// statements, attest/locate for the places that may have them. This package only hands the result
// of one to the next.
package chain

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/transport"
)

// stage tells p, which may be nil, that a stage of a run begins.
func stage(p bless.Progress, name string) (end func()) {
	if p == nil {
		return func() {}
	}
	return p.Stage(name)
}

// Manifest finds the image manifest for a platform below the root of src. Without a platform it is
// that of this machine, or the only one.
func Manifest(ctx context.Context, src transport.Source, platform *v1.Platform) (v1.Descriptor, error) {
	root := src.Root()
	if root.MediaType.IsImage() {
		return root, nil
	}
	raw, err := src.Manifest(ctx, root)
	if err != nil {
		return root, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return root, fmt.Errorf("index: %w", err)
	}
	want := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if platform != nil {
		want = *platform
	}
	var all []string
	var images []v1.Descriptor
	for _, m := range index.Manifests {
		if m.Platform == nil || m.Platform.OS == "unknown" || !m.MediaType.IsImage() {
			continue
		}
		if m.Platform.Satisfies(want) {
			return m, nil
		}
		images, all = append(images, m), append(all, m.Platform.String())
	}
	if platform == nil && len(images) == 1 {
		return images[0], nil
	}
	return root, fmt.Errorf("no manifest for %s; there are %s", want, strings.Join(all, ", "))
}
