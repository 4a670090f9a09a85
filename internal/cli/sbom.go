// SPDX-License-Identifier: Apache-2.0

package cli

// sbom: the SBOM that came with a blessed image.

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/chain"
	"github.com/sbom-bless/sbom-bless/transport"
)

const sbomUsage = `Prints the SBOM that bless attached to an image, whole, or with --attestation the
signed bundle that carries it, as cosign and sigstore tools read it. --format table lists the packages
with the number of their files, for people.

   sbom-bless sbom registry.example/app:1.2 --key bless.pub --format table
   sbom-bless sbom registry.example/app:1.2 --key bless.pub
   sbom-bless sbom registry.example/app:1.2 --key bless.pub --format cyclonedx-json --attestation`

// sbomTypes are the formats of documents.
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
			&cli.StringFlag{Name: "format", Value: "spdx-json", Usage: "spdx-json, cyclonedx-json or table"},
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
	table := c.String("format") == "table"
	if !ok && !table {
		return usagef("--format %s: choose spdx-json, cyclonedx-json or table", c.String("format"))
	}
	if table && c.Bool("attestation") {
		return usagef("--attestation prints the bundle of a document: choose --format spdx-json or cyclonedx-json")
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
	if table {
		if len(v.Blessing.SBOMs) == 0 {
			return fmt.Errorf("%s: the blessing names no SBOM", ref)
		}
		return packageTable(c.App.Writer, v.Files)
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

// packageTable lists the packages of a file list, by type and name, with the number of their files.
func packageTable(w io.Writer, l *filelist.List) error {
	type row struct {
		filelist.Package
		files int64
	}
	rows := make([]row, len(l.Packages()))
	for i, p := range l.Packages() {
		rows[i].Package = p
	}
	for i := range l.Len() {
		if p := l.File(i).Package; p >= 0 {
			rows[p].files++
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TYPE\tNAME\tVERSION\tFILES")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", printable(r.Type), printable(r.Name), printable(r.Version), count(r.files))
	}
	return tw.Flush()
}

func printDocument(w io.Writer, doc []byte) error {
	_, err := io.Copy(w, io.MultiReader(bytes.NewReader(doc), strings.NewReader("\n")))
	return err
}
