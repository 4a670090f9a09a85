// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/anchore/syft/syft/format/common/cyclonedxhelpers"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/uuid"

	"github.com/sbom-bless/sbom-bless/tree"
)

// cycloneDX writes a CycloneDX 1.6 document, with the files or without. Files
// are components nested in that of their package, or stand beside the packages. The document says for each
// component that holds some that its list is complete.
func (d *document) cycloneDX(files bool) ([]byte, error) {
	bom := cyclonedxhelpers.ToFormatModel(d.model())
	if bom.Components == nil || len(*bom.Components) < len(d.inventory.packages) {
		return nil, fmt.Errorf("fewer components than the %d packages", len(d.inventory.packages))
	}
	image := "image:" + d.Digest.String()
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, []byte(namespace+d.Digest.String())).URN()
	bom.Metadata.Timestamp = d.Created.UTC().Format(time.RFC3339)
	bom.Metadata.Component.BOMRef = image
	bom.Metadata.Tools = &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{
		{Type: cyclonedx.ComponentTypeApplication, Name: "sbom-bless", Version: d.Version},
		{Type: cyclonedx.ComponentTypeApplication, Author: "anchore", Name: "syft", Version: d.inventory.tool},
	}}
	d.layerIDs(*bom.Components)
	components := *bom.Components
	var held [][]*tree.Entry // each in the place of a mark
	mark := cyclonedx.Component{Type: cyclonedx.ComponentTypeFile, Name: "files"}
	if files {
		nested, loose := d.nested()
		complete := []cyclonedx.BOMReference{cyclonedx.BOMReference(image)}
		for i, inside := range nested {
			if len(inside) > 0 {
				components[i].Components = &[]cyclonedx.Component{mark}
				complete = append(complete, cyclonedx.BOMReference(components[i].BOMRef))
				held = append(held, inside)
			}
		}
		if len(loose) > 0 {
			components = append(components, mark)
			held = append(held, loose)
		}
		bom.Components = &components
		bom.Compositions = &[]cyclonedx.Composition{{Aggregate: cyclonedx.CompositionAggregateComplete, Assemblies: &complete}}
	} else {
		bom.Compositions = &[]cyclonedx.Composition{{Aggregate: cyclonedx.CompositionAggregateIncomplete, Assemblies: &[]cyclonedx.BOMReference{cyclonedx.BOMReference(image)}}}
	}
	var b bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&b, cyclonedx.BOMFileFormatJSON).SetEscapeHTML(false).EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
		return nil, err
	}
	f := frame{rest: bytes.TrimSpace(b.Bytes())}
	for _, entries := range held {
		f.out.Grow(350 * len(entries)) // or about so
		err := f.list(mark, func(yield func(any) bool) {
			for _, e := range entries {
				if !yield(cycloneDXFile(e)) {
					return
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return f.end(), nil
}

// nested sorts the regular files by the package that owns them; loose are those that none does.
func (d *document) nested() (nested [][]*tree.Entry, loose []*tree.Entry) {
	nested = make([][]*tree.Entry, len(d.inventory.packages))
	for _, e := range d.regular() {
		if i, ok := d.owner[e.Name]; ok {
			nested[i] = append(nested[i], e)
		} else {
			loose = append(loose, e)
		}
	}
	return nested, loose
}

// cycloneDXFile describes a regular file.
func cycloneDXFile(e *tree.Entry) cyclonedx.Component {
	return cyclonedx.Component{
		BOMRef: "file:" + pathID(e.Name),
		Type:   cyclonedx.ComponentTypeFile,
		Name:   quote("/" + e.Name),
		Hashes: &[]cyclonedx.Hash{
			{Algorithm: cyclonedx.HashAlgoSHA1, Value: hex.EncodeToString(e.SHA1)},
			{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(e.SHA256)},
		},
	}
}

// layerIDs has the components name the layers of this image where syft named those of the scanned one.
func (d *document) layerIDs(components []cyclonedx.Component) {
	for i := range components {
		if components[i].Properties == nil {
			continue
		}
		for j := range *components[i].Properties {
			p := &(*components[i].Properties)[j]
			if !strings.HasSuffix(p.Name, ":layerID") {
				continue
			}
			if l := slices.IndexFunc(d.inventory.diffIDs, func(h v1.Hash) bool { return h.String() == p.Value }); l >= 0 {
				p.Value = d.DiffIDs[l].String()
			}
		}
	}
}
