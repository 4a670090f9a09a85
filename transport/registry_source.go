// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// registrySource is an image in a registry.
type registrySource struct {
	*registry
	desc v1.Descriptor
	raw  []byte // of the root
}

func openRegistry(ctx context.Context, r reference, o Options) (Source, error) {
	s := &registrySource{registry: newRegistry(r, transport.PullScope, o)}
	if err := s.resolve(ctx); err != nil {
		err = s.explain(err, "")
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w%s", err, s.instead(ctx))
		}
		return nil, err
	}
	return s, nil
}

// fewTags is how many tags a hint names.
const fewTags = 10

// instead is a hint at what there is where the reference leads to nothing; empty if the registry does not tell.
func (s *registrySource) instead(ctx context.Context) string {
	resp, err := s.send(ctx, request{method: http.MethodGet, path: "tags/list?n=1000", codes: []int{http.StatusOK}})
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return fmt.Sprintf("\nhint: the registry has no repository %s", s.repo.RepositoryStr())
	}
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	raw, err := readLimited(resp.Body, s.o.MaxManifest)
	var list struct{ Tags []string }
	if err != nil || json.Unmarshal(raw, &list) != nil {
		return ""
	}
	// Those of attestations and signatures are no images.
	tags := slices.DeleteFunc(list.Tags, func(tag string) bool {
		return strings.HasPrefix(tag, "sha256-") || !namePattern.MatchString(tag)
	})
	if len(tags) == 0 {
		return "\nhint: the repository has no tags"
	}
	more := ""
	if n := len(tags) - fewTags; n > 0 {
		tags, more = tags[n:], fmt.Sprintf(" and %d more", n)
	}
	return "\nhint: the repository has the tags " + strings.Join(tags, ", ") + more
}

// namePattern is the grammar of tags: what a registry sends may be meant for the terminal.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// resolve fetches what the reference names.
func (s *registrySource) resolve(ctx context.Context) error {
	raw, header, err := s.getManifest(ctx, s.ref.name.Identifier())
	if err != nil {
		return err
	}
	// The digest to expect: that of the reference, or the one the registry claims.
	var want v1.Hash
	if d, ok := s.ref.name.(name.Digest); ok {
		want, err = parseDigest(d.DigestStr())
	} else if claim := header.Get("Docker-Content-Digest"); claim != "" {
		want, err = parseDigest(claim)
	}
	if err != nil {
		return err
	}
	got, err := sum(raw, want)
	if err != nil {
		return err
	}
	if want.Hex != "" && got != want {
		return fmt.Errorf("manifest %s: %w", want, digestError(got))
	}
	head, err := parseHead(raw, header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("manifest %s: %w", got, err)
	}
	s.raw, s.desc = raw, v1.Descriptor{MediaType: head.MediaType, Digest: got, Size: int64(len(raw))}
	return nil
}

func (s *registrySource) Root() v1.Descriptor { return s.desc }

func (s *registrySource) Reference() string {
	return repository(s.repo) + "@" + s.desc.Digest.String()
}

func (s *registrySource) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	if desc.Digest == s.desc.Digest && desc.Size == s.desc.Size {
		return slices.Clone(s.raw), nil
	}
	return s.registry.Manifest(ctx, desc)
}

// Close drops the connections; the temporary files have no names.
func (r *registry) Close() error {
	r.base.CloseIdleConnections()
	return nil
}

// Blob downloads a blob to a temporary file and verifies it. A transfer that
// breaks goes on where it broke.
func (r *registry) Blob(ctx context.Context, desc v1.Descriptor) (Blob, error) {
	b, err := r.download(ctx, desc)
	if err != nil {
		return nil, r.explain(err, "blob %s: ", desc.Digest)
	}
	return b, nil
}

func (r *registry) download(ctx context.Context, desc v1.Descriptor) (Blob, error) {
	if err := checkDescriptor(desc, r.o.MaxBlob); err != nil {
		return nil, err
	}
	s, err := newSpool(r.o.TempDir)
	if err != nil {
		return nil, spoolError(err)
	}
	t := &transfer{registry: r, desc: desc, spool: s}
	if err := r.o.patience.retry(ctx, desc.Size, t.try); err != nil {
		s.Close()
		return nil, spoolError(err)
	}
	s.size = desc.Size
	return s, nil
}

// transfer is a download in progress. The bytes that came are in the spool, and
// in the hash.
type transfer struct {
	*registry
	desc  v1.Descriptor
	spool *spool
	sum   *hasher
	got   int64
	whole bool // came in one piece
}

// try fetches what is missing.
func (t *transfer) try(ctx context.Context) error {
	q := request{
		method: http.MethodGet, path: "blobs/" + t.desc.Digest.String(), header: http.Header{},
		codes: []int{http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable},
	}
	if t.got > 0 {
		q.header.Set("Range", fmt.Sprintf("bytes=%d-", t.got))
	}
	resp, err := t.send(ctx, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := t.place(resp); err != nil {
		return err
	}
	if resp.ContentLength >= 0 && resp.ContentLength != t.desc.Size-t.got {
		return fmt.Errorf("the registry has %d bytes, the descriptor says %d", t.got+resp.ContentLength, t.desc.Size)
	}
	n, err := io.CopyBuffer(io.MultiWriter(t.sum, t.spool), io.LimitReader(contextReader{ctx, resp.Body}, t.desc.Size-t.got+1), make([]byte, 256<<10))
	t.got += n
	if err != nil {
		return err
	}
	if t.got < t.desc.Size {
		return sizeError(t.got, t.desc.Size)
	}
	if t.got > t.desc.Size {
		return t.wrong(sizeError(t.got, t.desc.Size))
	}
	if got := t.sum.digest(); got != t.desc.Digest {
		return t.wrong(digestError(got))
	}
	return nil
}

// place readies spool and hash for the answer: its bytes go on where the last
// try ended, or begin anew.
func (t *transfer) place(resp *http.Response) error {
	want := fmt.Sprintf("bytes %d-%d/%d", t.got, t.desc.Size-1, t.desc.Size)
	if t.got > 0 && resp.StatusCode == http.StatusPartialContent && resp.Header.Get("Content-Range") == want {
		t.whole = false
		return nil
	}
	if err := t.restart(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("part of a blob that nobody asked for: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

func (t *transfer) restart() error {
	if _, err := t.spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := t.spool.Truncate(0); err != nil {
		return err
	}
	sum, err := newHasher(t.desc.Digest.Algorithm)
	t.sum, t.got, t.whole = sum, 0, true
	return err
}

// wrong is about bytes that are not those of the descriptor. If they came in
// pieces, one of those may be to blame, and a fresh start is worth a try.
func (t *transfer) wrong(err error) error {
	if t.whole {
		return err
	}
	t.got = 0
	return fmt.Errorf("%w: %w", err, io.ErrUnexpectedEOF)
}
