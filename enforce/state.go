// SPDX-License-Identifier: Apache-2.0

package enforce

import "os"

// writeNew replaces a file of the state directory. Readers take no lock: they see
// the old content or the new.
func writeNew(name string, content []byte) error {
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
