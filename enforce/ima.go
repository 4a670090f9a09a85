// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

const imaDir = "/sys/kernel/security/ima"

// checkIMA refuses a kernel with a loaded IMA policy: bpf_ima_file_hash then
// answers from IMA's cache, which a changed file does not always void (seen on
// 6.1, 6.12, 6.18, 7.3).
func checkIMA() error {
	loaded, err := imaPolicy()
	if err != nil {
		return fmt.Errorf("whether an IMA policy is loaded: %w", err)
	}
	if loaded != "" {
		return fmt.Errorf("%s: the kernel's file hashes can be stale: %w\nhint: boot without it", loaded, ErrNotSupported)
	}
	return nil
}

// imaPolicy tells how a loaded IMA policy shows; "" means that none is.
func imaPolicy() (string, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	for _, arg := range strings.Fields(string(cmdline)) {
		name, value, _ := strings.Cut(arg, "=")
		if name == "ima_tcb" || name == "ima_appraise_tcb" || name == "ima_policy" && value != "" {
			return "IMA policy by boot flag " + arg, nil
		}
	}
	if _, err := os.Stat(imaDir); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w\nhint: mount -t securityfs securityfs /sys/kernel/security", err)
	}
	b, err := os.ReadFile(imaDir + "/policy")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Without CONFIG_IMA_WRITE_POLICY the file goes once a policy was written
		// (security/integrity/ima/ima_fs.c, ima_release_policy).
		return "IMA policy written since boot", nil
	case errors.Is(err, fs.ErrPermission):
		return "", nil // without CONFIG_IMA_READ_POLICY; still to be written, so none is loaded
	case err != nil:
		return "", err
	}
	if slices.ContainsFunc(strings.Split(string(b), "\n"), func(l string) bool { return strings.TrimSpace(l) != "" }) {
		return "IMA policy loaded", nil
	}
	return "", nil
}
