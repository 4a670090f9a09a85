// SPDX-License-Identifier: Apache-2.0

// Package filelock locks open files against other processes. A lock ends with the process that has
// it, however that ends.
package filelock

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Lock waits until this process alone has the lock of f, or ctx ends.
func Lock(ctx context.Context, f *os.File) error {
	for {
		got, err := try(f)
		if err != nil {
			return fmt.Errorf("lock of %s: %w", f.Name(), err)
		}
		if got {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
