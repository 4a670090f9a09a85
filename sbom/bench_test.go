// SPDX-License-Identifier: Apache-2.0

package sbom_test

import (
	"context"
	"testing"

	"github.com/sbom-bless/sbom-bless/sbom"
)

func BenchmarkScan(b *testing.B) {
	r, err := debian()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := sbom.Scan(context.Background(), r.image, len(r.options.DiffIDs), b.TempDir()); err != nil {
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
