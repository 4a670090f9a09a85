// SPDX-License-Identifier: Apache-2.0

package cli

// The flags that bless, verify and inspect share, and how numbers look.

import (
	"fmt"
	"os"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/transport"
)

func commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "platform", Usage: "os/arch[/variant] of an index, repeatable (default: all)"},
		&cli.BoolFlag{Name: "insecure", Usage: "talk to registries by plain http, or by https without a valid certificate"},
		&cli.IntFlag{Name: "jobs", DefaultText: "one per processor", Usage: "layers and signatures at a time"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "text or json"},
		&cli.BoolFlag{Name: "verbose", Usage: "tell the stages of the run and their times"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "no progress, no summary"},
		&cli.StringFlag{Name: "max-layer-size", Value: "64G", Usage: "refuse layers that unpack to more bytes (K, M, G, T)"},
		&cli.Int64Flag{Name: "max-ratio", Value: 250, Usage: "refuse layers that unpack to more times their size, and to more than 1 GiB"},
		&cli.Int64Flag{Name: "max-entries", Value: 1_000_000, Usage: "refuse layers with more entries"},
		&cli.StringFlag{Name: "max-header-size", Value: "1M", Usage: "refuse layers with larger tar extension headers"},
		&cli.StringFlag{Name: "max-zstd-window", Value: "128M", Usage: "refuse zstd layers that need a larger window"},
		&cli.Int64Flag{Name: "max-xattr-size", Value: 3900, Usage: "refuse files whose attributes take more bytes"},
	}
}

// commonOptions is what commonFlags say.
type commonOptions struct {
	platforms []v1.Platform
	insecure  bool
	jobs      int
	json      bool
	quiet     bool
	limits    bless.Limits
}

func readCommon(c *cli.Context) (commonOptions, error) {
	o := commonOptions{insecure: c.Bool("insecure"), jobs: c.Int("jobs"), quiet: c.Bool("quiet")}
	var err error
	if o.json, err = wantsJSON(c); err != nil {
		return o, err
	}
	if o.jobs < 0 {
		return o, usagef("--jobs %d: a number of 1 or more", o.jobs)
	}
	for _, s := range c.StringSlice("platform") {
		if s == "all" {
			o.platforms = nil
			break
		}
		p, err := v1.ParsePlatform(s)
		if err != nil || p.OS == "" || p.Architecture == "" {
			return o, usagef("--platform %s: expected os/arch[/variant], as in linux/arm64", s)
		}
		o.platforms = append(o.platforms, *p)
	}
	o.limits = bless.Limits{Ratio: c.Int64("max-ratio"), Entries: c.Int64("max-entries"), XattrBytes: c.Int64("max-xattr-size")}
	var window int64
	for name, limit := range map[string]*int64{"max-layer-size": &o.limits.LayerBytes, "max-header-size": &o.limits.Header, "max-zstd-window": &window} {
		n, err := parseBytes(c.String(name))
		if err != nil {
			return o, usagef("--%s: %v", name, err)
		}
		*limit = n
	}
	o.limits.ZstdWindow = uint64(window)
	if o.limits.Ratio < 1 || o.limits.Entries < 1 || o.limits.XattrBytes < 1 {
		return o, usagef("--max-ratio, --max-entries and --max-xattr-size are numbers of 1 or more")
	}
	return o, nil
}

// wantsJSON reads --output.
func wantsJSON(c *cli.Context) (bool, error) {
	switch o := c.String("output"); o {
	case "text", "json":
		return o == "json", nil
	default:
		return false, usagef("--output %s: choose text or json", o)
	}
}

func (o commonOptions) transport() transport.Options {
	return transport.Options{Insecure: o.insecure, TempDir: os.TempDir()}
}

// parseBytes reads "4096", "64K", "1M", "2G", "1T".
func parseBytes(s string) (int64, error) {
	num, factor := s, int64(1)
	if n := len(s); n > 0 {
		if f, ok := map[byte]int64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}[s[n-1]]; ok {
			num, factor = s[:n-1], f
		}
	}
	n, err := strconv.ParseInt(num, 10, 64)
	if err != nil || n < 1 || n > 1<<62/factor {
		return 0, fmt.Errorf("%q is not a size such as 512M or 64G", s)
	}
	return n * factor, nil
}

// bytesText shows a size the way storage is sold.
func bytesText(n int64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if float64(n) >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// count shows a number with its thousands apart.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
