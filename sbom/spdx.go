// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // SPDX 2.3, 7.9, defines the package verification code by SHA-1
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anchore/syft/syft/format/common/spdxhelpers"
	"github.com/spdx/tools-golang/convert"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
)

const (
	noAssertion = "NOASSERTION"
	// namespace is where the identifiers of our documents live.
	namespace = "https://github.com/sbom-bless/sbom-bless/spdx/"
)

// spdx writes an SPDX 2.3 document, with the files or without.
func (d *document) spdx(files bool) ([]byte, error) {
	var doc v2_3.Document
	if err := convert.Document(spdxhelpers.ToFormatModel(d.model()), &doc); err != nil {
		return nil, err
	}
	packages := len(d.inventory.packages)
	if len(doc.Packages) != packages+1 {
		return nil, fmt.Errorf("%d packages, want %d and the image", len(doc.Packages), packages)
	}
	root := doc.Packages[packages]
	doc.DocumentNamespace = namespace + d.Digest.Algorithm + "-" + d.Digest.Hex
	doc.CreationInfo.Created = d.Created.UTC().Format(time.RFC3339)
	doc.CreationInfo.Creators = []common.Creator{
		{CreatorType: "Tool", Creator: "sbom-bless-" + d.Version},
		{CreatorType: "Tool", Creator: "syft-" + d.inventory.tool},
	}
	if files {
		d.spdxFiles(&doc, root)
	} else {
		doc.DocumentComment = "The files of the image are left out of this document."
	}
	slices.SortFunc(doc.OtherLicenses, func(a, b *v2_3.OtherLicense) int {
		return cmp.Compare(a.LicenseIdentifier, b.LicenseIdentifier)
	})
	slices.SortFunc(doc.Relationships, func(a, b *v2_3.Relationship) int {
		return cmp.Or(cmp.Compare(a.RefA.ElementRefID, b.RefA.ElementRefID), cmp.Compare(a.Relationship, b.Relationship), cmp.Compare(a.RefB.ElementRefID, b.RefB.ElementRefID))
	})
	return jsonedit.Marshal(doc)
}

// spdxFiles adds the regular files, each contained in its package, or in the image.
func (d *document) spdxFiles(doc *v2_3.Document, root *v2_3.Package) {
	contained := map[*v2_3.Package][]string{} // SHA-1 of the files
	for i := range d.files.Files {
		e := &d.files.Files[i]
		if !e.Regular() {
			continue
		}
		f := &v2_3.File{
			FileName:           quote(e.Name),
			FileSPDXIdentifier: common.ElementID("File-" + pathID(e.Name)),
			Checksums: []common.Checksum{
				{Algorithm: common.SHA1, Value: hex.EncodeToString(e.SHA1)},
				{Algorithm: common.SHA256, Value: hex.EncodeToString(e.SHA256)},
			},
			LicenseConcluded:   noAssertion,
			LicenseInfoInFiles: []string{noAssertion},
			FileCopyrightText:  noAssertion,
			FileComment:        "layerID: " + d.DiffIDs[e.Content].String(),
		}
		doc.Files = append(doc.Files, f)
		in := root
		if i, ok := d.owner[e.Name]; ok {
			in = doc.Packages[i]
		}
		contained[in] = append(contained[in], hex.EncodeToString(e.SHA1))
		doc.Relationships = append(doc.Relationships, &v2_3.Relationship{
			RefA:         common.MakeDocElementID("", string(in.PackageSPDXIdentifier)),
			RefB:         common.MakeDocElementID("", string(f.FileSPDXIdentifier)),
			Relationship: common.TypeRelationshipContains,
		})
	}
	for p, sums := range contained {
		p.FilesAnalyzed = true
		p.PackageVerificationCode = &common.PackageVerificationCode{Value: verificationCode(sums)}
	}
}

// verificationCode is the package verification code of SPDX 2.3, 7.9: SHA-1 over the sorted SHA-1 sums in hexadecimal.
func verificationCode(sums []string) string {
	slices.Sort(sums)
	sum := sha1.Sum([]byte(strings.Join(sums, ""))) //nolint:gosec // as the format demands
	return hex.EncodeToString(sum[:])
}
