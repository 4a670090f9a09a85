// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fallbackTag is the tag of the list of referrers where there is no API for it
// (OCI distribution specification 1.1, referrers tag schema).
func fallbackTag(subject v1.Hash) string { return subject.Algorithm + "-" + subject.Hex }

// referrerList collects descriptors from several lists.
type referrerList []v1.Descriptor

// add takes desc if it has that artifactType, or if that is empty.
func (l *referrerList) add(desc v1.Descriptor, artifactType string) {
	if artifactType == "" || desc.ArtifactType == artifactType {
		*l = append(*l, desc)
	}
}

func (l referrerList) sorted() []v1.Descriptor {
	slices.SortStableFunc(l, func(a, b v1.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return slices.CompactFunc(l, func(a, b v1.Descriptor) bool { return a.Digest == b.Digest })
}
