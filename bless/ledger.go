// SPDX-License-Identifier: Apache-2.0

package bless

// The ledger: records of blessed layers that are left in a registry, so that a
// machine without a local cache need not read a layer that was blessed there
// before. Each is an artifact whose subject is no manifest but the name of what
// the layer was made from and with, and is signed by the key of the run: whoever
// can write to the registry cannot pass another layer off.

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

const (
	ledgerType       = "application/vnd.sbom-bless.layer.v1+zstd"
	ledgerAnnotation = "dev.sbom-bless.signature"
	maxLedgerRecord  = 64 << 20
	emptyConfig      = "{}"
)

// ledger is the destination, if it can keep records and a key can sign them.
func (r *run) ledger() transport.Store {
	store, ok := r.dst.(transport.Store)
	if !ok || !r.opts.Ledger || r.signer == nil {
		return nil
	}
	return store
}

// ledgerSubject stands for what the layer is made from and with.
func (r *run) ledgerSubject(j *layerJob) v1.Descriptor {
	return v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: r.recordKey(j), Size: int64(len(r.cacheKey))}
}

// ledgerHash hashes a record for its signature, in a frame that no file has.
func ledgerHash() hash.Hash {
	h := xattr.SHA256.New()
	h.Write([]byte("sbom-bless layer record\x00"))
	return h
}

// writeLedger leaves the record of a layer in the destination.
func (r *run) writeLedger(ctx context.Context, j *layerJob, rec *record) error {
	store := r.ledger()
	if store == nil {
		return nil
	}
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	sum := ledgerHash()
	if err := errors.Join(rec.encode(io.MultiWriter(z, sum)), z.Close()); err != nil {
		return err
	}
	sig, err := r.signer.Bless(xattr.Digest{Hash: xattr.SHA256, Sum: sum.Sum(nil)})
	if err != nil {
		return err
	}
	blob := packed.Bytes()
	subject := r.ledgerSubject(j)
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: ledgerType,
		Config:      v1.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Size: int64(len(emptyConfig)), Digest: digest.Of([]byte(emptyConfig))},
		Layers:      []v1.Descriptor{{MediaType: ledgerType, Size: int64(len(blob)), Digest: digest.Of(blob)}},
		Subject:     &subject,
		Annotations: map[string]string{ledgerAnnotation: base64.StdEncoding.EncodeToString(sig)},
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	for _, b := range []struct {
		desc    v1.Descriptor
		content []byte
	}{{m.Config, []byte(emptyConfig)}, {m.Layers[0], blob}} {
		if err := store.PutBlob(ctx, b.desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.content)), nil }); err != nil {
			return err
		}
	}
	return store.PutManifest(ctx, v1.Descriptor{
		MediaType: m.MediaType, Digest: digest.Of(raw), Size: int64(len(raw)), ArtifactType: ledgerType, Annotations: m.Annotations,
	}, raw)
}

// ledgerRecord finds the record of a layer in the destination; nil if there is
// none that the key signed. That the registry has no answer is no error: the
// layer is made then.
func (r *run) ledgerRecord(ctx context.Context, j *layerJob) (*record, error) {
	store := r.ledger()
	if store == nil {
		return nil, nil
	}
	found, err := store.Referrers(ctx, r.recordKey(j), ledgerType)
	if err != nil {
		return nil, ctx.Err()
	}
	for _, desc := range found {
		if rec := r.readLedger(ctx, store, desc, r.recordKey(j)); rec != nil {
			return rec, nil
		}
	}
	return nil, ctx.Err()
}

func (r *run) readLedger(ctx context.Context, store transport.Store, desc v1.Descriptor, key v1.Hash) *record {
	raw, err := store.Manifest(ctx, desc)
	if err != nil {
		return nil
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil || m.Subject == nil || m.Subject.Digest != key || len(m.Layers) != 1 {
		return nil
	}
	sig, err := base64.StdEncoding.DecodeString(m.Annotations[ledgerAnnotation])
	if err != nil {
		return nil
	}
	blob, err := store.Blob(ctx, m.Layers[0])
	if err != nil {
		return nil
	}
	defer blob.Close()
	z, err := zstd.NewReader(io.NewSectionReader(blob, 0, blob.Size()), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil
	}
	defer z.Close()
	content, err := io.ReadAll(io.LimitReader(z, maxLedgerRecord))
	if err != nil {
		return nil
	}
	sum := ledgerHash()
	sum.Write(content)
	if xattr.VerifyBless(r.signer.Public(), sig, xattr.Digest{Hash: xattr.SHA256, Sum: sum.Sum(nil)}) != nil {
		return nil
	}
	rec, err := decodeRecord(bytes.NewReader(content))
	if err != nil || rec.Key != key {
		return nil // signed, and of another layer
	}
	return rec
}
