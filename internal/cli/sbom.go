// SPDX-License-Identifier: Apache-2.0

package cli

// sbom: the SBOM that came with a blessed image.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/chain"
	"github.com/sbom-bless/sbom-bless/transport"
)

const sbomUsage = `Prints the SBOM that bless attached to an image, whole, or with --attestation the
signed bundle that carries it, as cosign and sigstore tools read it.

   sbom-bless sbom registry.example/app:1.2 --key bless.pub
   sbom-bless sbom registry.example/app:1.2 --key bless.pub --format cyclonedx-json --attestation`

// sbomTypes are the formats of --format.
var sbomTypes = map[string]struct{ mediaType, predicateType string }{
	"spdx-json":      {attest.MediaTypeSPDX, attest.PredicateSPDX},
	"cyclonedx-json": {attest.MediaTypeCycloneDX, attest.PredicateCycloneDX},
}

func newSBOM() *cli.Command {
	return &cli.Command{
		Name:        "sbom",
		Usage:       "print the SBOM attached to a blessed image",
		ArgsUsage:   "IMAGE --key PUB|CRT",
		Description: sbomUsage,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "key", Usage: "trusted key: public key or certificate file, KMS or pkcs11: URI; without it the signature is not checked"},
			&cli.StringFlag{Name: "format", Value: "spdx-json", Usage: "spdx-json or cyclonedx-json"},
			&cli.BoolFlag{Name: "attestation", Usage: "print the signed sigstore bundle"},
			&cli.StringFlag{Name: "attestations", Usage: "look for attestations in this directory first, and not beside the image; what is in the image counts all the same"},
			&cli.StringFlag{Name: "platform", Usage: "os/arch[/variant] of an index (default: this machine's)"},
			&cli.BoolFlag{Name: "insecure", Usage: "talk to registries by plain http, or by https without a valid certificate"},
		}, identityFlags()...),
		Action: func(c *cli.Context) error { return runSBOM(c.Context, c) },
	}
}

func runSBOM(ctx context.Context, c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("sbom takes one IMAGE\nhint: sbom-bless sbom registry.example/app:1.2 --key bless.pub")
	}
	format, ok := sbomTypes[c.String("format")]
	if !ok {
		return usagef("--format %s: choose spdx-json or cyclonedx-json", c.String("format"))
	}
	trust, given, err := readTrust(ctx, c)
	if err != nil {
		return err
	}
	if !given {
		trust = attest.Trust{Unchecked: true}
		fmt.Fprintln(c.App.ErrWriter, "sbom-bless: signature not checked\nhint: --key names the key to trust")
	}
	var platform *v1.Platform
	if p := c.String("platform"); p != "" {
		if platform, err = v1.ParsePlatform(p); err != nil {
			return usagef("--platform %s: %v", p, err)
		}
	}
	ref := c.Args().First()
	src, err := transport.Open(ctx, ref, transport.Options{Insecure: c.Bool("insecure")})
	if err != nil {
		return err
	}
	defer src.Close()
	image, err := chain.Manifest(ctx, src, platform)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	places := locate.Places(c.String("attestations"), src)
	if c.Bool("attestation") && c.String("attestations") == "" {
		slices.Reverse(places) // other tools hold the bundle against the digest of the image, which embedded ones are not about
	}
	v, err := locate.First(ctx, places, locate.Query{Image: image, Trust: trust})
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	if !c.Bool("attestation") {
		doc, err := v.SBOM(ctx, format.mediaType)
		if err != nil {
			return err
		}
		return printDocument(c.App.Writer, doc)
	}
	for i := range v.Attestations {
		a := &v.Attestations[i]
		if a.Statement.PredicateType != format.predicateType {
			continue
		}
		bundle, err := v.Bundle(ctx, a)
		if err != nil {
			return err
		}
		return printDocument(c.App.Writer, bundle)
	}
	return fmt.Errorf("%s: no attestation of type %s", ref, format.predicateType)
}

func printDocument(w io.Writer, doc []byte) error {
	_, err := io.Copy(w, io.MultiReader(bytes.NewReader(doc), strings.NewReader("\n")))
	return err
}
