// SPDX-License-Identifier: Apache-2.0

package chain_test

import (
	"context"
	"crypto"
	"fmt"
	"log"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/chain"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Verify reads every byte of an image and holds it against its attestations.
func ExampleVerify() {
	ctx := context.Background()
	pub, err := key.LoadPublic(ctx, "bless.crt")
	if err != nil {
		log.Fatal(err)
	}
	src, err := transport.Open(ctx, "registry.example/app:1.2", transport.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	result, err := chain.Verify(ctx, src, chain.VerifyOptions{
		Trust:  attest.Trust{Keys: []crypto.PublicKey{pub}},
		Places: locate.Places("", src),
	})
	if err != nil {
		log.Fatal(err) // the image could not be read
	}
	for _, problem := range result.Problems {
		fmt.Println(problem)
	}
}
