// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// registryDestination is a repository that takes an image, and a tag for it.
type registryDestination struct {
	*registry
	put       sync.Map // v1.Hash -> []byte: manifests that were put
	referrers sync.Mutex
}

func createRegistry(r reference, o Options) (*registryDestination, error) {
	if _, ok := r.name.(name.Tag); !ok {
		return nil, fmt.Errorf("%s: a destination has a tag, not a digest\nhint: %s:TAG", r, repository(r.name.Context()))
	}
	return &registryDestination{registry: newRegistry(r, transport.PushScope, o)}, nil
}

// Has asks the registry.
func (d *registryDestination) Has(ctx context.Context, desc v1.Descriptor) (bool, error) {
	err := checkDescriptor(desc, d.o.MaxBlob)
	there := false
	if err == nil {
		err = d.o.patience.retry(ctx, 0, func(ctx context.Context) error {
			there, err = d.head(ctx, desc)
			return err
		})
	}
	return there, d.explain(err, "blob %s: ", desc.Digest)
}

func (d *registryDestination) head(ctx context.Context, desc v1.Descriptor) (bool, error) {
	q := request{method: http.MethodHead, path: "blobs/" + desc.Digest.String(), codes: []int{http.StatusOK, http.StatusNotFound}}
	if isManifest(desc.MediaType) {
		q.path, q.header = "manifests/"+desc.Digest.String(), acceptManifests
	}
	resp, err := d.send(ctx, q)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	// Some registries do not say the length.
	return resp.StatusCode == http.StatusOK && (resp.ContentLength < 0 || resp.ContentLength == desc.Size), nil
}

// PutBlob uploads a blob: POST, PATCH with all of it, PUT with the digest. The
// digest is that of the bytes sent, and the registry is asked for it afterwards.
func (d *registryDestination) PutBlob(ctx context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error {
	err := checkDescriptor(desc, d.o.MaxBlob)
	if err == nil {
		try := 0
		err = d.o.patience.retry(ctx, desc.Size, func(ctx context.Context) error {
			if try++; try > 1 {
				if there, err := d.head(ctx, desc); there || err != nil {
					return err
				}
			}
			return d.upload(ctx, desc, open)
		})
	}
	return d.explain(err, "blob %s: ", desc.Digest)
}

func (d *registryDestination) upload(ctx context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error {
	resp, err := d.send(ctx, request{method: http.MethodPost, path: "blobs/uploads/", codes: []int{http.StatusAccepted}})
	if err != nil {
		return err
	}
	resp.Body.Close()
	location, err := nextLocation(resp)
	if err != nil {
		return err
	}
	var sent *sentBody
	resp, err = d.send(ctx, request{
		method: http.MethodPatch, path: location, size: desc.Size,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
		open: func() (io.ReadCloser, error) {
			r, err := open()
			if err != nil {
				return nil, err
			}
			sum, err := newHasher(desc.Digest.Algorithm)
			sent = &sentBody{ReadCloser: r, sum: sum}
			return sent, err
		},
		codes: []int{http.StatusAccepted, http.StatusNoContent, http.StatusCreated},
	})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if err := sent.check(desc); err != nil {
		return err
	}
	if location, err = nextLocation(resp); err != nil {
		return err
	}
	return d.finish(ctx, desc, location)
}

// finish gives the upload its digest, and asks the registry for it.
func (d *registryDestination) finish(ctx context.Context, desc v1.Descriptor, location string) error {
	u, err := url.Parse(location)
	if err != nil {
		return err
	}
	query := u.Query()
	query.Set("digest", desc.Digest.String())
	u.RawQuery = query.Encode()
	resp, err := d.send(ctx, request{method: http.MethodPut, path: u.String(), codes: []int{http.StatusCreated, http.StatusNoContent}})
	if err != nil {
		return err
	}
	resp.Body.Close()
	return d.arrived(ctx, desc, resp)
}

// arrived checks what the registry says it has now.
func (d *registryDestination) arrived(ctx context.Context, desc v1.Descriptor, resp *http.Response) error {
	if claim := resp.Header.Get("Docker-Content-Digest"); claim != "" && claim != desc.Digest.String() {
		return fmt.Errorf("the registry says it stored %q", claim)
	}
	there, err := d.head(ctx, desc)
	if err == nil && !there {
		err = fmt.Errorf("not there, or of another size, after the upload: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// sentBody hashes what is sent. The transport may still read it while the answer
// is there already, hence the lock.
type sentBody struct {
	io.ReadCloser
	mu  sync.Mutex
	sum *hasher
	n   int64
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sum.Write(p[:n])
	b.n += int64(n)
	return n, err
}

func (b *sentBody) check(desc v1.Descriptor) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n != desc.Size {
		return fmt.Errorf("sent %d bytes of %d", b.n, desc.Size)
	}
	if got := b.sum.digest(); got != desc.Digest {
		return digestError(got)
	}
	return nil
}

// nextLocation is where an upload goes on.
func nextLocation(resp *http.Response) (string, error) {
	u, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("upload: %w", err)
	}
	if resp.Request.URL.Scheme == "https" && u.Scheme != "https" {
		return "", fmt.Errorf("upload: redirect from TLS to %s://%s", u.Scheme, u.Host)
	}
	return u.String(), nil
}

// Mount takes a blob from another repository of the same registry. It is false
// whenever the registry does not: then there is nothing to do but put it.
func (d *registryDestination) Mount(ctx context.Context, desc v1.Descriptor, from Source) (bool, error) {
	s, ok := from.(*registrySource)
	if !ok || s.repo.RegistryStr() != d.repo.RegistryStr() || checkDescriptor(desc, d.o.MaxBlob) != nil {
		return false, nil
	}
	if s.repo.RepositoryStr() == d.repo.RepositoryStr() {
		return d.Has(ctx, desc)
	}
	query := url.Values{"mount": {desc.Digest.String()}, "from": {s.repo.RepositoryStr()}}
	mounted := false
	err := d.o.patience.retry(ctx, 0, func(ctx context.Context) error {
		resp, err := d.send(ctx, request{
			method: http.MethodPost, path: "blobs/uploads/?" + query.Encode(), from: s.repo.RepositoryStr(),
			codes: []int{http.StatusCreated, http.StatusAccepted},
		})
		if err != nil {
			return err
		}
		resp.Body.Close()
		if mounted = resp.StatusCode == http.StatusCreated; mounted {
			return d.arrived(ctx, desc, resp)
		}
		d.cancelUpload(ctx, resp)
		return nil
	})
	var answer *transport.Error
	if errors.As(err, &answer) {
		return false, nil // not allowed to read there, or not to mount
	}
	return mounted && err == nil, d.explain(err, "blob %s: mount: ", desc.Digest)
}

// cancelUpload ends the upload that a registry began instead of mounting.
func (d *registryDestination) cancelUpload(ctx context.Context, resp *http.Response) {
	location, err := nextLocation(resp)
	if err != nil {
		return
	}
	// Registries that cannot cancel end it by themselves, later.
	if resp, err := d.send(ctx, request{method: http.MethodDelete, path: location, codes: []int{http.StatusNoContent}}); err == nil {
		resp.Body.Close()
	}
}

// PutManifest uploads a manifest by its digest. If it has a subject, it is among
// the subject's referrers then.
func (d *registryDestination) PutManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	return d.putReferrers(ctx, []Manifest{{desc, raw}})
}

func (d *registryDestination) putReferrers(ctx context.Context, manifests []Manifest) error {
	unlisted := map[v1.Hash][]v1.Descriptor{} // by their subject
	var order []v1.Hash
	for _, m := range manifests {
		subject, referrer, err := d.putManifest(ctx, m.Descriptor, m.Raw)
		if err != nil {
			return d.explain(err, "manifest %s: ", m.Descriptor.Digest)
		}
		if subject == (v1.Hash{}) {
			continue
		}
		if unlisted[subject] == nil {
			order = append(order, subject)
		}
		unlisted[subject] = append(unlisted[subject], referrer)
	}
	for _, subject := range order {
		if err := d.list(ctx, subject, unlisted[subject]); err != nil {
			return d.explain(err, "referrers of %s: ", subject)
		}
	}
	return nil
}

// putManifest gives the subject of the manifest, if the registry has not listed it there by itself.
func (d *registryDestination) putManifest(ctx context.Context, desc v1.Descriptor, raw []byte) (subject v1.Hash, referrer v1.Descriptor, err error) {
	if err := checkDescriptor(desc, d.o.MaxManifest); err != nil {
		return subject, referrer, err
	}
	if err := verify(raw, desc); err != nil {
		return subject, referrer, err
	}
	head, err := parseHead(raw, string(desc.MediaType))
	if err != nil {
		return subject, referrer, err
	}
	desc.MediaType = head.MediaType
	resp, err := d.putRaw(ctx, desc.Digest.String(), desc, raw)
	if err != nil && head.Subject != nil {
		err = refused(err)
	}
	if err != nil {
		return subject, referrer, err
	}
	d.put.Store(desc.Digest, slices.Clone(raw))
	// A registry that has the referrers API says so (distribution specification
	// 1.1, pushing manifests with subject).
	if head.Subject == nil || resp.Header.Get("OCI-Subject") == head.Subject.Digest.String() {
		return subject, referrer, nil
	}
	return head.Subject.Digest, head.referrer(desc), nil
}

// putRaw uploads a manifest under a tag or digest.
func (d *registryDestination) putRaw(ctx context.Context, id string, desc v1.Descriptor, raw []byte) (resp *http.Response, err error) {
	err = d.o.patience.retry(ctx, desc.Size, func(ctx context.Context) error {
		resp, err = d.send(ctx, request{
			method: http.MethodPut, path: "manifests/" + id, size: desc.Size,
			header: http.Header{"Content-Type": {string(desc.MediaType)}},
			open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
			codes:  []int{http.StatusCreated, http.StatusOK, http.StatusAccepted},
		})
		if err != nil {
			return err
		}
		resp.Body.Close()
		return d.arrived(ctx, desc, resp)
	})
	return resp, err
}

// Commit tags the root.
func (d *registryDestination) Commit(ctx context.Context, root v1.Descriptor) (string, error) {
	raw, ok := d.put.Load(root.Digest)
	if !ok { // it was there
		var err error
		if raw, err = d.Manifest(ctx, root); err != nil {
			return "", err
		}
	}
	head, err := parseHead(raw.([]byte), string(root.MediaType))
	if err == nil {
		root.MediaType = head.MediaType
		_, err = d.putRaw(ctx, d.ref.name.Identifier(), root, raw.([]byte))
	}
	if err != nil {
		return "", d.explain(err, "")
	}
	return repository(d.repo) + "@" + root.Digest.String(), nil
}

var (
	_ Store   = (*registryDestination)(nil)
	_ Mounter = (*registryDestination)(nil)
)
