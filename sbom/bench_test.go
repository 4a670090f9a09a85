// SPDX-License-Identifier: Apache-2.0

package sbom_test

import (
	"testing"
)

func BenchmarkScan(b *testing.B) {
	r, err := debian()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := scan(r.image, len(r.options.DiffIDs), b.TempDir()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDocument(b *testing.B) {
	r, err := debian()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := r.inventory.Document(r.files, r.options); err != nil {
			b.Fatal(err)
		}
	}
}
