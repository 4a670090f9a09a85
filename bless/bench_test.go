// SPDX-License-Identifier: Apache-2.0

package bless_test

import (
	"context"
	"testing"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// BenchmarkImage blesses a real image of three layers, and BenchmarkVerify
// verifies it. Bytes are those of the compressed layers.
func BenchmarkImage(b *testing.B) {
	signer, _ := newSigner(b)
	dir, err := testimage.Real(context.Background(), "medium")
	if err != nil {
		b.Fatal(err)
	}
	var size int64
	for b.Loop() {
		_, result := mustBless(b, "oci:"+dir, signer, bless.Options{})
		size = 0
		for _, l := range result.Images[0].Layers {
			size += l.Source.Size
		}
	}
	b.SetBytes(size)
}
