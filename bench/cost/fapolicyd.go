// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/testfapolicyd"
)

// fapolicyd measures Debian's, with integrity=sha256, which trusts the same
// files. The clock counts the daemon's instructions as well as the kernel's.
func fapolicyd() error {
	trusted := map[string]string{}
	err := filepath.WalkDir(image, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			// It is asked twice: for the overlay's file, and for the one below.
			trusted[root+strings.TrimPrefix(name, image)] = name
			trusted[strings.TrimPrefix(name, image)] = name
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := testfapolicyd.Start(trusted); err != nil {
		return err
	}
	time.Sleep(10 * time.Second)
	if err := warm(); err != nil {
		return fmt.Errorf("%w\n%s", err, testfapolicyd.Said())
	}
	const name = root + "/home/changed"
	b, err := os.ReadFile(image + "/usr/bin/true")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, append(b, 0), 0o755); err != nil {
		return err
	}
	if err := exec.Command(name).Run(); !errors.Is(err, testfapolicyd.Denied) {
		return fmt.Errorf("a file that is not trusted: %w, want %w: fapolicyd is not in force", err, testfapolicyd.Denied)
	}
	return measure("fapolicyd", true)
}
