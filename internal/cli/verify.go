// SPDX-License-Identifier: Apache-2.0

package cli

// verify: what bless promises, proved again from the image alone.

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/chain"
	"github.com/sbom-bless/sbom-bless/transport"
)

const verifyUsage = `Reads every byte of the image: each layer against its digests, each file against
its attributes, each attribute against the key; then the attestations: that the
layers without our records are the source's, and that file list and SBOMs are the
files of the image. One line on stderr for each thing that is wrong; exit code 3 then.

   sbom-bless verify registry.example/app:1.2 --key bless.crt
   sbom-bless verify registry.example/app:1.2 --certificate-identity ci@example.com \
      --certificate-oidc-issuer https://issuer.example`

func newVerify() *cli.Command {
	return &cli.Command{
		Name:        "verify",
		Usage:       "check every file of a blessed image against its attributes and the key",
		ArgsUsage:   "IMAGE --key PUB|CRT",
		Description: verifyUsage,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "key", Usage: "trusted key: public key or certificate file, KMS or pkcs11: URI; repeatable"},
			&cli.StringFlag{Name: "bpf-files", Value: "code", Usage: "files that must have security.bpf.bless: code, all or none"},
			&cli.BoolFlag{Name: "evm", Usage: "demand security.evm on every file"},
			&cli.BoolFlag{Name: "hash-only", Usage: "check digests, without a key"},
			&cli.BoolFlag{Name: "detached", Usage: "the image carries no attributes: check it against its attestations alone"},
			&cli.BoolFlag{Name: "files-only", Usage: "check files and attributes, no attestations"},
			&cli.StringFlag{Name: "attestations", Usage: "look for attestations in this directory first, and not beside the image; what is in the image counts all the same"},
			&cli.StringFlag{Name: "source", Usage: "demand that this image was blessed: a reference, or sha256:…; rejects a rollback to an older blessing"},
			&cli.BoolFlag{Name: "all", Usage: "show every file that is wrong, not the first of those that are wrong in the same way"},
			&cli.StringFlag{Name: "not-before", Usage: "refuse blessings that say they are older: a date, or a time as in 2026-11-25T00:00:00Z"},
		}, append(identityFlags(), commonFlags()...)...),
		Action: func(c *cli.Context) error { return runVerify(c.Context, c) },
	}
}

func runVerify(ctx context.Context, c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("verify takes one IMAGE\nhint: sbom-bless verify oci:blessed --key bless.crt")
	}
	identity := c.IsSet("certificate-identity") || c.IsSet("certificate-identity-regexp")
	switch {
	case len(c.StringSlice("key")) > 0 && c.Bool("hash-only"):
		return usagef("--hash-only checks digests without a key: leave --key out")
	case len(c.StringSlice("key")) == 0 && !c.Bool("hash-only") && !identity:
		return usagef("verify needs --key, or --certificate-identity, or --hash-only\nhint: sbom-bless verify oci:blessed --key bless.crt")
	case len(c.StringSlice("key")) == 0 && identity && c.Bool("files-only"):
		return usagef("--files-only needs --key: an identity vouches for the key of the files in the attestations")
	case c.Bool("detached") && (c.Bool("files-only") || c.Bool("hash-only") && !identity):
		return usagef("--detached checks an image by its attestations alone: they cannot be left out")
	}
	common, err := readCommon(c)
	if err != nil {
		return err
	}
	o := chain.VerifyOptions{VerifyOptions: bless.VerifyOptions{
		BPFFiles: bless.BPFFiles(c.String("bpf-files")), EVM: c.Bool("evm"), Detached: c.Bool("detached"),
		Platforms: common.platforms, Jobs: common.jobs, Limits: common.limits,
	}}
	if !validBPFFiles(o.BPFFiles) {
		return usagef("--bpf-files %s: choose code, all or none", o.BPFFiles)
	}
	if o.Trust, _, err = readTrust(ctx, c); err != nil {
		return err
	}
	src, err := transport.Open(ctx, c.Args().First(), common.transport())
	if err != nil {
		return err
	}
	defer src.Close()
	if err := readDemands(ctx, c, src, &o); err != nil {
		return err
	}
	o.Vouched = len(o.Trust.Keys) == 0 && !c.Bool("hash-only") && len(o.Places) > 0
	progress := newProgress(c, common.quiet)
	o.Progress = progress
	result, err := chain.Verify(ctx, src, o)
	progress.close()
	if err != nil {
		return err
	}
	unblessed := neverBlessed(result)
	if !unblessed || c.Bool("all") {
		printProblems(c.App.ErrWriter, result, c.Bool("all"))
	}
	if common.json {
		if err := writeJSON(c.App.Writer, result); err != nil {
			return err
		}
	} else if result.OK() {
		fmt.Fprintln(c.App.Writer, result.Reference)
	}
	if unblessed {
		return fmt.Errorf("%s: %w: the image was never blessed\nhint: sbom-bless bless %s -t DEST --key KEY", result.Reference, errWrong, c.Args().First())
	}
	if !result.OK() {
		hint := ""
		if slices.ContainsFunc(result.Problems, func(p bless.Problem) bool { return strings.HasSuffix(p.Reason, attest.ErrNone.Error()) }) {
			hint = "\nhint: --files-only checks the files alone; --attestations names a directory that bless --attestation-out wrote; bless --embed puts them into the image"
		}
		return fmt.Errorf("%s: %w: %s%s", result.Reference, errWrong, plural(len(result.Problems), "problem"), hint)
	}
	if !common.quiet {
		verifySummary(c.App.ErrWriter, result, o)
		for _, a := range result.Attestations {
			fmt.Fprintln(c.App.ErrWriter, a.Summary(len(result.Images) > 1))
		}
	}
	return nil
}

// printProblems prints one line for each thing that is wrong, or, unless all are asked for, one for those that are
// wrong in the same way.
func printProblems(w io.Writer, r *chain.Verified, all bool) {
	type way struct{ platform, attribute, reason string }
	counts := map[way]int{}
	of := func(p bless.Problem) way { return way{p.Platform, p.Attribute, p.Reason} }
	for _, p := range r.Problems {
		counts[of(p)]++
	}
	seen := map[way]bool{}
	for _, p := range r.Problems {
		if seen[of(p)] && !all {
			continue
		}
		seen[of(p)] = true
		line := strings.ReplaceAll(p.String(), "\n", "; ")
		if len(r.Images) > 1 {
			line = p.Platform + ": " + line
		}
		if more := counts[of(p)] - 1; more > 0 && !all {
			line += fmt.Sprintf("; and %s more like it (--all shows them)", count(int64(more)))
		}
		fmt.Fprintln(w, line)
	}
}

// neverBlessed tells that no file of the image has an attribute, and nobody attested anything: one mistake, not
// one for each file.
func neverBlessed(r *chain.Verified) bool {
	var files, bare int64
	for _, img := range r.Images {
		for _, l := range img.Layers {
			files += l.Regular
		}
	}
	for _, p := range r.Problems {
		switch {
		case p.Reason == bless.ReasonNotBlessed:
			bare++
		case p.Attribute == "" && !strings.HasSuffix(p.Reason, attest.ErrNone.Error()):
			return false
		}
	}
	return bare > 0 && bare >= files
}

// readDemands reads what the flags say of attestations: where they are, and what they must say.
func readDemands(ctx context.Context, c *cli.Context, src transport.Source, o *chain.VerifyOptions) error {
	byIdentity := c.IsSet("certificate-identity") || c.IsSet("certificate-identity-regexp")
	if c.Bool("files-only") || c.Bool("hash-only") && !byIdentity {
		for _, name := range []string{"source", "not-before", "attestations"} {
			if c.IsSet(name) {
				return usagef("--%s is about attestations, which are not looked at", name)
			}
		}
		return nil
	}
	o.Places = locate.Places(c.String("attestations"), src)
	if s := c.String("not-before"); s != "" {
		var err error
		if o.NotBefore, err = time.Parse(time.RFC3339, s); err != nil {
			o.NotBefore, err = time.Parse(time.DateOnly, s)
		}
		if err != nil {
			return usagef("--not-before %s: expected 2026-11-25, or a time as in 2026-11-25T00:00:00Z", s)
		}
	}
	if s := c.String("source"); s != "" {
		if h, err := v1.NewHash(s); err == nil {
			o.Source = []v1.Hash{h}
			return nil
		}
		from, err := transport.Open(ctx, s, transport.Options{Insecure: c.Bool("insecure")})
		if err != nil {
			return fmt.Errorf("--source: %w", err)
		}
		defer from.Close()
		o.Source = []v1.Hash{from.Root().Digest}
	}
	return nil
}

func verifySummary(w io.Writer, r *chain.Verified, o chain.VerifyOptions) {
	for _, img := range r.Images {
		var regular, code, size int64
		for _, l := range img.Layers {
			regular, code, size = regular+l.Regular, code+l.Code, size+l.FileBytes
		}
		what := "all signed by a trusted key"
		switch {
		case o.Detached:
			what = "no attributes asked for"
		case o.Vouched:
			what = "all signed by the key that the identity vouches for"
		case len(o.Trust.Keys) == 0:
			what = "all as their digests say"
		}
		fmt.Fprintf(w, "verified %s: %s files in %s, %s, %s of them code, %s\n",
			img.Platform, count(regular), plural(len(img.Layers), "layer"), bytesText(size), count(code), what)
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(int64(n)) + " " + noun + "s"
}
