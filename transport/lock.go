// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// locked runs f while no other process of ours changes index.json. The lock is
// on the file oci-layout, which every layout has and nobody changes: no file is
// added. It ends with the process, however that ends.
func (d *layoutDestination) locked(ctx context.Context, f func() error) error {
	for {
		lock, err := d.root.OpenFile("oci-layout", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = flock(ctx, lock)
		if err == nil && !d.isStill(lock) {
			lock.Close() // the layout was taken away and made again meanwhile
			continue
		}
		if err == nil {
			err = f()
		}
		return errors.Join(err, lock.Close())
	}
}

func flock(ctx context.Context, f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			if err != nil {
				return fmt.Errorf("lock of %s: %w", f.Name(), err)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// isStill tells whether the open file is the one that has the name now.
func (d *layoutDestination) isStill(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := d.root.Stat("oci-layout")
	return err == nil && os.SameFile(mine, now)
}
