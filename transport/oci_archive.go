// SPDX-License-Identifier: Apache-2.0

package transport

// OCI image layouts in a tar.

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func openOCIArchive(ctx context.Context, r reference, o Options) (Source, error) {
	t, err := openTar(ctx, r.path, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	s := &layoutSource{layout: layout{r, t, o}, close: t.tar.Close}
	if s.desc, err = s.root(); err != nil {
		t.tar.Close()
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	return s, nil
}

// ociArchive is written whole by Commit, over what was there.
type ociArchive struct {
	*staging
}

func createOCIArchive(r reference, o Options) (*ociArchive, error) {
	if r.digest != (v1.Hash{}) {
		return nil, fmt.Errorf("%s: a destination has a tag, not a digest\nhint: oci-archive:%s:TAG", r, r.path)
	}
	s, err := newStaging(r, o)
	if err != nil {
		return nil, err
	}
	return &ociArchive{s}, nil
}

// Commit writes the tar beside its name and renames it. The same content makes
// the same tar.
func (a *ociArchive) Commit(ctx context.Context, root v1.Descriptor) (string, error) {
	if err := a.commit(ctx, root); err != nil {
		return "", fmt.Errorf("%s: %w", a.ref, err)
	}
	return reference{place: OCIArchive, path: a.ref.path, digest: root.Digest}.String(), nil
}

func (a *ociArchive) commit(ctx context.Context, root v1.Descriptor) error {
	head, err := a.head(root)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", root.Digest, err)
	}
	desc := v1.Descriptor{MediaType: head.MediaType, Digest: root.Digest, Size: root.Size}
	if a.ref.tag != "" {
		desc.Annotations = map[string]string{refName: a.ref.tag}
	}
	e, err := newEntry(desc)
	if err != nil {
		return err
	}
	x := newIndex()
	x.entries = append(x.entries, e)
	if err := addReferrers(x, a.referrers(), head); err != nil {
		return err
	}
	raw, err := x.marshal()
	if err != nil {
		return err
	}
	return a.write(ctx, a.ref.path, []tarFile{{"oci-layout", []byte(layoutFile)}, {"index.json", raw}})
}

// PutManifest takes any manifest; those with a subject are listed.
func (a *ociArchive) PutManifest(_ context.Context, desc v1.Descriptor, raw []byte) error {
	return a.putManifest(desc, raw)
}

// Referrers lists those that were put.
func (a *ociArchive) Referrers(_ context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	var list referrerList
	for _, desc := range a.referrers() {
		if head, err := a.head(desc); err == nil && head.Subject.Digest == subject {
			list.add(desc, artifactType)
		}
	}
	return list.sorted(), nil
}
