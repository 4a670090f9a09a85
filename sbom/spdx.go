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
	"github.com/sbom-bless/sbom-bless/tree"
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
	held := d.regular()
	if !files {
		doc.DocumentComment = "The files of the image are left out of this document."
		held = nil
	}
	slices.SortFunc(doc.OtherLicenses, func(a, b *v2_3.OtherLicense) int {
		return cmp.Compare(a.LicenseIdentifier, b.LicenseIdentifier)
	})
	slices.SortFunc(doc.Relationships, compareRelationships)
	if len(held) == 0 {
		return jsonedit.Marshal(doc)
	}
	container := func(e *tree.Entry) *v2_3.Package {
		if i, ok := d.owner[e.Name]; ok {
			return doc.Packages[i]
		}
		return root
	}
	contained := map[*v2_3.Package][]string{} // SHA-1 of the files
	for _, e := range held {
		p := container(e)
		contained[p] = append(contained[p], hex.EncodeToString(e.SHA1))
	}
	for p, sums := range contained {
		p.FilesAnalyzed = true
		p.PackageVerificationCode = &common.PackageVerificationCode{Value: verificationCode(sums)}
	}
	mark := common.MakeDocElementID("", "mark")
	fileMark, relationMark := &v2_3.File{FileSPDXIdentifier: mark.ElementRefID}, &v2_3.Relationship{RefA: mark, RefB: mark}
	relations := doc.Relationships
	doc.Files, doc.Relationships = []*v2_3.File{fileMark}, []*v2_3.Relationship{relationMark}
	raw, err := jsonedit.Marshal(doc)
	if err != nil {
		return nil, err
	}
	f := frame{rest: raw}
	f.out.Grow(len(raw) + 750*len(held)) // or about so
	err = f.list(fileMark, func(yield func(any) bool) {
		for _, e := range held {
			if !yield(d.spdxFile(e)) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	// Relationships of packages and files are one sorted list.
	slices.SortFunc(held, func(a, b *tree.Entry) int {
		return cmp.Or(cmp.Compare(container(a).PackageSPDXIdentifier, container(b).PackageSPDXIdentifier), cmp.Compare(pathID(a.Name), pathID(b.Name)))
	})
	err = f.list(relationMark, func(yield func(any) bool) {
		for _, e := range held {
			r := &v2_3.Relationship{
				RefA:         common.MakeDocElementID("", string(container(e).PackageSPDXIdentifier)),
				RefB:         common.MakeDocElementID("", string(fileID(e))),
				Relationship: common.TypeRelationshipContains,
			}
			for len(relations) > 0 && compareRelationships(relations[0], r) <= 0 {
				if !yield(relations[0]) {
					return
				}
				relations = relations[1:]
			}
			if !yield(r) {
				return
			}
		}
		for _, r := range relations {
			if !yield(r) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return f.end(), nil
}

func compareRelationships(a, b *v2_3.Relationship) int {
	return cmp.Or(cmp.Compare(a.RefA.ElementRefID, b.RefA.ElementRefID), cmp.Compare(a.Relationship, b.Relationship), cmp.Compare(a.RefB.ElementRefID, b.RefB.ElementRefID))
}

// spdxFile describes a regular file.
func (d *document) spdxFile(e *tree.Entry) *v2_3.File {
	return &v2_3.File{
		FileName:           quote(e.Name),
		FileSPDXIdentifier: fileID(e),
		Checksums: []common.Checksum{
			{Algorithm: common.SHA1, Value: hex.EncodeToString(e.SHA1)},
			{Algorithm: common.SHA256, Value: hex.EncodeToString(e.SHA256)},
		},
		LicenseConcluded:   noAssertion,
		LicenseInfoInFiles: []string{noAssertion},
		FileCopyrightText:  noAssertion,
		FileComment:        "layerID: " + d.DiffIDs[e.Content].String(),
	}
}

func fileID(e *tree.Entry) common.ElementID { return common.ElementID("File-" + pathID(e.Name)) }

// verificationCode is the package verification code of SPDX 2.3, 7.9: SHA-1 over the sorted SHA-1 sums in hexadecimal.
func verificationCode(sums []string) string {
	slices.Sort(sums)
	sum := sha1.Sum([]byte(strings.Join(sums, ""))) //nolint:gosec // as the format demands
	return hex.EncodeToString(sum[:])
}
