// SPDX-License-Identifier: Apache-2.0

package transport

// How long, and how often, a registry is asked.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

type patience struct {
	tries int           // of one operation
	pause time.Duration // before the second try; doubles, with jitter
	idle  time.Duration // without a byte moving
	total time.Duration // of one operation, beside the time its bytes need at the slowest rate
}

// slowest is the rate below which a transfer is given up, in bytes a second.
const slowest = 32 << 10

// longest is the longest pause between tries, also when the registry asks for
// more.
const longest = time.Minute

var defaultPatience = patience{tries: 6, pause: 500 * time.Millisecond, idle: time.Minute, total: 10 * time.Minute}

var (
	errStalled  = errors.New("no byte moved")
	errDeadline = errors.New("deadline exceeded")
	errBodyUsed = errors.New("the body was sent already")
)

// retry runs op until it succeeds, fails for good, or patience ends. size is the
// number of bytes it moves.
func (p patience) retry(ctx context.Context, size int64, op func(ctx context.Context) error) error {
	limit := p.total + time.Duration(size/slowest)*time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errDeadline)
	defer cancel()
	pause := p.pause
	last := errors.New("no answer")
	for try := 1; ; try++ {
		err := op(ctx)
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); errors.Is(cause, errDeadline) {
			return fmt.Errorf("%w after %s: %w", errDeadline, limit, last)
		} else if cause != nil {
			return cause
		}
		last = err
		asked, again := temporary(err)
		switch {
		case again && asked > longest:
			return fmt.Errorf("%w (come again in %s, says the registry)", err, asked.Round(time.Second))
		case (!again || try == p.tries) && try > 1:
			return fmt.Errorf("%w (tried %d times)", err, try)
		case !again || try == p.tries:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(asked, pause/2) + rand.N(pause/2+1)):
		}
		pause = min(2*pause, longest)
	}
}

// Temporary tells whether err came of a place that could not answer, and says nothing of what it holds.
func Temporary(err error) bool {
	_, again := temporary(err)
	var op *net.OpError
	return again || errors.Is(err, errDeadline) || errors.As(err, &op)
}

// temporary tells whether another try may do better, and how long the registry
// asks to wait before it.
func temporary(err error) (time.Duration, bool) {
	var status *statusError
	if errors.As(err, &status) {
		return status.after, again(status.answer.StatusCode)
	}
	var answer *transport.Error
	if errors.As(err, &answer) {
		return 0, again(answer.StatusCode)
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return 0, dns.IsTemporary
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return 0, false // nobody there, which people want to know at once
	}
	for _, e := range []error{errStalled, errBodyUsed, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, net.ErrClosed} {
		if errors.Is(err, e) {
			return 0, true
		}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return 0, true
	}
	// net/http keeps the types of these to itself.
	for _, s := range []string{"http2: ", "stream error: ", "server closed idle connection", "transport connection broken"} {
		if strings.Contains(err.Error(), s) {
			return 0, true
		}
	}
	return 0, false
}

func again(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return status > 511 // what proxies invent, like 522
}

// statusError is a registry's answer that is not the one asked for.
type statusError struct {
	answer *transport.Error
	after  time.Duration // that it asks to wait
}

func (e *statusError) Error() string { return e.answer.Error() }
func (e *statusError) Unwrap() error { return e.answer }

// retryAfter reads the header of that name: seconds, or a date (RFC 9110, 10.2.3).
func retryAfter(h http.Header) time.Duration {
	s := h.Get("Retry-After")
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return time.Duration(min(n, 24*60*60)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// watched is a round tripper that gives up when no byte moves for a while: none
// of the request, none of the answer.
type watched struct {
	inner http.RoundTripper
	idle  time.Duration
}

func (w watched) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	idle := w.idle
	if req.Method == http.MethodPut || req.Method == http.MethodPatch {
		idle *= 5 // registries read a blob again before they answer
	}
	dog := time.AfterFunc(idle, func() { cancel(fmt.Errorf("%w for %s", errStalled, idle)) })
	stop := func() { dog.Stop(); cancel(nil) }
	req = req.Clone(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &watchedBody{ReadCloser: req.Body, ctx: ctx, touch: func() { dog.Reset(idle) }}
	}
	resp, err := w.inner.RoundTrip(req)
	if err != nil {
		err = because(ctx, err)
		stop()
		return nil, err
	}
	dog.Reset(w.idle)
	resp.Body = &watchedBody{ReadCloser: resp.Body, ctx: ctx, touch: func() { dog.Reset(w.idle) }, stop: stop}
	return resp, nil
}

type watchedBody struct {
	io.ReadCloser
	ctx   context.Context
	touch func()
	stop  func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && b.ctx.Err() == nil {
		b.touch()
	}
	if err != nil && err != io.EOF {
		err = because(b.ctx, err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	if b.stop != nil {
		b.stop()
	}
	return err
}

// because gives the reason why ctx ended, if that made err.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return cause
	}
	return err
}
