// SPDX-License-Identifier: Apache-2.0

package transport

// The registry client: OCI distribution specification 1.1 over go-containerregistry's
// authentication.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registry is one repository of a registry.
type registry struct {
	ref    reference
	repo   name.Repository
	action string // transport.PullScope or PushScope
	o      Options
	base   *http.Transport

	mu      sync.Mutex
	clients map[string]*http.Client // by the repository to mount from, "" for none
}

func newRegistry(r reference, action string, o Options) *registry {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.DisableCompression = true // a blob is what was sent, not what net/http makes of it
	base.MaxIdleConnsPerHost = 16
	base.TLSHandshakeTimeout = 15 * time.Second
	if o.Insecure {
		base.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	return &registry{ref: r, repo: r.name.Context(), action: action, o: o, base: base, clients: map[string]*http.Client{}}
}

// client logs in, with the right to mount from another repository too.
func (r *registry) client(ctx context.Context, from string) (*http.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.clients[from]; c != nil {
		return c, nil
	}
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, r.repo)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	scopes := []string{r.repo.Scope(r.action)}
	if from != "" {
		scopes = append(scopes, r.repo.Registry.Repo(from).Scope(transport.PullScope))
	}
	guarded := guard{watched{r.base, r.o.patience.idle}, r.o.Insecure}
	t, err := transport.NewWithContext(ctx, r.repo.Registry, auth, guarded, scopes)
	var answer *transport.Error
	if errors.As(err, &answer) && again(answer.StatusCode) {
		return nil, answer // https was tried as well, and says less
	}
	if err != nil {
		return nil, plainURL(err)
	}
	c := &http.Client{Transport: t, CheckRedirect: checkRedirect}
	r.clients[from] = c
	return c, nil
}

// guard refuses what a registry or somebody on the way could talk us into: plain
// HTTP, which go-containerregistry would also fall back to for private networks,
// and the link-local addresses where clouds keep their secrets.
type guard struct {
	inner    http.RoundTripper
	insecure bool
}

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Hostname()
	if req.URL.Scheme == "http" && !g.insecure && !isLocal(host) {
		return nil, ErrPlainHTTP
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLinkLocalUnicast() {
		return nil, fmt.Errorf("%s is a link-local address", host)
	}
	return g.inner.RoundTrip(req)
}

// Errors of connections that Options.Insecure would allow.
var (
	ErrPlainHTTP   = errors.New("plain HTTP is for registries on this host")
	ErrCertificate = errors.New("the certificate of the registry is not trusted")
)

func isLocal(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// checkRedirect keeps what came over TLS on TLS. That credentials stay with their
// host is go-containerregistry's work: it adds them to each request anew, by its
// host, and net/http copies none, as it never sees them.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("10 redirects")
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("redirect from TLS to %s://%s", req.URL.Scheme, req.URL.Host)
	}
	return nil
}

// request is one request to the repository.
type request struct {
	method string
	path   string // after /v2/NAME/, or a whole URL
	from   string // repository to mount from
	header http.Header
	open   func() (io.ReadCloser, error) // body
	size   int64                         // of the body
	codes  []int                         // answers that are no errors
}

// send sends a request once. The caller closes the body of the answer.
func (r *registry) send(ctx context.Context, q request) (*http.Response, error) {
	client, err := r.client(ctx, q.from)
	if err != nil {
		return nil, err
	}
	target := q.path
	if !strings.Contains(target, "://") {
		target = fmt.Sprintf("%s://%s/v2/%s/%s", r.repo.Scheme(), r.repo.RegistryStr(), r.repo.RepositoryStr(), q.path)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, target, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range q.header {
		req.Header[key] = values
	}
	if q.open != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			rc, err := q.open()
			return &onceBody{ReadCloser: rc}, err
		}
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		req.ContentLength = q.size
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, plainURL(err)
	}
	if err := transport.CheckError(resp, q.codes...); err != nil {
		resp.Body.Close()
		var answer *transport.Error
		if errors.As(err, &answer) {
			return nil, &statusError{answer, retryAfter(resp.Header)}
		}
		return nil, err
	}
	return resp, nil
}

// onceBody refuses to be sent twice: when a token has expired, go-containerregistry
// repeats the request with the body that was just sent.
type onceBody struct {
	io.ReadCloser
	done bool
}

func (b *onceBody) Read(p []byte) (int, error) {
	if b.done {
		return 0, errBodyUsed
	}
	return b.ReadCloser.Read(p)
}

func (b *onceBody) Close() error {
	b.done = true
	return b.ReadCloser.Close()
}

// plainURL takes the query out of an error's URL: it can be a secret, as in the
// signed URLs of object stores.
func plainURL(err error) error {
	var e *url.Error
	if !errors.As(err, &e) {
		return err
	}
	u, perr := url.Parse(e.URL)
	if perr != nil {
		return e.Err
	}
	return &plainError{fmt.Sprintf("%s %s://%s%s: %v", strings.ToUpper(e.Op), u.Scheme, u.Host, u.Path, e.Err), err}
}

// plainError is an error that reads in another way. It may be several in one, of https and of http.
type plainError struct {
	text string
	error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.error }

// explain adds the noun and, where a person can do something, a hint.
func (r *registry) explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	var status *transport.Error
	hint := ""
	switch text := err.Error(); {
	case errors.As(err, &status) && status.StatusCode == http.StatusNotFound:
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.As(err, &status) && status.StatusCode == http.StatusMethodNotAllowed && r.action == transport.PushScope:
		hint = "\nhint: a registry that is a mirror, or closed for writing, takes no images"
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		host, _, _ := strings.Cut(repository(r.repo), "/")
		hint = "\nhint: docker login " + host
	case strings.Contains(text, "x509: "):
		err = fmt.Errorf("%w: %w", ErrCertificate, err)
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		err = fmt.Errorf("%w: %w", ErrPlainHTTP, err)
	}
	return fmt.Errorf("%s: %s%w%s", r.ref, fmt.Sprintf(format, args...), err, hint)
}

var acceptManifests = http.Header{"Accept": {strings.Join([]string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1), string(types.DockerManifestList), string(types.DockerManifestSchema2),
}, ",")}}

// getManifest fetches a manifest by tag or digest, at most MaxManifest bytes.
func (r *registry) getManifest(ctx context.Context, id string) (raw []byte, header http.Header, err error) {
	err = r.o.patience.retry(ctx, 0, func(ctx context.Context) error {
		resp, err := r.send(ctx, request{method: http.MethodGet, path: "manifests/" + id, header: acceptManifests, codes: []int{http.StatusOK}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		raw, err = readLimited(resp.Body, r.o.MaxManifest)
		header = resp.Header
		return err
	})
	return raw, header, err
}

func readLimited(r io.Reader, max int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(raw)) > max {
		return nil, fmt.Errorf("more than the limit of %d bytes", max)
	}
	return raw, err
}

// Manifest fetches a manifest by its digest and verifies it.
func (r *registry) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	err := checkDescriptor(desc, r.o.MaxManifest)
	var raw []byte
	if err == nil {
		if raw, _, err = r.getManifest(ctx, desc.Digest.String()); err == nil {
			err = verify(raw, desc)
		}
	}
	if err != nil {
		return nil, r.explain(err, "manifest %s: ", desc.Digest)
	}
	return raw, nil
}
