// SPDX-License-Identifier: Apache-2.0

package cli

// What inspect shows to a person.

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/chain"
)

// largest is how many packages are shown of those that lack nothing; fewNames how many paths of a list.
const (
	largest  = 10
	fewNames = 10
)

// inspectShow is what a person asked to see of an image.
type inspectShow struct {
	image                                  string // as the person named it
	files, packages, unsigned, portability bool
}

// inspectText shows what matters first: whether the image is blessed, by which key, and what is not.
func inspectText(w io.Writer, r *chain.Inspection, show inspectShow) error {
	fmt.Fprintln(w, r.Reference)
	for i := range r.Images {
		img := &r.Images[i]
		fmt.Fprintf(w, "\n%s  %s\n", img.Platform, img.Descriptor.Digest)
		coverageText(w, img, show)
		if show.unsigned {
			for _, f := range img.Unsigned {
				fmt.Fprintf(w, "unsigned  %-14s %s\n", f.IMA, printable(f.Path))
			}
		}
		if img.Blessed() {
			if err := detailText(w, img, show); err != nil {
				return err
			}
		}
		for _, line := range memoryText(img.Memory) {
			fmt.Fprintln(w, line)
		}
		if show.portability || img.Lost() {
			if err := portabilityText(w, img.Portability); err != nil {
				return err
			}
		}
		if show.files {
			filesText(w, img)
		}
	}
	return nil
}

// coverageText tells what the files of the image have, and what is missing.
func coverageText(w io.Writer, img *chain.ImageInspection, show inspectShow) {
	total := &img.Total
	fmt.Fprintf(w, "%s, %s of them code, %s\n", plural(int(total.Regular), "file"), count(total.Code), bytesText(total.Bytes))
	switch {
	case !img.Blessed():
		fmt.Fprintf(w, "not blessed: no file has an attribute, and there are no attestations\nhint: sbom-bless bless %s -t DEST --key KEY\n", show.image)
		return
	case !img.HasAttributes():
		fmt.Fprintln(w, "attested as it is: no file has an attribute")
	}
	for _, name := range total.FormatNames() {
		fmt.Fprintf(w, "security.ima  %s: %s\n", formatText(name), plural(int(total.Formats[name]), "file"))
	}
	if n := total.Unsigned; n > 0 && img.HasAttributes() {
		hint := ""
		if !show.unsigned {
			hint = "; --unsigned lists them"
		}
		fmt.Fprintf(w, "%s without security.ima: added after the blessing%s\n", plural(int(n), "file"), hint)
	}
	if n := total.Broken; n > 0 {
		fmt.Fprintf(w, "%s with a security.ima that cannot be read\n", plural(int(n), "file"))
	}
	if n := total.CodeUnblessed; n > 0 && img.HasAttributes() {
		fmt.Fprintf(w, "%s of code without security.bpf.bless: nodes that trust keys alone will not run them\n", plural(int(n), "file"))
	}
}

// detailText shows attestations, layers and packages.
func detailText(w io.Writer, img *chain.ImageInspection, show inspectShow) error {
	if err := attestationsText(w, img); err != nil {
		return err
	}
	if err := layersText(w, img); err != nil {
		return err
	}
	if img.Listing == nil {
		return nil
	}
	return listingText(w, img.Listing, show.packages)
}

func layersText(w io.Writer, img *chain.ImageInspection) error {
	fmt.Fprintln(w)
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
	return tw.Flush()
}

func attestationsText(w io.Writer, img *chain.ImageInspection) error {
	if len(img.Attestations) == 0 {
		fmt.Fprintln(w, "\nno attestations")
		return nil
	}
	for _, a := range img.Attestations {
		fmt.Fprintf(w, "\nattestations, %s\n", map[string]string{"referrers": "beside the image", "directory": "in the directory", "embedded": "in the image"}[a.Place])
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, s := range a.Statements {
			fmt.Fprintf(tw, "  %s\t%s\n", predicateText(s.PredicateType), signerText(s.Signer))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		if b := a.Blessing; b.Version != "" {
			fmt.Fprintf(w, "  blessed from %s by sbom-bless %s", sourceText(b.Source), printable(b.Version))
			if b.Created != "" {
				fmt.Fprintf(w, ", %s", printable(b.Created))
			}
			fmt.Fprintln(w)
		}
		for _, r := range a.Rejected {
			fmt.Fprintf(w, "  does not count: %s\n", strings.ReplaceAll(r, "\n", "; "))
		}
	}
	return nil
}

func predicateText(t string) string {
	switch t {
	case attest.PredicateSPDX:
		return "SBOM, SPDX"
	case attest.PredicateCycloneDX:
		return "SBOM, CycloneDX"
	case attest.PredicateProvenance:
		return "provenance"
	case attest.PredicateBlessing:
		return "blessing"
	case attest.PredicateReference:
		return "reference to an SBOM"
	}
	return printable(t)
}

func signerText(s attest.Signed) string {
	who := "nobody that it names"
	switch {
	case s.Identity != "":
		who = printable(s.Identity) + " (" + printable(s.Issuer) + ")"
	case s.KeySHA256 != "":
		who = "key sha256:" + s.KeySHA256[:min(12, len(s.KeySHA256))] + "…"
	}
	if s.Delegated {
		who += ", made for one run"
	}
	if !s.Checked {
		return "says it is signed by " + who + ", not checked"
	}
	return "signed by " + who
}

func sourceText(r attest.Resource) string {
	return strings.TrimPrefix(printable(r.Name)+"@sha256:"+r.Digest["sha256"], "@")
}

func listingText(w io.Writer, l *chain.Listing, all bool) error {
	owned := 0
	for _, p := range l.Packages {
		if p.Regular > 0 {
			owned++
		}
	}
	fmt.Fprintf(w, "\n%s in the SBOM, %s of them with files\n", plural(len(l.Packages), "package"), count(int64(owned)))
	order := make([]int, 0, len(l.Packages))
	for i, p := range l.Packages {
		if p.Regular > 0 || all {
			order = append(order, i)
		}
	}
	lacks := func(i int) bool { p := l.Packages[i]; return p.Signed < p.Regular || p.CodeUnblessed > 0 }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(l.Packages[b].Regular, l.Packages[a].Regular) })
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "files\tcode\tsize\tsigned\tbpf.bless\t  package")
	row := func(c bless.Coverage, name string) {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t  %s\n", count(c.Regular), count(c.Code), bytesText(c.Bytes), count(c.Signed), count(c.Bless), name)
	}
	left := 0
	for n, i := range order {
		if p := l.Packages[i]; all || n < largest || lacks(i) {
			row(p.Coverage, printable(p.Type+" "+p.Name+" "+p.Version))
		} else {
			left++
		}
	}
	row(l.Orphans, "no package: orphans")
	if err := tw.Flush(); err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(w, "and %s that lack nothing; --packages lists them\n", plural(left, "package"))
	}
	namesText(w, "in the image, not on the list", l.Unlisted)
	namesText(w, "on the list, not in the image", l.Missing)
	return nil
}

func namesText(w io.Writer, what string, names []string) {
	for i, name := range names {
		if i == fewNames {
			fmt.Fprintf(w, "%s: and %s\n", what, count(int64(len(names)-i)))
			return
		}
		fmt.Fprintf(w, "%s: %s\n", what, printable(name))
	}
}

// memoryText says of each file what it asks for and what that takes on a node, in a line.
func memoryText(files []bless.MemoryFile) (lines []string) {
	for i, f := range files {
		if i == fewNames {
			return append(lines, fmt.Sprintf("and %s that ask for writable and executable memory, or may", plural(len(files)-i, "more file")))
		}
		what := map[string]string{
			bless.MemorySegment:  "has a segment that is writable and executable: it runs under rule jit alone",
			bless.MemoryStack:    "asks for an executable stack: it runs under rule jit alone",
			bless.MemoryNoHeader: "has no stack header, so that its stack is executable: it runs under rule jit alone",
			bless.MemoryUnknown:  "does not have its program headers in its first 4 KiB: not known whether it takes rule jit",
		}[f.Asks]
		lines = append(lines, printable(f.Path)+" "+what)
	}
	return lines
}

func portabilityText(w io.Writer, rows []chain.Portability) error {
	fmt.Fprintln(w, "\nattributes where the image is unpacked")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range rows {
		line := fmt.Sprintf("  %s\t%s", p.Outcome, p.Unpacker)
		if p.Note != "" {
			line += ": " + p.Note
		}
		fmt.Fprintln(tw, line)
	}
	return tw.Flush()
}

func filesText(w io.Writer, img *chain.ImageInspection) {
	fmt.Fprintln(w)
	for i, l := range img.Layers {
		for _, f := range l.Files {
			fmt.Fprintf(w, "%d  %-24s %-10s %s\n", i+1, f.IMA, fileMarks(f), printable(f.Path))
		}
	}
	if img.Listing != nil {
		for _, name := range img.Listing.OrphanFiles {
			fmt.Fprintf(w, "orphan  %s\n", printable(name))
		}
	}
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
