// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// enter waits until fewer guests run on this machine than it has processors,
// whatever process started them: go test runs packages side by side, and each
// of them boots guests. The kernel gives the place back if the process dies.
func enter(ctx context.Context) (leave func(), err error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("sbom-bless-vm-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for {
		for n := range runtime.NumCPU() {
			f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint("guest", n)), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				return nil, err
			}
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			if err == nil {
				return func() { f.Close() }, nil
			}
			f.Close()
			if !errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fmt.Errorf("%s: %w", f.Name(), err)
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
