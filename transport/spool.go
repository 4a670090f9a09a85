// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// spool is a temporary file. It has no name from the start, so that it is gone
// whichever way the process ends.
type spool struct {
	*os.File
	size  int64
	close sync.Once
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "sbom-bless-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return &spool{File: f}, nil
}

func (s *spool) Size() int64 { return s.size }

func (s *spool) Close() error {
	err := error(nil)
	s.close.Do(func() { err = s.File.Close() })
	return err
}

// spoolBlob copies the content of desc to a temporary file, verified.
func spoolBlob(ctx context.Context, dir string, desc v1.Descriptor, src io.Reader) (*spool, error) {
	s, err := newSpool(dir)
	if err != nil {
		return nil, err
	}
	if err := copyVerified(ctx, s, src, desc); err != nil {
		s.Close()
		return nil, spoolError(err)
	}
	s.size = desc.Size
	return s, nil
}

// spoolAll copies src, of at most max bytes, to a temporary file.
func spoolAll(ctx context.Context, dir string, src io.Reader, max int64) (*spool, error) {
	s, err := newSpool(dir)
	if err != nil {
		return nil, err
	}
	s.size, err = io.CopyBuffer(struct{ io.Writer }{s}, io.LimitReader(contextReader{ctx, src}, max+1), make([]byte, 256<<10))
	if err == nil && s.size > max {
		err = fmt.Errorf("more than the limit of %d bytes", max)
	}
	if err != nil {
		s.Close()
		return nil, spoolError(err)
	}
	return s, nil
}

func spoolError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w\nhint: TMPDIR names the directory for temporary files", err)
	}
	return err
}

// section is a blob inside a larger file that stays open.
type section struct{ *io.SectionReader }

func (section) Close() error { return nil }
