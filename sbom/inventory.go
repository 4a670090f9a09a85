// SPDX-License-Identifier: Apache-2.0

package sbom

// What a scan found, as bytes that a later run can have instead of scanning.

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/anchore/syft/syft/format/syftjson"
	"github.com/anchore/syft/syft/pkg"
	syftsbom "github.com/anchore/syft/syft/sbom"
	"github.com/anchore/syft/syft/source"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/internal/digest"
)

// inventoryVersion changes when Scan finds something else in the same layers with the
// same syft, or encodes it in another way.
const inventoryVersion = 1

// Key names all that a scan of the lowest layers of an image depends on: the layers, this
// program's own version of a scan, and the versions of all that is linked into it.
func Key(img v1.Image, layers int) (v1.Hash, error) {
	diffIDs, err := lowest(img, layers)
	if err != nil {
		return v1.Hash{}, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "packages %d\n", inventoryVersion)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			for ; m != nil; m = m.Replace {
				fmt.Fprintf(&b, "%s %s %s\n", m.Path, m.Version, m.Sum)
			}
		}
	}
	for _, h := range diffIDs {
		fmt.Fprintln(&b, h)
	}
	return digest.Of(b.Bytes()), nil
}

// lowest are the DiffIDs of the lowest layers of an image.
func lowest(img v1.Image, layers int) ([]v1.Hash, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if n := len(config.RootFS.DiffIDs); n < layers {
		return nil, fmt.Errorf("%d layers, the image has %d", layers, n)
	}
	return config.RootFS.DiffIDs[:layers], nil
}

// Found is what a scan found, to be kept for images of the same [Key].
type Found []byte

// encode writes what syft found, in syft's own format.
func encode(found *syftsbom.SBOM) (Found, error) {
	// The relationships of packages are all that documents have of them, and the source
	// is described by the image at hand.
	kept := syftsbom.SBOM{Artifacts: syftsbom.Artifacts{
		Packages: found.Artifacts.Packages, LinuxDistribution: found.Artifacts.LinuxDistribution,
	}}
	for _, r := range found.Relationships {
		_, from := r.From.(pkg.Package)
		_, to := r.To.(pkg.Package)
		if from && to {
			kept.Relationships = append(kept.Relationships, r)
		}
	}
	kept.Source = source.Description{ID: "image", Metadata: source.ImageMetadata{}}
	var b bytes.Buffer
	if err := syftjson.NewFormatEncoder().Encode(&b, kept); err != nil {
		return nil, fmt.Errorf("packages: %w", err)
	}
	return b.Bytes(), nil
}

// Inventory gives the packages in the lowest layers of an image, so many of them, in which f was found, or in those
// of an image of the same [Key].
func (f Found) Inventory(img v1.Image, layers int) (*Inventory, error) {
	diffIDs, err := lowest(img, layers)
	if err != nil {
		return nil, err
	}
	found, _, _, err := syftjson.NewFormatDecoder().Decode(bytes.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("packages: %w", err)
	}
	inv := &Inventory{
		packages:      found.Artifacts.Packages.Sorted(),
		relationships: found.Relationships,
		diffIDs:       slices.Clone(diffIDs),
		tool:          syftVersion(),
	}
	inv.distribution.LinuxDistribution = found.Artifacts.LinuxDistribution
	if inv.metadata, err = metadata(img); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return inv, nil
}

// metadata describes an image as syft would, as far as documents tell of it.
func metadata(img v1.Image) (source.ImageMetadata, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return source.ImageMetadata{}, err
	}
	return source.ImageMetadata{
		Architecture: config.Architecture, Variant: config.Variant, OS: config.OS, Labels: config.Config.Labels,
	}, nil
}
