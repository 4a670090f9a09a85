// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Follow makes the executable that is now at path the one that may change the
// verifier, and tells whether that is another than before. An agent calls it with the
// path of its own: an upgrade puts a new file there, which could not adopt what
// this one guards. Replacing that file is what host root can do in any case.
func (e *Enforcer) Follow(path string) (bool, error) {
	var st unix.Stat_t
	if err := stat(path, &st); err != nil {
		return false, err
	}
	var now blessAgent
	if err := e.maps["agents"].Lookup(uint32(0), &now); err != nil {
		return false, fmt.Errorf("agents: %w", err)
	}
	next := blessAgent{Armed: 1, Dev: kernelDev(st.Dev), Inode: st.Ino}
	if now == next || now.Armed == 0 { // not armed: being unloaded
		return false, nil
	}
	if err := e.maps["agents"].Put(uint32(0), next); err != nil {
		return false, fmt.Errorf("agents: %w", err)
	}
	return true, nil
}
