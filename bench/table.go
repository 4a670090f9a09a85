// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// layoutInfo is what the benchmark knows of an image in an OCI layout.
type layoutInfo struct {
	layers []string // paths of the blobs
	size   int64    // of all layers, packed
}

func readLayout(dir string) (layoutInfo, error) {
	var l layoutInfo
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return l, err
	}
	top, err := index.IndexManifest()
	if err != nil {
		return l, err
	}
	for _, m := range top.Manifests {
		if m.Annotations["org.opencontainers.image.ref.name"] != testimage.Tag {
			continue
		}
		image, err := index.Image(m.Digest)
		if err != nil {
			return l, err
		}
		manifest, err := image.Manifest()
		if err != nil {
			return l, err
		}
		for _, d := range manifest.Layers {
			l.layers = append(l.layers, blobPath(dir, d))
			l.size += d.Size
		}
		return l, nil
	}
	return l, fmt.Errorf("%s: nothing is tagged %s", dir, testimage.Tag)
}

func blobPath(dir string, d v1.Descriptor) string {
	return filepath.Join(dir, "blobs", d.Digest.Algorithm, d.Digest.Hex)
}

// row is one line of the table.
type row struct {
	name    string
	in, out layoutInfo
	by      map[string]usage
}

// wall and cpu are the times of a contestant divided by those of another.
func (r row) wall(a, b string) string {
	return r.ratio(a, b, func(u usage) time.Duration { return u.wall })
}

func (r row) cpu(a, b string) string {
	return r.ratio(a, b, func(u usage) time.Duration { return u.cpu })
}

func (r row) ratio(a, b string, of func(usage) time.Duration) string {
	x, ok := r.by[a]
	y, also := r.by[b]
	if !ok || !also {
		return "–"
	}
	return fmt.Sprintf("%.2f", of(x).Seconds()/of(y).Seconds())
}

func printTable(w io.Writer, rows []row, cpus int) {
	fmt.Fprintf(w, `Medians of %d interleaved rounds on %d CPUs; umoci + evmctl once where it takes more than a minute.
bless signs with P-256; it makes no SBOM and no attestation and uses no cache unless the column says so. Ratios are of wall time
unless they say CPU, which tells more than wall time on a machine that has other work.

| image | layers | gzip MB | bless s | CPU s | peak MiB | size out/in | bless / gzip -dc | same, CPU | bless / recompression | umoci + evmctl / bless | warm cache s | with SBOM s | peak MiB | warm cache, with SBOM s | syft s | with SBOM / longer of bless and syft | verify s | verify / gzip -dc + SHA-256 | verify all s |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`, rounds, cpus)
	for _, r := range rows {
		longer := "bless"
		if r.by["syft"].wall > r.by["bless"].wall {
			longer = "syft"
		}
		bless, warm, all, verify := r.by["bless"], r.by["warm"], r.by["all"], r.by["verify"]
		fmt.Fprintf(w, "| %s | %d | %.0f | %.2f | %.2f | %d | %.3f | %s | %s | %s | %s | %.2f | %.2f | %d | %.2f | %.2f | %s | %.2f | %s | %.2f |\n",
			r.name, len(r.in.layers), float64(r.in.size)/1e6,
			bless.wall.Seconds(), bless.cpu.Seconds(), bless.peak>>20, float64(r.out.size)/float64(r.in.size),
			r.wall("bless", "gzip -dc"), r.cpu("bless", "gzip -dc"), r.wall("bless", "recompress"), r.wall("umoci+evmctl", "bless"),
			warm.wall.Seconds(), all.wall.Seconds(), all.peak>>20, r.by["warm all"].wall.Seconds(), r.by["syft"].wall.Seconds(), r.wall("all", longer), verify.wall.Seconds(), r.wall("verify", "gunzip+sha256"), r.by["verify all"].wall.Seconds())
	}
	fmt.Fprintf(w, `
gzip -dc: GNU gzip unpacks the layers, two at a time, and throws them away. recompression: klauspost gzip unpacks
and packs them at level 6, two at a time, and does nothing else. umoci + evmctl: umoci unpack, evmctl ima_sign -r
with the same key, umoci repack. warm cache: the same image again, to the layout that has it. with SBOM: what bless
does by default, SPDX and CycloneDX documents, attestations and the check of what was written included. syft: its own
command, the same two formats. verify: of every file and attribute; all: and of the attestations.
`)
}
