// SPDX-License-Identifier: Apache-2.0

package cli

// Where the stages meet: what bless did becomes an SBOM and attestations, and
// verify holds them against the image.

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/embedded"
	"github.com/sbom-bless/sbom-bless/attest/keyless"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/sbom"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// attester makes the SBOMs and attestations of a run.
type attester struct {
	formats    []string       // names of sbomTypes
	sbomDir    string         // where the SBOMs go as files too
	out        string         // a directory for the attestations
	bundler    attest.Bundler // signs the attestations; nil: there are none
	trust      attest.Trust   // in what bundler signs
	buildkit   bool           // unsigned ones in the index too
	detached   bool           // the image stays as it is
	embed      bool           // some in the image too
	source     transport.Source
	dest       transport.Destination
	destName   string
	options    map[string]any // for the provenance
	attributes []attest.Attribute
	files      attest.Key // that signed the files
	wantStore  bool       // attestations go to dest
	made       []string
	note       string

	scan  sync.Map      // manifest digest to *scanned
	slots chan struct{} // scans at a time
	said  map[v1.Hash]*attest.Blessing
}

// embedLayer makes the layer that carries the attestations of an image within it.
func (a *attester) embedLayer(ctx context.Context, img bless.ImageResult, manifest, config []byte) ([]byte, error) {
	if img.Tree.Lookup(embedded.Root) != nil {
		return nil, fmt.Errorf("%s: the image has a %s of its own, where the attestations would go\nhint: leave --embed out", img.Platform, embedded.Root)
	}
	b, err := a.blessing(ctx, img)
	if err != nil {
		return nil, err
	}
	artifacts, err := attest.Make(ctx, *b, a.bundler)
	if err != nil {
		return nil, err
	}
	return embedded.Layer(img.Blessed, manifest, config, artifacts, b.Created)
}

// holds tells whether the attestations embedded in an image of the source are ours and still true.
func (a *attester) holds(ctx context.Context, manifest v1.Descriptor) (v1.Descriptor, bool) {
	e, err := embedded.Open(ctx, a.source, manifest)
	if err != nil {
		return v1.Descriptor{}, false
	}
	v, err := attest.Verify(ctx, e, e.Image.Digest, a.trust)
	return e.Image, err == nil && !a.trust.Unchecked && e.Check(&v.Blessing) == nil
}

// scanned is the package scan of a platform, under way.
type scanned struct {
	dir       string // holds the layers meanwhile
	done      chan struct{}
	inventory *sbom.Inventory
	err       error
}

// choose works out what is to be made, who signs it, and where it can go.
func (a *attester) choose(ctx context.Context, c *cli.Context, k runKey) error {
	_, a.wantStore = a.dest.(transport.Referrers)
	switch {
	case c.Bool("no-attestations"):
		if a.out != "" || a.buildkit || a.embed || c.Bool("keyless") {
			return usagef("--no-attestations contradicts --attestation-out, --embed, --buildkit-attestations and --keyless")
		}
	case !a.wantStore && a.out == "" && !a.embed:
		if c.Bool("keyless") || k.Key != nil {
			a.note = "no attestations: " + a.destName + " cannot hold them beside the image; --embed puts them into it, --attestation-out DIR into a directory"
		}
	case c.Bool("keyless"):
		token, err := keyless.Token(ctx, os.Getenv)
		if err != nil {
			return err
		}
		o := keyless.Options{Fulcio: c.String("fulcio-url"), Rekor: c.String("rekor-url"), Timestamp: c.String("timestamp-url")}
		if root := c.String("trust-root"); root != "" {
			if o.Root, err = keyless.Root(root); err != nil {
				return err
			}
		}
		if a.bundler, err = keyless.NewSigner(ctx, token, o); err != nil {
			return err
		}
		a.trust = attest.Trust{Unchecked: true} // each bundle was verified as it was made, if there is a root
	case k.Key != nil:
		signer, err := attest.NewSigner(k.Signer, k.delegation())
		if err != nil {
			return err
		}
		a.bundler = signer
		a.trust = attest.Trust{Keys: []crypto.PublicKey{k.Public}}
		if k.delegated { // made by us, moments ago
			a.trust.Delegated = func(*x509.Certificate) error { return nil }
		}
	case a.out != "" || a.embed:
		return usagef("--attestation-out and --embed need --key or --keyless")
	}
	if a.bundler == nil && a.sbomDir == "" && !a.buildkit {
		a.formats = nil // nowhere to put them
	}
	return nil
}

// needed tells whether there is anything to make.
func (a *attester) needed() bool { return a.bundler != nil || len(a.formats) > 0 }

// summary tells a person what was made.
func (a *attester) summary(w io.Writer) {
	for _, line := range a.made {
		fmt.Fprintln(w, line)
	}
	if a.note != "" {
		fmt.Fprintln(w, "note: "+a.note)
	}
}

// begin starts the scan for packages, beside the blessing.
func (a *attester) begin(ctx context.Context, desc v1.Descriptor, layers int) {
	if len(a.formats) == 0 {
		return
	}
	s := &scanned{done: make(chan struct{})}
	if _, running := a.scan.LoadOrStore(desc.Digest, s); running {
		return
	}
	var err error
	if s.dir, err = os.MkdirTemp("", "sbom-bless-scan-"); err != nil {
		s.err = fmt.Errorf("%w\nhint: TMPDIR chooses another place", err)
		close(s.done)
		return
	}
	go func() {
		defer close(s.done)
		defer os.RemoveAll(s.dir)
		select {
		case a.slots <- struct{}{}:
			defer func() { <-a.slots }()
		case <-ctx.Done():
			s.err = ctx.Err()
			return
		}
		img, err := transport.Image(ctx, a.source, desc)
		if err == nil {
			s.inventory, err = sbom.Scan(ctx, img, layers, s.dir)
		}
		s.err = err
	}()
}

// wait lets scans end before the source is closed. One that goes on although its context has ended is left
// behind: what it scans may be what the run was refused for, and the program ends.
func (a *attester) wait() {
	patience := time.NewTimer(2 * time.Second)
	a.scan.Range(func(_, v any) bool {
		s := v.(*scanned)
		select {
		case <-s.done:
		case <-patience.C:
			patience.Reset(0) // for the next one
			os.RemoveAll(s.dir)
		}
		return true
	})
}

// beside puts the manifest that BuildKit would make beside an image.
func (a *attester) beside(ctx context.Context, img bless.ImageResult) ([]v1.Descriptor, error) {
	b, err := a.blessing(ctx, img)
	if err != nil {
		return nil, err
	}
	artifact, err := attest.BuildKit(*b)
	if err != nil {
		return nil, err
	}
	return []v1.Descriptor{artifact.Descriptor}, attest.Push(ctx, a.dest, []attest.Artifact{artifact})
}

// finish makes everything and puts it where it belongs. It runs when the blessed
// manifests are in place and before the image is made visible.
func (a *attester) finish(ctx context.Context, result *bless.Result) error {
	for _, img := range result.Images {
		if err := a.image(ctx, result, img); err != nil {
			return fmt.Errorf("%s: %w", img.Platform, err)
		}
	}
	return nil
}

func (a *attester) image(ctx context.Context, result *bless.Result, img bless.ImageResult) error {
	b, err := a.blessing(ctx, img)
	if err != nil {
		return err
	}
	for _, s := range b.SBOMs {
		if err := a.writeSBOM(img, len(result.Images) > 1, s); err != nil {
			return err
		}
	}
	if a.bundler == nil {
		return nil
	}
	where := []string{}
	if img.Embedded != nil {
		where = append(where, "embedded in the image")
	}
	if result.Descriptor.Digest != img.Blessed.Digest {
		b.Index = &result.Descriptor
	}
	if a.out != "" || a.wantStore {
		artifacts, err := attest.Make(ctx, *b, a.bundler)
		if err != nil {
			return err
		}
		if a.out != "" {
			where = append(where, "in "+a.out)
			if err := attest.WriteDir(ctx, a.out, artifacts); err != nil {
				return fmt.Errorf("--attestation-out: %w", err)
			}
		}
		if a.wantStore {
			where = append(where, "beside the image")
			if err := attest.Push(ctx, a.dest, artifacts); err != nil {
				return err
			}
		}
	}
	what := count(int64(b.Counts.Files)) + " files"
	if len(a.formats) > 0 {
		what += " of " + count(int64(b.Counts.Packages)) + " packages"
	}
	a.made = append(a.made, fmt.Sprintf("attested %s: %s, %s", img.Platform, what, listed(where)))
	return nil
}

// listed joins what stands in a sentence.
func listed(parts []string) string {
	if n := len(parts) - 1; n > 0 {
		return strings.Join(parts[:n], ", ") + " and " + parts[n]
	}
	return strings.Join(parts, "")
}

// blessing is all that there is to say about an image, but for its index. It is
// made once.
func (a *attester) blessing(ctx context.Context, img bless.ImageResult) (*attest.Blessing, error) {
	if b := a.said[img.Blessed.Digest]; b != nil {
		return b, nil
	}
	created, err := creationTime(img)
	if err != nil {
		return nil, err
	}
	if e := img.Embedded; e != nil { // all but the layer that carries it was said of the image below
		below := img
		below.Blessed, below.Embedded = e.Image, nil
		b, err := a.blessing(ctx, below)
		if err != nil {
			return nil, err
		}
		whole := *b
		whole.Image, whole.Embedded = img.Blessed, &attest.LayerDigests{DiffID: e.DiffID, Digest: e.Layer.Digest}
		a.said[img.Blessed.Digest] = &whole
		return &whole, nil
	}
	b := &attest.Blessing{
		Image: img.Blessed, Name: repository(a.destName), Platform: img.Platform, Detached: a.detached,
		Source:     attest.Source{Name: repository(a.source.Reference()), Digest: img.Source.Digest},
		Attributes: a.attributes, Key: a.files,
		Parameters: a.options, Version: version(), Created: created,
	}
	if root := a.source.Root(); root.Digest != img.Source.Digest {
		b.Source.Index = &root.Digest
	}
	var diffIDs []v1.Hash
	for _, l := range img.Layers {
		layer := attest.Layer{
			Source:  attest.LayerDigests{DiffID: l.SourceDiffID, Digest: l.Source.Digest},
			Blessed: attest.LayerDigests{DiffID: l.BlessedDiffID, Digest: l.Blessed.Digest},
		}
		if l.ContentDiffID != l.SourceDiffID {
			layer.Content = &l.ContentDiffID
		}
		b.Layers = append(b.Layers, layer)
		diffIDs = append(diffIDs, l.BlessedDiffID)
	}
	doc := &sbom.SBOM{}
	if len(a.formats) > 0 {
		if doc, err = a.document(ctx, img, diffIDs, created); err != nil {
			return nil, fmt.Errorf("sbom: %w", err)
		}
	}
	var g errgroup.Group
	for _, format := range a.formats {
		s := attest.SBOM{MediaType: sbomTypes[format].mediaType, Raw: doc.SPDX, Short: doc.SPDXShort}
		if format == "cyclonedx-json" {
			s.Raw, s.Short = doc.CycloneDX, doc.CycloneDXShort
		}
		b.SBOMs = append(b.SBOMs, s)
		g.Go(func() error {
			if err := sbom.Check(s.Raw, img.Tree); err != nil {
				return fmt.Errorf("the SBOM is not the image: %w", err)
			}
			return nil
		})
	}
	g.Go(func() (err error) {
		b.FileList, err = attest.FileList(img.Tree, doc.Owner, doc.Packages)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	b.Counts = attest.Counts{Packages: len(doc.Packages)}
	for i := range img.Tree.Files {
		if f := &img.Tree.Files[i]; f.Regular() {
			b.Counts.Files++
			if f.Code {
				b.Counts.Code++
			}
		}
	}
	a.said[img.Blessed.Digest] = b
	return b, nil
}

// readBack opens what was written, as anyone would, and checks that it is the
// image and that its attestations verify, wherever they went. The blobs were checked
// by digest as they were stored.
func (a *attester) readBack(ctx context.Context, result *bless.Result, common commonOptions) error {
	if strings.HasPrefix(a.destName, "docker-daemon:") {
		return nil // the daemon would have to pack the whole image again
	}
	name := a.destName
	if a.detached && repository(name) != "" {
		name = repository(name) + "@" + result.Descriptor.Digest.String()
	}
	src, err := transport.Open(ctx, name, common.transport())
	if err != nil {
		return err
	}
	defer src.Close()
	archive := strings.HasPrefix(a.destName, "docker-archive:") // which has no manifests of its own
	if got := src.Root().Digest; got != result.Descriptor.Digest && !archive {
		return fmt.Errorf("the reference leads to %s", got)
	}
	if a.bundler == nil {
		return nil
	}
	var stores []attest.Store
	if store, ok := src.(attest.Store); ok && a.wantStore {
		stores = append(stores, store)
	}
	if a.out != "" {
		stores = append(stores, attest.Dir(a.out))
	}
	for _, img := range result.Images {
		if err := a.readImageBack(ctx, src, stores, img, archive); err != nil {
			return fmt.Errorf("%s: %w", img.Platform, err)
		}
	}
	return nil
}

func (a *attester) readImageBack(ctx context.Context, src transport.Source, stores []attest.Store, img bless.ImageResult, archive bool) error {
	for _, store := range stores {
		v, err := attest.Verify(ctx, store, img.Blessed.Digest, a.trust)
		if err == nil {
			err = attest.CheckFiles(v.Files, img.Tree)
		}
		if err != nil {
			return err
		}
	}
	if img.Embedded == nil {
		return nil
	}
	manifest := img.Blessed
	if archive {
		manifest = src.Root()
	}
	e, err := embedded.Open(ctx, src, manifest)
	if err != nil {
		return err
	}
	v, err := attest.Verify(ctx, e, e.Image.Digest, a.trust)
	if err == nil {
		err = e.Check(&v.Blessing)
	}
	if err == nil {
		err = attest.CheckFiles(v.Files, img.Tree)
	}
	return err
}

func (a *attester) document(ctx context.Context, img bless.ImageResult, diffIDs []v1.Hash, created time.Time) (*sbom.SBOM, error) {
	a.begin(ctx, img.Source, len(diffIDs))
	v, _ := a.scan.Load(img.Source.Digest)
	s := v.(*scanned)
	select {
	case <-s.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.err != nil {
		return nil, s.err
	}
	return s.inventory.Document(img.Tree, sbom.Options{
		Name: repository(a.destName), Digest: img.Blessed.Digest, DiffIDs: diffIDs, Created: created, Version: version(),
	})
}

// writeSBOM writes an SBOM to the directory of --sbom-out: sbom.spdx.json, or with
// several platforms sbom.linux-arm64.spdx.json.
func (a *attester) writeSBOM(img bless.ImageResult, several bool, s attest.SBOM) error {
	if a.sbomDir == "" {
		return nil
	}
	if err := os.MkdirAll(a.sbomDir, 0o755); err != nil {
		return fmt.Errorf("--sbom-out: %w", err)
	}
	name := map[string]string{attest.MediaTypeSPDX: "spdx.json", attest.MediaTypeCycloneDX: "cdx.json"}[s.MediaType]
	if several {
		name = strings.ReplaceAll(img.Platform, "/", "-") + "." + name
	}
	return os.WriteFile(filepath.Join(a.sbomDir, "sbom."+name), append(slices.Clone(s.Raw), '\n'), 0o644)
}

// fileAttributes says what the files carry.
func fileAttributes(o bless.Options, signer *xattr.Signer) []attest.Attribute {
	hash := o.Hash.String()
	if signer == nil {
		return []attest.Attribute{{Name: xattr.IMA, Format: "ima-digest", Hash: hash, Files: "all"}}
	}
	all := []attest.Attribute{{Name: xattr.IMA, Format: "ima-signature-v" + strconv.Itoa(o.IMAVersion), Hash: hash, Files: "all"}}
	if o.BPFFiles != bless.BPFNone {
		all = append(all, attest.Attribute{Name: xattr.Bless, Format: "pkcs7", Hash: hash, Files: string(o.BPFFiles)})
	}
	if o.EVM {
		all = append(all, attest.Attribute{Name: xattr.EVM, Format: "evm-portable", Hash: "sha256", Files: "all"})
	}
	return all
}

// creationTime is SOURCE_DATE_EPOCH, or else when the image says it was made:
// never the clock, so that the same image gives the same bytes.
func creationTime(img bless.ImageResult) (time.Time, error) {
	s := os.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return img.Created.UTC(), nil
	}
	sec, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s is not a number of seconds", s)
	}
	return time.Unix(sec, 0).UTC(), nil
}

// repository is a reference without tag and digest, if it is one of a registry;
// other places have no names that mean something elsewhere.
func repository(ref string) string {
	ref = strings.TrimPrefix(ref, "docker://")
	for _, place := range []string{"oci:", "oci-archive:", "docker-archive:", "docker-daemon:"} {
		if strings.HasPrefix(ref, place) {
			return ""
		}
	}
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		ref = ref[:i]
	}
	return ref
}

// parseFormats reads --sbom: "spdx-json,cyclonedx-json", or "none".
func parseFormats(list string) ([]string, error) {
	if list == "none" {
		return nil, nil
	}
	var formats []string
	for _, f := range strings.Split(list, ",") {
		if _, ok := sbomTypes[f]; !ok {
			return nil, usagef("--sbom %s: choose from spdx-json and cyclonedx-json, or none", f)
		}
		if !slices.Contains(formats, f) {
			formats = append(formats, f)
		}
	}
	return formats, nil
}
