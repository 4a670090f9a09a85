// SPDX-License-Identifier: Apache-2.0

// Command bench measures `sbom-bless bless` and `verify` on real images, beside
// what else could be done with them in the same minute on the same machine, and
// prints one Markdown table. Ratios travel; seconds do not.
//
//	go run ./bench [small] [medium] [large] [manyfiles] [huge]
//
// Without arguments it measures all four images; the first run also makes them. "huge" is a
// table of its own: what images of one large file take.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/sbom-bless/sbom-bless/internal/gotool"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// huge names no image, but the measurement of hugeFiles.
const huge = "huge"

// rounds is how often everything is measured; the median counts.
const rounds = 3

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	names := os.Args[1:]
	if len(names) == 0 {
		names = []string{"small", "medium", "large", "manyfiles", huge}
	}
	err := run(ctx, names)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	tmp, err := os.MkdirTemp("", "sbom-bless-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b := &bench{tmp: tmp, program: filepath.Join(tmp, "sbom-bless"), key: filepath.Join(tmp, "bless")}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.program, "github.com/sbom-bless/sbom-bless")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if _, err := measure(build); err != nil {
		return err
	}
	if b.syft, err = gotool.Path(ctx, gotool.Syft); err != nil {
		return err
	}
	if _, err := measure(exec.CommandContext(ctx, b.program, "keygen", "--out", b.key)); err != nil {
		return err
	}
	var rows []row
	for _, name := range names {
		if name == huge {
			continue
		}
		layout, err := testimage.Real(ctx, name)
		if err != nil {
			return err
		}
		r, err := b.image(ctx, name, layout)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, r)
	}
	if len(rows) > 0 {
		printTable(os.Stdout, rows, runtime.NumCPU())
	}
	if slices.Contains(names, huge) {
		large, err := b.hugeFiles(ctx)
		if err != nil {
			return err
		}
		printHuge(os.Stdout, large)
	}
	return nil
}

// bench is one run of the benchmark.
type bench struct {
	tmp, program, syft, key string
}

// image measures everything on one image.
func (b *bench) image(ctx context.Context, name, layout string) (row, error) {
	in, err := readLayout(layout)
	if err != nil {
		return row{}, err
	}
	// What bless writes, for verify and for the sizes; and a cache that knows the image.
	blessed, cache := filepath.Join(b.tmp, "blessed"), filepath.Join(b.tmp, "cache")
	defer os.RemoveAll(blessed)
	defer os.RemoveAll(cache)
	if _, err := measure(b.bless(ctx, layout, blessed, "--cache", cache, "--no-attestations")); err != nil {
		return row{}, err
	}
	attested := filepath.Join(b.tmp, "attested")
	defer os.RemoveAll(attested)
	if _, err := measure(b.bless(ctx, layout, attested, "--cache", cache)); err != nil {
		return row{}, err
	}
	out, err := readLayout(blessed)
	if err != nil {
		return row{}, err
	}

	contestants := []contestant{
		{"bless", func(dir string) (usage, error) {
			return measure(b.bless(ctx, layout, filepath.Join(dir, "out"), "--no-cache", "--no-attestations"))
		}},
		{"all", func(dir string) (usage, error) {
			return measure(b.bless(ctx, layout, filepath.Join(dir, "out"), "--no-cache"))
		}},
		{"gzip -dc", func(string) (usage, error) { return gunzip(ctx, in) }},
		{"recompress", func(string) (usage, error) { return recompress(in) }},
		{"warm", func(string) (usage, error) {
			return measure(b.bless(ctx, layout, blessed, "--cache", cache, "--no-attestations"))
		}},
		{"warm all", func(string) (usage, error) {
			return measure(b.bless(ctx, layout, attested, "--cache", cache))
		}},
		{"verify", func(string) (usage, error) {
			return measure(exec.CommandContext(ctx, b.program, "verify", "oci:"+blessed+":"+testimage.Tag, "--key", b.key+".pub", "--files-only", "--quiet"))
		}},
		{"syft", func(string) (usage, error) {
			return measure(exec.CommandContext(ctx, b.syft, "scan", "--quiet", "oci-dir:"+layout, "-o", "spdx-json="+filepath.Join(b.tmp, "syft.spdx.json"), "-o", "cyclonedx-json="+filepath.Join(b.tmp, "syft.cdx.json")))
		}},
		{"verify all", func(string) (usage, error) {
			return measure(exec.CommandContext(ctx, b.program, "verify", "oci:"+attested+":"+testimage.Tag, "--key", b.key+".pub", "--quiet"))
		}},
		{"gunzip+sha256", func(string) (usage, error) { return gunzipHash(ctx, out) }},
	}
	// On large it needs 6 GB of disk and a quarter of an hour, for a ratio that medium shows as well.
	if name != "large" && installed("umoci", "evmctl") {
		contestants = append(contestants, contestant{"umoci+evmctl", func(dir string) (usage, error) {
			return unpackSignRepack(ctx, layout, b.key+".key", dir)
		}})
	}
	medians, err := compete(b.tmp, name, contestants)
	if err != nil {
		return row{}, err
	}
	return row{name: name, in: in, out: out, by: medians}, nil
}

// bless is the command that blesses a layout.
func (b *bench) bless(ctx context.Context, from, to string, options ...string) *exec.Cmd {
	args := append([]string{"bless", "oci:" + from + ":" + testimage.Tag, "-t", "oci:" + to + ":" + testimage.Tag,
		"--key", b.key + ".key", "--quiet"}, options...)
	return exec.CommandContext(ctx, b.program, args...)
}

func installed(tools ...string) bool {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s is missing: hack/install-tools.sh test\n", tool)
			return false
		}
	}
	return true
}
