// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriteback has the kernel write a range of f to the disk. It does not wait
// and promises nothing (sync_file_range(2)): fsync does.
func beginWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
