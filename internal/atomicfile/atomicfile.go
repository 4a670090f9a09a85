// SPDX-License-Identifier: Apache-2.0

// Package atomicfile writes files that are there whole or not at all: readers, and whoever comes after
// a crash, see the old content or the new.
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Pattern matches what a killed process may leave in the directory of the file.
const Pattern = "sbom-bless-*.tmp"

// TempName is a new name that [Pattern] matches.
func TempName() string { return fmt.Sprintf("sbom-bless-%016x.tmp", rand.Uint64()) }

// Write has write fill a new file, syncs it to the disk and gives it the name. The umask applies to mode.
func Write(name string, mode fs.FileMode, write func(io.Writer) error) error {
	temp := filepath.Join(filepath.Dir(name), TempName())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	if err = write(w); err == nil {
		err = errors.Join(w.Flush(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}
