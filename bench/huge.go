// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// hugeRow tells what images of one file take, by the size of the file.
type hugeRow struct {
	packing string
	size    int64
	by      map[string]usage
}

// hugeFiles measures whether memory depends on the largest file of an image.
func (b *bench) hugeFiles(ctx context.Context) ([]hugeRow, error) {
	var rows []hugeRow
	for _, packing := range []string{"", "gzip", "zstd"} {
		for _, size := range []int64{64 << 20, 1 << 30} {
			r, err := b.hugeFile(ctx, packing, size)
			if err != nil {
				return nil, err
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func (b *bench) hugeFile(ctx context.Context, packing string, size int64) (hugeRow, error) {
	r := hugeRow{packing, size, map[string]usage{}}
	dir := filepath.Join(b.tmp, "huge")
	defer os.RemoveAll(dir)
	source, blessed := filepath.Join(dir, "source"), filepath.Join(dir, "blessed")
	if err := testimage.WriteHuge(source, packing, size); err != nil {
		return r, err
	}
	for _, c := range []struct {
		name string
		cmd  *exec.Cmd
	}{
		{"bless", b.bless(ctx, source, blessed, "--no-cache", "--no-attestations")},
		{"verify", exec.CommandContext(ctx, b.program, "verify", "oci:"+blessed+":"+testimage.Tag, "--key", b.key+".pub", "--files-only", "--quiet")},
		{"all", b.bless(ctx, source, filepath.Join(dir, "attested"), "--no-cache")},
	} {
		u, err := measure(c.cmd)
		if err != nil {
			return r, err
		}
		r.by[c.name] = u
	}
	return r, nil
}

func printHuge(w io.Writer, rows []hugeRow) {
	fmt.Fprint(w, `
One layer with one file, half noise and half text: the memory must not depend on its size.

| packed as | file MiB | bless peak MiB | CPU s | verify peak MiB | with SBOM peak MiB |
|---|---|---|---|---|---|
`)
	for _, r := range rows {
		packing := r.packing
		if packing == "" {
			packing = "tar"
		}
		fmt.Fprintf(w, "| %s | %d | %d | %.2f | %d | %d |\n", packing, r.size>>20,
			r.by["bless"].peak>>20, r.by["bless"].cpu.Seconds(), r.by["verify"].peak>>20, r.by["all"].peak>>20)
	}
}
