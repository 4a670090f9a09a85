// SPDX-License-Identifier: Apache-2.0

package transport

// Descriptors, the bytes behind them, and what is refused of both.

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
)

// checkDescriptor refuses descriptors that no honest manifest has, before their
// digest becomes part of a path and their size an allocation.
func checkDescriptor(desc v1.Descriptor, max int64) error {
	if _, err := parseDigest(desc.Digest.String()); err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("size %d is negative", desc.Size)
	}
	if desc.Size > max {
		return fmt.Errorf("%d bytes, more than the limit of %d", desc.Size, max)
	}
	return nil
}

// isManifest tells what a registry keeps apart from blobs.
func isManifest(t types.MediaType) bool {
	return t.IsImage() || t.IsIndex() || t.IsSchema1()
}

// sum is the digest of raw with the algorithm of like, or SHA-256.
func sum(raw []byte, like v1.Hash) (v1.Hash, error) {
	if like.Algorithm == "" {
		like.Algorithm = "sha256"
	}
	h, err := newHasher(like.Algorithm)
	if err != nil {
		return v1.Hash{}, err
	}
	h.Write(raw)
	return h.digest(), nil
}

// hasher makes a digest of what is written to it.
type hasher struct {
	hash.Hash
	algorithm string
}

func newHasher(algorithm string) (*hasher, error) {
	h, err := v1.Hasher(algorithm)
	return &hasher{h, algorithm}, err
}

func (h *hasher) digest() v1.Hash {
	return v1.Hash{Algorithm: h.algorithm, Hex: hex.EncodeToString(h.Sum(nil))}
}

// verify checks bytes that are in memory against their descriptor.
func verify(raw []byte, desc v1.Descriptor) error {
	if int64(len(raw)) != desc.Size {
		return sizeError(int64(len(raw)), desc.Size)
	}
	got, err := sum(raw, desc.Digest)
	if err != nil {
		return err
	}
	if got != desc.Digest {
		return digestError(got)
	}
	return nil
}

func sizeError(got, want int64) error {
	if got > want {
		return fmt.Errorf("more than the %d bytes of its descriptor", want)
	}
	return fmt.Errorf("%d bytes, the descriptor says %d: %w", got, want, io.ErrUnexpectedEOF)
}

func digestError(got v1.Hash) error { return fmt.Errorf("the bytes have the digest %s", got) }

// copyVerified copies the content of desc and checks it on the way. Reading
// stops when ctx ends.
func copyVerified(ctx context.Context, dst io.Writer, src io.Reader, desc v1.Descriptor) error {
	h, err := newHasher(desc.Digest.Algorithm)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(io.MultiWriter(h, dst), io.LimitReader(contextReader{ctx, src}, desc.Size+1), make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if n != desc.Size {
		return sizeError(n, desc.Size)
	}
	if got := h.digest(); got != desc.Digest {
		return digestError(got)
	}
	return nil
}

// contextReader stops reading when ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// ReadBlob reads a blob whole, verified. One of more than limit bytes is refused before anything is read.
func ReadBlob(ctx context.Context, from Fetcher, desc v1.Descriptor, limit int64) ([]byte, error) {
	if err := checkDescriptor(desc, limit); err != nil {
		return nil, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	b, err := from.Blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	raw, err := readBlob(b, desc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	return raw, nil
}

// readBlob reads a small blob whole, verified.
func readBlob(b Blob, desc v1.Descriptor) ([]byte, error) {
	raw, err := io.ReadAll(io.NewSectionReader(b, 0, desc.Size+1))
	if err != nil {
		return nil, err
	}
	return raw, verify(raw, desc)
}

// manifestHead is what this package reads of manifests and indexes.
type manifestHead struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     types.MediaType   `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *v1.Descriptor    `json:"config"`
	Layers        []v1.Descriptor   `json:"layers"`
	Manifests     []v1.Descriptor   `json:"manifests"`
	Subject       *v1.Descriptor    `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// parseHead parses a manifest or index. outside is the type that a descriptor or
// a Content-Type gives it, which must be the one it gives itself: bytes that are
// an image to one reader and an index to another are refused (CVE-2021-41190).
func parseHead(raw []byte, outside string) (manifestHead, error) {
	var m manifestHead
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, err
	}
	if m.SchemaVersion == 1 {
		return m, errors.New("is a schema 1 manifest, which has no place for what is to be added\nhint: docker pull and docker push it with a current Docker")
	}
	if m.Manifests != nil && (m.Layers != nil || m.Config != nil) {
		return m, errors.New("is a manifest and an index at once")
	}
	if t, _, err := mime.ParseMediaType(outside); err == nil && isManifest(types.MediaType(t)) {
		if m.MediaType != "" && string(m.MediaType) != t {
			return m, fmt.Errorf("says it is %s, but is offered as %s", m.MediaType, t)
		}
		m.MediaType = types.MediaType(t)
	}
	switch {
	case m.MediaType != "":
	case m.Manifests != nil:
		m.MediaType = types.OCIImageIndex
	case m.Config != nil:
		m.MediaType = types.OCIManifestSchema1
	default:
		return m, errors.New("is neither a manifest nor an index")
	}
	if m.MediaType.IsIndex() && (m.Layers != nil || m.Config != nil) || m.MediaType.IsImage() && m.Manifests != nil {
		return m, fmt.Errorf("is not the %s it says it is", m.MediaType)
	}
	return m, nil
}

// referrer is the descriptor that lists of referrers carry for a manifest: with
// its artifactType and annotations (OCI distribution specification 1.1, listing
// referrers).
func (m manifestHead) referrer(desc v1.Descriptor) v1.Descriptor {
	d := v1.Descriptor{MediaType: m.MediaType, Digest: desc.Digest, Size: desc.Size, Annotations: m.Annotations, ArtifactType: m.ArtifactType}
	if d.ArtifactType == "" && m.Config != nil {
		d.ArtifactType = string(m.Config.MediaType)
	}
	return d
}

// index is an index whose unknown fields and entries are kept as they are.
type index struct {
	fields  map[string]json.RawMessage
	entries []entry
}

type entry struct {
	raw  json.RawMessage
	desc v1.Descriptor
}

func newEntry(desc v1.Descriptor) (entry, error) {
	raw, err := json.Marshal(desc)
	return entry{raw, desc}, err
}

func parseIndex(raw []byte) (*index, error) {
	x := &index{}
	if err := json.Unmarshal(raw, &x.fields); err != nil {
		return nil, err
	}
	head, err := parseHead(raw, string(types.OCIImageIndex))
	if err != nil {
		return nil, err
	}
	if head.SchemaVersion != 2 {
		return nil, fmt.Errorf("schema version %d, want 2", head.SchemaVersion)
	}
	var entries []json.RawMessage
	if list := x.fields["manifests"]; list != nil {
		if err := json.Unmarshal(list, &entries); err != nil {
			return nil, err
		}
	}
	for i, e := range entries {
		x.entries = append(x.entries, entry{e, head.Manifests[i]})
	}
	return x, nil
}

func newIndex() *index {
	return &index{fields: map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"),
		"mediaType":     json.RawMessage(`"` + string(types.OCIImageIndex) + `"`),
	}}
}

func (x *index) marshal() ([]byte, error) {
	list := make([]json.RawMessage, len(x.entries))
	for i, e := range x.entries {
		list[i] = e.raw
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	x.fields["manifests"] = raw
	return jsonedit.Marshal(x.fields)
}
