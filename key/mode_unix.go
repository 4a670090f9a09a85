// SPDX-License-Identifier: Apache-2.0

//go:build unix

package key

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkMode refuses a key file that others may read, with a way out that is open
// to whoever is told.
//
// On a read-only mount nobody can change a mode, and group access there is how a
// kubelet lets the user of a pod read a secret (fsGroup): it counts as private.
func checkMode(path string, info fs.FileInfo) error {
	mode := info.Mode().Perm()
	readOnly := errors.Is(unix.Access(path, unix.W_OK), unix.EROFS)
	switch owner, ok := info.Sys().(*syscall.Stat_t); {
	case mode&0o077 == 0, readOnly && mode&0o027 == 0:
		return nil
	case readOnly:
		return fmt.Errorf("others may access it (mode %04o), on a mount that is read-only"+
			"\nhint: defaultMode: 0400 in the secret's volume (Kubernetes), mode: 0400 of the secret (Docker); or hand the file over as stdin, and - as the key", mode)
	case ok && int(owner.Uid) != os.Geteuid() && os.Geteuid() != 0:
		return fmt.Errorf("others may access it (mode %04o), and it belongs to another user"+
			"\nhint: install -m 600 %s COPY makes one that is yours; or hand the file over as stdin, and - as the key", mode, path)
	}
	return fmt.Errorf("others may access it (mode %04o)\nhint: chmod 600 %s", mode, path)
}
