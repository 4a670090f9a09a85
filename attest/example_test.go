// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/transport"
)

// Verify finds the blessing of an image among the attestations in a directory, if a trusted key signed it.
func ExampleVerify() {
	ctx := context.Background()
	pub, err := key.LoadPublic(ctx, "bless.crt")
	if err != nil {
		log.Fatal(err)
	}
	image, err := v1.NewHash("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	if err != nil {
		log.Fatal(err)
	}
	verified, err := attest.Verify(ctx, transport.OpenDir("attestations"), image, attest.Trust{Keys: []crypto.PublicKey{pub}})
	switch {
	case errors.Is(err, attest.ErrNone):
		fmt.Println("nobody says anything about the image")
	case errors.Is(err, attest.ErrUntrusted):
		fmt.Println("somebody does, whom nobody trusts")
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println("blessed as", verified.Blessing.Image)
	}
}
