// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"errors"
	"os"

	"github.com/sbom-bless/sbom-bless/internal/filelock"
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
		err = filelock.Lock(ctx, lock)
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

// isStill tells whether the open file is the one that has the name now.
func (d *layoutDestination) isStill(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := d.root.Stat("oci-layout")
	return err == nil && os.SameFile(mine, now)
}
