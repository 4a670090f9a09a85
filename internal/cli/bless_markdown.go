// SPDX-License-Identifier: Apache-2.0

package cli

// What bless did, as Markdown: for the page that a CI system shows of a job.

import (
	"fmt"
	"html"
	"strings"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/chain"
)

// blessMarkdown is a table with a row for each platform, and below it what is not signed or needs a rule.
func blessMarkdown(r *chain.Result, o chain.Options) string {
	var w strings.Builder
	verb := "Blessed"
	if o.Detached {
		verb = "Attested"
	}
	fmt.Fprintf(&w, "### %s %s\n\nfrom %s\n\n", verb, markdownCode(r.Blessed), markdownCode(r.Source))
	w.WriteString("| platform | files | code | packages | size | signed |\n|---|--:|--:|--:|--:|---|\n")
	attested := map[string]chain.Attested{}
	for _, a := range r.Attested {
		attested[a.Platform] = a
	}
	for _, img := range r.Images {
		packages := "not counted"
		if a, ok := attested[img.Platform]; ok && a.Packages >= 0 {
			packages = count(int64(a.Packages))
		}
		s := sumOf(img)
		size := bytesText(s.out)
		if !o.Detached {
			size += fmt.Sprintf(" (%+.1f %%)", s.growth())
		}
		fmt.Fprintf(&w, "| %s | %s | %s | %s | %s | %s |\n",
			markdownCode(img.Platform), count(s.Regular), count(s.Code), packages, size, signedMarkdown(r, o))
	}
	for _, line := range unsignedMarkdown(r, o) {
		fmt.Fprintf(&w, "\n- %s", line)
	}
	w.WriteString("\n")
	return w.String()
}

// signedMarkdown says what is signed of each platform.
func signedMarkdown(r *chain.Result, o chain.Options) string {
	files := ""
	if r.KeyID != "" && !o.Detached {
		files = "each file, by key " + markdownCode(r.KeyID)
	}
	switch {
	case len(r.Attested) == 0 && files == "":
		return "nothing"
	case len(r.Attested) == 0:
		return files
	case files == "":
		return "the list of files and the SBOMs"
	}
	return files + ", and the list of files and the SBOMs"
}

// unsignedMarkdown says what is not signed, and what follows from it on a node.
func unsignedMarkdown(r *chain.Result, o chain.Options) (lines []string) {
	switch {
	case o.Detached:
		lines = append(lines, "**Not signed:** the files. The image is as it was: nodes hold it to its signed list (trust `sbom`)")
	case r.KeyID == "" && len(r.Attested) == 0:
		lines = append(lines, "**Not signed:** anything. Files carry digests, which vouch for nobody")
	case r.KeyID == "":
		lines = append(lines, "**Not signed:** the files. They carry digests: nodes hold them to the signed list (trust `sbom`); trust `keyring` and the kernel's own IMA refuse them")
	case len(r.Attested) == 0:
		lines = append(lines, "**Not signed:** a list of files, an SBOM. Nodes with trust `sbom` do not run this image")
	}
	if len(r.Dropped) > 0 {
		lines = append(lines, plural(len(r.Dropped), "attestation manifest")+" of the source dropped, which no longer hold")
	}
	for _, img := range r.Images {
		for _, line := range memoryText(img.Memory) {
			if len(r.Images) > 1 {
				line = img.Platform + ": " + line
			}
			lines = append(lines, "**Warning:** "+markdownText(line))
		}
	}
	for _, n := range r.Notices {
		lines = append(lines, markdownText(n))
	}
	return lines
}

// imageSum adds up the layers of a platform. In and out are the sizes of the image before and after.
type imageSum struct {
	bless.LayerStats
	in, out int64
}

func (s imageSum) growth() float64 { return 100 * (float64(s.out)/float64(max(s.in, 1)) - 1) }

func sumOf(img bless.ImageResult) (s imageSum) {
	for _, l := range img.Layers {
		s.LayerStats = s.Add(l.LayerStats)
		s.in, s.out = s.in+l.Source.Size, s.out+l.Blessed.Size
	}
	if e := img.Embedded; e != nil {
		s.out += e.Layer.Size
	}
	if e := img.SourceEmbedded; e != nil {
		s.in += e.Size
	}
	return s
}

// markdownText keeps a text with names of the image from being Markdown or HTML.
func markdownText(text string) string {
	return strings.NewReplacer("\n", " ", "|", "&#124;", "`", "&#96;", "*", "&#42;", "_", "&#95;", "[", "&#91;", "]", "&#93;", "\\", "&#92;", "@", "&#64;").Replace(html.EscapeString(text))
}

func markdownCode(text string) string { return "<code>" + markdownText(text) + "</code>" }
