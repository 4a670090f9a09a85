// SPDX-License-Identifier: Apache-2.0

package cli

// bless: image in, blessed image out.

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/keyless"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/chain"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

const blessUsage = `SOURCE and DEST are registry references, or
   docker-daemon:REF  docker-archive:PATH[:REF]  oci:DIR[:TAG]  oci-archive:PATH[:TAG]

   sbom-bless bless docker-daemon:app:ci -t registry.example/app:1.2 --key bless.key
   sbom-bless bless oci:app -t oci:blessed --key awskms:///alias/release --delegate

The digest reference of the blessed image goes to stdout, all else to stderr.`

func newBless() *cli.Command {
	return &cli.Command{
		Name:        "bless",
		Usage:       "give every file of an image the attributes that the kernel judges it by",
		ArgsUsage:   "SOURCE -t DEST --key KEY",
		Description: blessUsage,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "to", Aliases: []string{"t"}, Usage: "where the blessed image goes; repeatable"},
			&cli.StringFlag{Name: "key", Usage: "private key: a PEM file, env://NAME, - for stdin, awskms:// gcpkms:// azurekms:// hashivault:// or pkcs11: URI"},
			&cli.StringFlag{Name: "cert", Usage: "certificate of the key (default: the .crt file beside the key)"},
			&cli.StringFlag{Name: "passphrase-file", Usage: "file with the passphrase of the key"},
			&cli.BoolFlag{Name: "delegate", Usage: "sign with a fresh key that KEY certifies: one signature of KEY per run"},
			&cli.BoolFlag{Name: "hash-only", Usage: "write digests, no signatures; needs no key"},
			&cli.StringFlag{Name: "hash", Value: "sha256", Usage: "sha256, sha384 or sha512, for security.ima"},
			&cli.IntFlag{Name: "ima-version", Value: 2, Usage: "version of the IMA signatures: 2, or 3 for kernels that demand it"},
			&cli.BoolFlag{Name: "evm", Usage: "add portable security.evm signatures"},
			&cli.StringFlag{Name: "bpf-files", Value: "code", Usage: "files that get security.bpf.bless: code, all or none"},
			&cli.BoolFlag{Name: "replace-xattrs", Usage: "exchange attributes that others put into the image"},
			&cli.StringFlag{Name: "recompress", Usage: "pack changed layers anew: gzip or zstd, with :LEVEL if you like"},
			&cli.StringFlag{Name: "cache", Usage: "directory that remembers blessed layers (default: sbom-bless in the user's cache directory)"},
			&cli.BoolFlag{Name: "no-cache", Usage: "remember nothing and look nothing up, neither here nor in the destination registry"},
			&cli.StringFlag{Name: "sbom", Value: "spdx-json,cyclonedx-json", Usage: "formats of the SBOM: spdx-json, cyclonedx-json, or none"},
			&cli.StringFlag{Name: "sbom-out", Usage: "write the SBOMs to this directory too"},
			&cli.StringFlag{Name: "attestation-out", Usage: "write the attestations to this directory too, for places that cannot hold them"},
			&cli.BoolFlag{Name: "detached", Usage: "leave the image as it is: attest its files, as referrers of the source; DEST may be left out"},
			&cli.BoolFlag{Name: "embed", Usage: "put the attestations into the image too, in a small last layer: for nodes without a registry, and for docker save"},
			&cli.BoolFlag{Name: "buildkit-attestations", Usage: "put SBOM and provenance into the index too, where docker buildx and Docker Scout look"},
			&cli.BoolFlag{Name: "keyless", Usage: "sign the attestations with the identity of the CI job (Fulcio, Rekor) in place of the key"},
			&cli.StringFlag{Name: "fulcio-url", Value: keyless.PublicFulcio, Usage: "certificate authority of --keyless"},
			&cli.StringFlag{Name: "rekor-url", Value: keyless.PublicRekor, Usage: "transparency log of --keyless"},
			&cli.StringFlag{Name: "timestamp-url", Usage: "timestamp authority of --keyless"},
			&cli.StringFlag{Name: "trust-root", Usage: "trusted root of the sigstore instance, against which --keyless checks what it signed"},
			&cli.BoolFlag{Name: "no-attestations", Usage: "make no attestations; implies --sbom none unless --sbom-out is given"},
			&cli.BoolFlag{Name: "no-verify", Usage: "do not read the reference and the attestations back"},
			&cli.StringFlag{Name: "digest-file", Usage: "write the digest of the blessed image to this file"},
			&cli.StringFlag{Name: "summary", Usage: "write the summary to this file, as Markdown, for the page of a CI job"},
		}, commonFlags()...),
		Action: func(c *cli.Context) error { return runBless(c.Context, c) },
	}
}

func runBless(ctx context.Context, c *cli.Context) error {
	places := c.StringSlice("to")
	if c.NArg() != 1 || len(places) == 0 && !c.Bool("detached") {
		return usagef("bless takes one SOURCE and -t DEST\nhint: sbom-bless bless oci:app -t oci:blessed --key bless.key")
	}
	common, err := readCommon(c)
	if err != nil {
		return err
	}
	o, err := blessOptions(c, common)
	if err != nil {
		return err
	}
	if c.Bool("detached") {
		for _, name := range []string{"evm", "recompress", "embed", "buildkit-attestations", "replace-xattrs"} {
			if c.IsSet(name) {
				return usagef("--detached leaves the image as it is: leave --%s out", name)
			}
		}
		if len(places) > 1 {
			return usagef("--detached puts attestations beside one image: give -t once")
		}
		if len(places) == 1 && places[0] != c.Args().First() && transport.Repository(places[0]) == "" {
			return usagef("--detached puts attestations beside the image: DEST is SOURCE, or a registry that has the image")
		}
	}
	o.SBOMs, err = parseFormats(c.String("sbom"))
	if err != nil {
		return err
	}
	k, err := blessKey(ctx, c)
	if err != nil {
		return err
	}
	defer k.close()
	o.Signer = k.files
	if k.files != nil && !o.Detached {
		o.FileKey.ID = k.files.KeyID().String()
		if k.Cert != nil {
			o.FileKey.Certificate = k.Cert.Raw
		}
	}
	if k.delegated {
		o.Certificate = k.Cert.Raw
	}
	if !k.delegated { // such a key never comes back, so what it signed is of no use later
		o.Cache = openCache(c)
		defer noteCache(c, o.Cache)
	}
	for _, flag := range []string{"digest-file", "summary"} {
		if err := writable(c.String(flag)); err != nil {
			return fmt.Errorf("--%s: %w", flag, err)
		}
	}
	source := c.Args().First()
	if len(places) == 0 {
		places = []string{source}
	}
	o.Dest = places[0]
	elsewhere := slices.ContainsFunc(places, func(place string) bool { return transport.Repository(place) == "" })
	o.Ledger = !c.Bool("no-cache") && !k.delegated && !elsewhere
	src, err := transport.Open(ctx, source, common.transport())
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := createPlaces(ctx, places, o.Detached, common.transport())
	if err != nil {
		return err
	}
	defer dst.Close()
	note, err := chooseBundler(ctx, c, k, dst, places, &o)
	if err != nil {
		return err
	}
	progress := newProgress(c, common.quiet)
	o.Progress = progress
	defer progress.close()
	result, err := chain.Bless(ctx, src, dst, o)
	if errors.Is(err, chain.ErrOccupied) {
		err = fmt.Errorf("%w\nhint: leave --embed out", err)
	}
	if err != nil {
		return err
	}
	if !c.Bool("no-verify") {
		if err := readBack(ctx, result, places, o, common.transport()); err != nil {
			return err
		}
	}
	progress.close()
	if file := c.String("digest-file"); file != "" {
		if err := os.WriteFile(file, []byte(result.Descriptor.Digest.String()+"\n"), 0o644); err != nil {
			return fmt.Errorf("--digest-file: %w", err)
		}
	}
	if file := c.String("summary"); file != "" {
		if err := os.WriteFile(file, []byte(blessMarkdown(result, o)), 0o644); err != nil {
			return fmt.Errorf("--summary: %w", err)
		}
	}
	if !common.quiet {
		blessSummary(c.App.ErrWriter, result.Result, o.Detached)
		attestedSummary(c.App.ErrWriter, result.Attested, o.AttestationDir)
		if note != "" {
			fmt.Fprintln(c.App.ErrWriter, "note: "+note)
		}
	}
	if common.json {
		return writeJSON(c.App.Writer, result.Result)
	}
	for _, reference := range append([]string{result.Blessed}, result.Also...) {
		fmt.Fprintln(c.App.Writer, reference)
	}
	return nil
}

// createPlaces prepares all places to take the image.
func createPlaces(ctx context.Context, places []string, detached bool, o transport.Options) (transport.Destination, error) {
	var all []transport.Destination
	for i, place := range places {
		if slices.Contains(places[:i], place) {
			return nil, usagef("-t %s stands there twice", place)
		}
		if repository := transport.Repository(place); detached && repository != "" {
			place = repository // of an image that may be named by digest: no tag is written
		}
		dst, err := transport.Create(ctx, place, o)
		if err != nil {
			for _, dst := range all {
				err = errors.Join(err, dst.Close())
			}
			return nil, err
		}
		all = append(all, dst)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return transport.NewSeveral(all...), nil
}

// readBack reads what was written from each place.
func readBack(ctx context.Context, result *chain.Result, places []string, o chain.Options, t transport.Options) error {
	if o.Progress != nil {
		defer o.Progress.Stage("reading back")()
	}
	for _, o.Dest = range places {
		err := chain.ReadBack(ctx, result, o, t)
		switch {
		case err == nil:
		case transport.Temporary(err):
			return fmt.Errorf("%s: written, and not checked, since it could not be read back: %w\nhint: sbom-bless verify %s --key CRT checks it", result.Blessed, err, o.Dest)
		default:
			return fmt.Errorf("%s: verification of the written image failed: %w", result.Blessed, err)
		}
	}
	return nil
}

// chooseBundler works out who signs the attestations, if anybody does. The note tells a person where there are none.
func chooseBundler(ctx context.Context, c *cli.Context, k runKey, dst transport.Destination, places []string, o *chain.Options) (note string, err error) {
	var bare []string // places that hold no attestations
	for _, place := range places {
		if p := transport.PlaceOf(place); p == transport.Daemon || p == transport.DockerArchive {
			bare = append(bare, place)
		}
	}
	beside := transport.HoldingReferrers(dst) != nil
	if len(bare) > 0 && o.AttestationDir == "" && !o.Embed && !c.Bool("no-attestations") && (c.Bool("keyless") || k.Key != nil) {
		note = "no attestations: " + listed(bare) + " cannot hold them beside the image; --embed puts them into it, --attestation-out DIR into a directory"
	}
	switch {
	case c.Bool("no-attestations"):
		if o.AttestationDir != "" || o.BuildKit || o.Embed || c.Bool("keyless") {
			return "", usagef("--no-attestations contradicts --attestation-out, --embed, --buildkit-attestations and --keyless")
		}
	case !beside && o.AttestationDir == "" && !o.Embed:
	case c.Bool("keyless"):
		if o.Bundler, err = keylessSigner(ctx, c); err != nil {
			return "", err
		}
		o.Trust = attest.Trust{Unchecked: true} // each bundle was verified as it was made, if there is a root
	case k.Key != nil:
		if o.Bundler, err = attest.NewSigner(k.Signer, k.delegation()); err != nil {
			return "", err
		}
		o.Trust = attest.Trust{Keys: []crypto.PublicKey{k.Public}}
		if k.delegated { // made by us, moments ago
			o.Trust.Delegated = func(*x509.Certificate) error { return nil }
		}
	case o.AttestationDir != "" || o.Embed:
		return "", usagef("--attestation-out and --embed need --key or --keyless")
	}
	if o.Detached && o.Bundler == nil {
		return "", usagef("--detached makes attestations and nothing else: it needs a key, and a place for them\nhint: --attestation-out DIR is one")
	}
	return note, nil
}

// keylessSigner signs with the identity of the CI job.
func keylessSigner(ctx context.Context, c *cli.Context) (attest.Bundler, error) {
	token, err := keyless.Token(ctx, os.Getenv)
	if err != nil {
		return nil, err
	}
	o := keyless.Options{Fulcio: c.String("fulcio-url"), Rekor: c.String("rekor-url"), Timestamp: c.String("timestamp-url")}
	if root := c.String("trust-root"); root != "" {
		if o.Root, err = keyless.Root(root); err != nil {
			return nil, err
		}
	}
	return keyless.NewSigner(ctx, token, o)
}

// blessParameters are the options that the result depends on, for the provenance.
func blessParameters(c *cli.Context) map[string]any {
	p := map[string]any{}
	for _, name := range []string{"hash", "bpf-files", "recompress", "sbom"} {
		if v := c.String(name); v != "" {
			p[name] = v
		}
	}
	p["ima-version"] = c.Int("ima-version")
	for _, name := range []string{"evm", "hash-only", "delegate", "replace-xattrs", "embed"} {
		if c.Bool(name) {
			p[name] = true
		}
	}
	return p
}

// blessOptions reads what the flags say of attributes and attestations.
func blessOptions(c *cli.Context, common commonOptions) (chain.Options, error) {
	o := chain.Options{
		Options: bless.Options{
			IMAVersion: c.Int("ima-version"), EVM: c.Bool("evm"), BPFFiles: bless.BPFFiles(c.String("bpf-files")),
			Replace: c.Bool("replace-xattrs"), Recompress: c.String("recompress"), Detached: c.Bool("detached"),
			Platforms: common.platforms, Jobs: common.jobs, Limits: common.limits,
		},
		SBOMDir: c.String("sbom-out"), AttestationDir: c.String("attestation-out"),
		Embed: c.Bool("embed"), BuildKit: c.Bool("buildkit-attestations"),
		Parameters: blessParameters(c), Version: version(),
	}
	var err error
	if o.Hash, err = xattr.ParseHash(c.String("hash")); err != nil {
		return o, usagef("--hash: %v", err)
	}
	switch {
	case o.IMAVersion != 2 && o.IMAVersion != 3:
		return o, usagef("--ima-version %d: there are 2 and 3", o.IMAVersion)
	case !validBPFFiles(o.BPFFiles):
		return o, usagef("--bpf-files %s: choose code, all or none", o.BPFFiles)
	case c.Bool("hash-only") && (c.String("key") != "" || o.EVM || c.Bool("delegate")):
		return o, usagef("--hash-only signs nothing: leave --key, --evm and --delegate out")
	case !c.Bool("hash-only") && c.String("key") == "":
		return o, usagef("no key\nhint: sbom-bless keygen makes one; --hash-only needs none")
	}
	return o, nil
}

func validBPFFiles(b bless.BPFFiles) bool {
	return b == bless.BPFCode || b == bless.BPFAll || b == bless.BPFNone
}

// runKey is the key of a run; its Key is nil for digests only.
type runKey struct {
	*key.Key
	files     *xattr.Signer // nil for digests only
	delegated bool          // Cert is that of a key made for this run
}

// delegation is the certificate of a delegated key.
func (k runKey) delegation() *x509.Certificate {
	if !k.delegated {
		return nil
	}
	return k.Cert
}

func (k runKey) close() {
	if k.Key != nil {
		k.Close()
	}
}

// writable tells, before anything is done, whether a file can be written at the end.
func writable(name string) error {
	if info, err := os.Stat(name); name == "" || err == nil && !info.Mode().IsRegular() {
		return nil // a pipe would have its end
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// blessKey loads the key that the flags name.
func blessKey(ctx context.Context, c *cli.Context) (k runKey, err error) {
	if c.Bool("hash-only") {
		return k, nil
	}
	k.Key, err = key.Load(ctx, c.String("key"), key.Options{Cert: c.String("cert"), PassphraseFile: c.String("passphrase-file"), Stdin: c.App.Reader})
	if err != nil {
		return k, err
	}
	if c.Bool("delegate") {
		leaf, err := key.Delegate(ctx, k.Key, time.Now())
		k.close()
		if err != nil {
			return runKey{}, err
		}
		k = runKey{Key: leaf, delegated: true}
	} else if k.Remote {
		fmt.Fprintln(c.App.ErrWriter, "sbom-bless: this key signs each file by a call of its own\nhint: --delegate needs one call per run")
	}
	k.files, err = xattr.NewSigner(k.Signer, k.Cert)
	return k, err
}

// openCache opens the cache that the flags name; nil if there is none. One that cannot be had is no reason not to run.
func openCache(c *cli.Context) *bless.Cache {
	dir := c.String("cache")
	if c.Bool("no-cache") {
		return nil
	}
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil // no home, as in some CI jobs
		}
		dir = filepath.Join(user, "sbom-bless")
	}
	cache, err := bless.OpenCache(dir)
	cacheNote(c, err)
	return cache
}

// noteCache tells what kept the cache from remembering something.
func noteCache(c *cli.Context, cache *bless.Cache) {
	if cache != nil {
		cacheNote(c, cache.Err())
	}
}

func cacheNote(c *cli.Context, err error) {
	if err != nil {
		fmt.Fprintf(c.App.ErrWriter, "note: nothing is remembered for the next run: %v\nhint: --cache DIR chooses another directory, --no-cache none\n", err)
	}
}

// blessSummary tells a person what happened.
func blessSummary(w io.Writer, r *bless.Result, detached bool) {
	verb := "blessed"
	if detached {
		verb = "attested"
	}
	fmt.Fprintf(w, "\n%s %s\n", verb, r.Source)
	for _, img := range r.Images {
		total := sumOf(img)
		outcomes := map[string]int{}
		for _, l := range img.Layers {
			outcomes[l.Outcome]++
		}
		fmt.Fprintf(w, "  platform  %s\n", img.Platform)
		fmt.Fprintf(w, "  files     %s, %s of them code, %s\n", count(total.Regular), count(total.Code), bytesText(total.FileBytes))
		for _, line := range memoryText(img.Memory) {
			fmt.Fprintf(w, "  warning   %s\n", line)
		}
		if detached {
			fmt.Fprintf(w, "  layers    %s, as they were, %s\n", count(int64(len(img.Layers))), bytesText(total.out))
			continue
		}
		if r.KeyID != "" {
			fmt.Fprintf(w, "  signed    %s now, key %s, %s, IMA version %d\n", count(total.Signed), r.KeyID, r.Hash, r.IMAVersion)
		} else {
			fmt.Fprintf(w, "  digests   %s written now, %s, not signed\n", count(total.Signed), r.Hash)
		}
		fmt.Fprintf(w, "  layers    %s\n", outcomeText(outcomes))
		fmt.Fprintf(w, "  size      %s, was %s (%+.1f %%)\n", bytesText(total.out), bytesText(total.in), total.growth())
	}
	if len(r.Dropped) > 0 {
		fmt.Fprintf(w, "  dropped   %d attestation manifests of the source, which no longer hold\n", len(r.Dropped))
	}
	fmt.Fprintf(w, "  time      %.1f s\n\n", r.Seconds)
}

// attestedSummary tells a person what was attested, and where that is.
func attestedSummary(w io.Writer, all []chain.Attested, dir string) {
	for _, a := range all {
		what := count(int64(a.Files)) + " files"
		if a.Packages >= 0 {
			what += " of " + count(int64(a.Packages)) + " packages"
		}
		var where []string
		if a.Embedded {
			where = append(where, "embedded in the image")
		}
		if a.Directory {
			where = append(where, "in "+dir)
		}
		if a.Beside {
			where = append(where, "beside the image")
		}
		fmt.Fprintf(w, "attested %s: %s, %s\n", a.Platform, what, listed(where))
	}
}

// listed joins the parts as a sentence does.
func listed(parts []string) string {
	if n := len(parts) - 1; n > 0 {
		return strings.Join(parts[:n], ", ") + " and " + parts[n]
	}
	return strings.Join(parts, "")
}

// parseFormats reads --sbom: "spdx-json,cyclonedx-json", or "none".
func parseFormats(list string) (mediaTypes []string, err error) {
	if list == "none" {
		return nil, nil
	}
	for _, f := range strings.Split(list, ",") {
		t, ok := sbomTypes[f]
		if !ok {
			return nil, usagef("--sbom %s: choose from spdx-json and cyclonedx-json, or none", f)
		}
		if !slices.Contains(mediaTypes, t.mediaType) {
			mediaTypes = append(mediaTypes, t.mediaType)
		}
	}
	return mediaTypes, nil
}

func outcomeText(outcomes map[string]int) string {
	var parts []string
	for _, o := range []string{bless.OutcomeBlessed, bless.OutcomeCached, bless.OutcomeUnchanged} {
		if outcomes[o] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", outcomes[o], o))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
