// SPDX-License-Identifier: Apache-2.0

package cli

// diff: what two images have that is not the same.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/chain"
	"github.com/sbom-bless/sbom-bless/transport"
)

const diffUsage = `Reads both images, signed or not, and lists packages and files that were added, removed or
changed from A to B: first the packages, with the number of their files, then the files that
no changed package explains. What bless sets is no difference, and neither are modification times
or how files are spread over layers. Exit code 0, with --exit-code 3 if anything differs.

   sbom-bless diff registry.example/app:1.1 registry.example/app:1.2
   sbom-bless diff docker-daemon:app:ci oci:blessed --exit-code`

func newDiff() *cli.Command {
	return &cli.Command{
		Name:        "diff",
		Usage:       "list packages and files that differ between two images, signed or not",
		ArgsUsage:   "A B",
		Description: diffUsage,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "files", Usage: "list all files, also those of packages that changed"},
			&cli.BoolFlag{Name: "exit-code", Category: "Output", Usage: "exit with 3 if anything differs"},
			&cli.StringFlag{Name: "cache", Usage: "directory that remembers packages of layers (default: sbom-bless in the user's cache directory)"},
			&cli.BoolFlag{Name: "no-cache", Usage: "remember nothing and look nothing up"},
		}, commonFlags()...),
		Action: func(c *cli.Context) error { return runDiff(c.Context, c) },
	}
}

func runDiff(ctx context.Context, c *cli.Context) (err error) {
	if c.NArg() != 2 {
		return usagef("diff takes two images\nhint: sbom-bless diff oci:old oci:new")
	}
	common, err := readCommon(c)
	if err != nil {
		return err
	}
	o := chain.DiffOptions{Platforms: common.platforms, Jobs: common.jobs, Limits: common.limits, Cache: openCache(c)}
	defer noteCache(c, o.Cache)
	var sources []transport.Source
	for _, ref := range c.Args().Slice() {
		src, err := transport.Open(ctx, ref, common.transport())
		if err != nil {
			return err
		}
		defer src.Close()
		sources = append(sources, src)
	}
	progress := newProgress(c, common.quiet)
	o.Progress = progress
	d, err := chain.Diff(ctx, sources[0], sources[1], o)
	progress.close()
	if err != nil {
		return err
	}
	if common.json {
		err = writeJSON(c.App.Writer, d)
	} else {
		err = diffText(c.App.Writer, d, c.Bool("files"))
	}
	if err == nil && c.Bool("exit-code") && !d.Same() {
		return cli.Exit("the images differ", exitWrong)
	}
	return err
}

func diffText(w io.Writer, d *chain.Difference, files bool) error {
	fmt.Fprintf(w, "- %s\n+ %s\n", d.From.Reference, d.To.Reference)
	var errs []error
	for _, img := range d.Images {
		fmt.Fprintf(w, "\n%s\n", img.Platform)
		errs = append(errs, imageDiffText(w, &img, files))
	}
	for _, p := range d.Removed {
		fmt.Fprintf(w, "\n%s\n- in the first image alone\n", p)
	}
	for _, p := range d.Added {
		fmt.Fprintf(w, "\n%s\n+ in the second image alone\n", p)
	}
	return errors.Join(errs...)
}

// signs begin the line of a change.
var signs = map[chain.Change]string{chain.Added: "+", chain.Removed: "-", chain.Changed: "~"}

// changeCounts counts changes by their kind.
type changeCounts map[chain.Change]int

// of tells how many of what were added, removed and changed: "3 files: 1 added, 2 changed".
func (c changeCounts) of(noun string) string {
	var parts []string
	all := 0
	for _, change := range []chain.Change{chain.Added, chain.Removed, chain.Changed} {
		if n := c[change]; n > 0 {
			all += n
			parts = append(parts, count(int64(n))+" "+string(change))
		}
	}
	if all == 0 {
		return "the same " + noun + "s"
	}
	return plural(all, noun) + ": " + strings.Join(parts, ", ")
}

func imageDiffText(w io.Writer, img *chain.ImageDifference, files bool) error {
	packages, all := changeCounts{}, changeCounts{}
	owned := map[chain.PackageIdentity]changeCounts{} // files of packages that changed
	for _, p := range img.Packages {
		packages[p.Change]++
		owned[chain.PackageIdentity{Type: p.Type, Name: p.Name}] = changeCounts{}
	}
	explained := func(f *chain.FileChange) changeCounts {
		for _, s := range []*chain.FileState{f.To, f.From} {
			if s != nil && s.Package != nil && owned[*s.Package] != nil {
				return owned[*s.Package]
			}
		}
		return nil
	}
	var listed []*chain.FileChange
	for i := range img.Files {
		f := &img.Files[i]
		all[f.Change]++
		counts := explained(f)
		if counts != nil {
			counts[f.Change]++
		}
		if counts == nil || files {
			listed = append(listed, f)
		}
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, packages.of("package"))
	for _, p := range img.Packages {
		version := printable(p.From + p.To) // one of them, unless it changed
		if p.Change == chain.Changed {
			version = printable(p.From) + " → " + printable(p.To)
		}
		id := chain.PackageIdentity{Type: p.Type, Name: p.Name}
		fmt.Fprintf(tw, "%s %s\t%s\t%s\n", signs[p.Change], printable(id.Type+" "+id.Name), version, owned[id].of("file"))
	}
	fmt.Fprintln(tw, all.of("file"))
	if n := len(img.Files) - len(listed); n > 0 {
		fmt.Fprintf(tw, "  %s of changed packages; --files lists them\n", plural(n, "file"))
	}
	for _, f := range listed {
		state := f.To
		if state == nil {
			state = f.From
		}
		owner := "no package"
		if state.Package != nil {
			owner = state.Package.Type + " " + state.Package.Name
		}
		fmt.Fprintf(tw, "%s %s\t%s\t%s\n", signs[f.Change], printable(f.Path), fileChangeText(f), printable(owner))
	}
	return tw.Flush()
}

// fileChangeText tells in what a file changed.
func fileChangeText(f *chain.FileChange) string {
	var parts []string
	for _, what := range f.What {
		from, to := "", ""
		switch what {
		case "type":
			from, to = f.From.Type, f.To.Type
		case "mode":
			from, to = f.From.Mode, f.To.Mode
		case "owner":
			from, to = fmt.Sprintf("%d:%d", f.From.UID, f.From.GID), fmt.Sprintf("%d:%d", f.To.UID, f.To.GID)
		case "link":
			from, to = printable(f.From.Link), printable(f.To.Link)
		default:
			parts = append(parts, what)
			continue
		}
		parts = append(parts, what+" "+from+" → "+to)
	}
	return strings.Join(parts, ", ")
}
