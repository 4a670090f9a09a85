// SPDX-License-Identifier: Apache-2.0

package main

// inspect: what the attributes of an image say, without judging them.

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/transport"
)

const inspectUsage = `Counts the regular files of each layer by what their attributes are. No signature
is verified: that is the business of verify.

   sbom-bless inspect registry.example/app:1.2
   sbom-bless inspect oci:blessed --files --output json`

func newInspect() *cli.Command {
	return &cli.Command{
		Name:        "inspect",
		Usage:       "tell what is signed, by which key, and what is not",
		ArgsUsage:   "IMAGE",
		Description: inspectUsage,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "files", Usage: "list the files"},
		}, commonFlags()...),
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
	src, err := transport.Open(ctx, c.Args().First(), common.transport())
	if err != nil {
		return err
	}
	defer src.Close()
	progress := newProgress(c, common.quiet)
	result, err := bless.Inspect(ctx, src, bless.InspectOptions{
		Platforms: common.platforms, Files: c.Bool("files"), Jobs: common.jobs, Limits: common.limits, Progress: progress,
	})
	progress.close()
	if err != nil {
		return err
	}
	if common.json {
		return writeJSON(c.App.Writer, result)
	}
	return inspectText(c.App.Writer, result, c.Bool("files"))
}

func inspectText(w io.Writer, r *bless.Inspection, files bool) error {
	fmt.Fprintln(w, r.Reference)
	for _, img := range r.Images {
		fmt.Fprintf(w, "\n%s  %s\n", img.Platform, img.Descriptor.Digest)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(tw, "layer\tfiles\tcode\tsize\tsigned\tdigest only\tneither\tbpf.bless\tevm\t")
		row := func(name string, c bless.Coverage) {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, count(c.Regular), count(c.Code), bytesText(c.Bytes),
				count(c.Signed), count(c.Digests), count(c.Unsigned+c.Broken), count(c.Bless), count(c.EVM))
		}
		for i, l := range img.Layers {
			row(fmt.Sprint(i+1), l.Coverage)
		}
		row("all", img.Total)
		if err := tw.Flush(); err != nil {
			return err
		}
		for _, name := range img.Total.FormatNames() {
			fmt.Fprintf(w, "security.ima  %s: %s files\n", formatText(name), count(img.Total.Formats[name]))
		}
		if n := img.Total.Unsigned; n > 0 {
			fmt.Fprintf(w, "%s files have no security.ima: the image was blessed before they came in, or never\n", count(n))
		}
		if n := img.Total.Broken; n > 0 {
			fmt.Fprintf(w, "%s files have a security.ima that cannot be read\n", count(n))
		}
		if n := img.Total.CodeUnblessed; n > 0 {
			fmt.Fprintf(w, "%s code files have no security.bpf.bless: nodes that trust keys alone will not run them\n", count(n))
		}
		if files {
			for i, l := range img.Layers {
				for _, f := range l.Files {
					fmt.Fprintf(w, "%d  %-24s %-10s %s\n", i+1, f.IMA, fileMarks(f), printable(f.Path))
				}
			}
		}
	}
	return nil
}

// formatText spells a format out: "a1b2c3d4 sha256 v2" names the key first.
func formatText(name string) string {
	if strings.HasPrefix(name, "digest ") {
		return name
	}
	return "key " + name
}

func fileMarks(f bless.FileInspection) string {
	var marks []string
	if f.Code {
		marks = append(marks, "code")
	}
	if f.Bless {
		marks = append(marks, "bpf")
	}
	if f.EVM {
		marks = append(marks, "evm")
	}
	return strings.Join(marks, ",")
}

// printable keeps a name of the image from speaking to the terminal.
func printable(name string) string { return strings.Trim(fmt.Sprintf("%+q", name), `"`) }
