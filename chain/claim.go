// SPDX-License-Identifier: Apache-2.0

package chain

// What a run claims of an image, and the SBOMs in it.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/internal/atomicfile"
	"github.com/sbom-bless/sbom-bless/sbom"
	"github.com/sbom-bless/sbom-bless/transport"
)

// claim is everything that the run claims of an image, but for its index.
func (m *maker) claim(ctx context.Context, img bless.ImageResult) (*attest.Blessing, error) {
	created, err := creationTime(img)
	if err != nil {
		return nil, err
	}
	b := &attest.Blessing{
		Image: img.Blessed, Name: transport.Repository(m.Dest), Platform: img.Platform, Detached: m.Detached,
		Source:     attest.Source{Name: transport.Repository(m.src.Reference()), Digest: img.Source.Digest},
		Attributes: m.fileAttributes(), Key: m.FileKey,
		Parameters: m.Parameters, Version: m.Version, Created: created,
	}
	if m.root.Digest != img.Source.Digest {
		b.Source.Index = &m.root.Digest
	}
	var diffIDs []v1.Hash
	for _, l := range img.Layers {
		layer := attest.Layer{
			Source:  attest.LayerDigests{DiffID: l.SourceDiffID, Digest: l.Source.Digest, MediaType: l.Source.MediaType},
			Blessed: attest.LayerDigests{DiffID: l.BlessedDiffID, Digest: l.Blessed.Digest, MediaType: l.Blessed.MediaType},
		}
		if l.ContentDiffID != l.SourceDiffID {
			layer.Content = &l.ContentDiffID
		}
		b.Layers = append(b.Layers, layer)
		diffIDs = append(diffIDs, l.BlessedDiffID)
	}
	doc := &sbom.SBOM{}
	if len(m.SBOMs) > 0 {
		inventory, err := m.scans.of(ctx, img.Source.Digest)
		defer stage(m.Progress, "writing SBOMs")()
		if err == nil {
			doc, err = inventory.Document(img.Tree, sbom.Options{
				Name: b.Name, Digest: img.Blessed.Digest, DiffIDs: diffIDs, Created: created, Version: m.Version,
			})
		}
		if err != nil {
			return nil, fmt.Errorf("sbom: %w", err)
		}
	}
	var g errgroup.Group
	for _, mediaType := range m.SBOMs {
		s := attest.SBOM{MediaType: mediaType, Raw: doc.SPDX, Short: doc.SPDXShort}
		if mediaType == attest.MediaTypeCycloneDX {
			s.Raw, s.Short = doc.CycloneDX, doc.CycloneDXShort
		}
		b.SBOMs = append(b.SBOMs, s)
		g.Go(func() error {
			if err := sbom.Check(s.Raw, img.Tree); err != nil {
				return fmt.Errorf("the SBOM does not match the image: %w", err)
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
	return b, nil
}

// writeSBOM writes an SBOM to a directory: sbom.spdx.json, or with several platforms
// sbom.linux-arm64.spdx.json.
func writeSBOM(dir, platform string, several bool, s attest.SBOM) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("SBOM: %w", err)
	}
	name := map[string]string{attest.MediaTypeSPDX: "spdx.json", attest.MediaTypeCycloneDX: "cdx.json"}[s.MediaType]
	if several {
		name = strings.ReplaceAll(platform, "/", "-") + "." + name
	}
	return atomicfile.Write(filepath.Join(dir, "sbom."+name), 0o644, func(w io.Writer) error {
		_, err := w.Write(s.Raw)
		_, newline := io.WriteString(w, "\n")
		return errors.Join(err, newline)
	})
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
