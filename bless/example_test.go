// SPDX-License-Identifier: Apache-2.0

package bless_test

import (
	"context"
	"fmt"
	"log"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// Image signs the files of an image and writes it to another place, where nothing is visible before
// all of it is there.
func ExampleImage() {
	ctx := context.Background()
	k, err := key.Load(ctx, "bless.key", key.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer k.Close()
	signer, err := xattr.NewSigner(k.Signer, k.Cert)
	if err != nil {
		log.Fatal(err)
	}
	src, err := transport.Open(ctx, "docker-daemon:app:ci", transport.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	dst, err := transport.Create(ctx, "registry.example/app:1.2", transport.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dst.Close()
	result, err := bless.Image(ctx, src, dst, signer, bless.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Blessed)
}
