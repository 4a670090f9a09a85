// SPDX-License-Identifier: Apache-2.0

package cli

// inspect: what attributes and attestations of an image say, without judging them.

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/chain"
	"github.com/sbom-bless/sbom-bless/transport"
)

const inspectUsage = `Tells whether the image is blessed, by which key, and what lacks a signature; then shows the
attestations and who signed them, the files of each layer and package by what their attributes are,
and files that no package owns or that are not on the list. What unpackers make of the image is shown
if attributes are missing, or with --portability. Digests of files are not computed
and signatures of files not verified: that is the business of verify. Signatures of
attestations are verified if --key or an identity says whose count.

   sbom-bless inspect registry.example/app:1.2
   sbom-bless inspect oci:blessed --unsigned
   sbom-bless inspect oci:blessed --files --output json`

func newInspect() *cli.Command {
	return &cli.Command{
		Name:        "inspect",
		Usage:       "tell what is signed, by which key, and what is not, per layer and package",
		ArgsUsage:   "IMAGE",
		Description: inspectUsage,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "files", Category: "Output", Usage: "list the files"},
			&cli.BoolFlag{Name: "unsigned", Usage: "list the files that have no signature"},
			&cli.BoolFlag{Name: "portability", Usage: "show what becomes of the attributes where the image is unpacked"},
			&cli.BoolFlag{Name: "packages", Usage: "list all packages, not only the largest and those that lack something"},
			&cli.StringSliceFlag{Name: "key", Usage: "trusted key of the attestations; without it their signatures are not checked"},
			&cli.StringFlag{Name: "attestations", Usage: "look for attestations in this directory first, and not beside the image; what is in the image counts all the same"},
		}, append(identityFlags(), commonFlags()...)...),
		Action: func(c *cli.Context) error { return runInspect(c.Context, c) },
	}
}

func runInspect(ctx context.Context, c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("inspect takes one IMAGE\nhint: sbom-bless inspect oci:blessed")
	}
	common, err := readCommon(c)
	if err != nil {
		return err
	}
	trust, given, err := readTrust(ctx, c)
	if err != nil {
		return err
	}
	if !given {
		trust = attest.Trust{Unchecked: true}
	}
	src, err := transport.Open(ctx, c.Args().First(), common.transport())
	if err != nil {
		return err
	}
	defer src.Close()
	progress := newProgress(c, common.quiet)
	result, err := chain.Inspect(ctx, src, chain.InspectOptions{
		InspectOptions: bless.InspectOptions{Platforms: common.platforms, Files: c.Bool("files"), Jobs: common.jobs, Limits: common.limits, Progress: progress},
		Trust:          trust, Places: locate.Places(c.String("attestations"), src), Unsigned: c.Bool("unsigned"),
	})
	progress.close()
	if err != nil {
		return err
	}
	if common.json {
		return writeJSON(c.App.Writer, result)
	}
	return inspectText(c.App.Writer, result, inspectShow{c.Args().First(), c.Bool("files"), c.Bool("packages"), c.Bool("unsigned"), c.Bool("portability")})
}
