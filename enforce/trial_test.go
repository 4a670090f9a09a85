// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLSMFlag(t *testing.T) {
	for active, want := range map[string]string{
		// Debian 12 (6.1), Ubuntu 24.04 (6.8), Debian 13 (6.12), each without bpf.
		"lockdown,capability,landlock,yama,apparmor,tomoyo":      "lsm=lockdown,landlock,yama,apparmor,tomoyo,integrity,bpf",
		"lockdown,capability,landlock,yama,apparmor":             "lsm=lockdown,landlock,yama,apparmor,integrity,bpf",
		"lockdown,capability,landlock,yama,apparmor,ipe,ima,evm": "lsm=lockdown,landlock,yama,apparmor,ipe,integrity,bpf",
		"capability": "lsm=integrity,bpf",
	} {
		if got := lsmFlag(active); got != want {
			t.Errorf("%s: %s, want %s", active, got, want)
		}
	}
}

func TestHashError(t *testing.T) {
	for algorithm, want := range map[int64]string{
		2: "hashes files with sha1", 6: "hashes files with sha512", 99: "hashes files with algorithm 99",
	} {
		err := hashError(algorithm)
		if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "\nhint: boot with ima_hash=sha256") {
			t.Errorf("%d: %v", algorithm, err)
		}
	}
	if err := hashError(hashSHA256); err != nil {
		t.Error(err)
	}
	if err := hashError(-int64(unix.EOPNOTSUPP)); !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "CONFIG_IMA") {
		t.Error(err)
	}
	if err := hashError(-int64(unix.ENOMEM)); !errors.Is(err, unix.ENOMEM) || certain(err) {
		t.Error(err)
	}
}

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"6.2.0": true, "6.12.118+deb13-cloud-amd64": true, "7.3.4": true, "10.0": true,
		"6.1.54": false, "6.1.0-49-cloud-amd64": false, "5.14.0-611.el9.x86_64": false, "5.19": false, "": false,
	} {
		if got := atLeast(release, 6, 2); got != want {
			t.Errorf("%s: %v", release, got)
		}
	}
}

func TestHasSymbol(t *testing.T) {
	for name, want := range map[string]bool{"vfs_read": true, "fs_read": false, "no_such_function": false} {
		if got, err := hasSymbol(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// Not tried on arm64 hardware: the error is the one that the kernel gives there.
func TestLoadError(t *testing.T) {
	err := loadError("arm64", unix.Errno(524))
	if !errors.Is(err, ErrNotSupported) || !strings.HasSuffix(err.Error(), "\nhint: on arm64, boot Linux 6.4 or later") {
		t.Error(err)
	}
	if err := loadError("amd64", unix.Errno(524)); !errors.Is(err, ErrNotSupported) || strings.Contains(err.Error(), "arm64") {
		t.Error(err)
	}
	if err := loadError("arm64", fs.ErrPermission); certain(err) {
		t.Errorf("no permission is taken for a kernel that cannot: %v", err)
	}
}

// What could not be tried is no kernel that cannot.
func TestSupports(t *testing.T) {
	yes := Ability{Name: "A", OK: true, Required: true}
	no := Ability{Name: "B", Required: true, Consequence: "boot C"}
	unknown := Ability{Name: "D", Unknown: true, Required: true, Consequence: "try as root"}
	signed := Ability{Name: "E", Signed: true, Consequence: "use F"}
	for _, c := range []struct {
		abilities    []Ability
		trust        Trust
		text         string
		notSupported bool
	}{
		{[]Ability{yes, signed}, TrustSBOM, "", false},
		{[]Ability{yes, signed}, TrustBoth, "trust both: not supported by this kernel: E: use F", true},
		{[]Ability{yes, no, unknown}, TrustSBOM, "trust sbom: not supported by this kernel: B: boot C; D: try as root", true},
		{[]Ability{yes, unknown}, TrustSBOM, "trust sbom: could not be tried: D: try as root", false},
	} {
		err := Supports(c.abilities, c.trust)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != c.text || errors.Is(err, ErrNotSupported) != c.notSupported {
			t.Errorf("%+v, %s: %v", c.abilities, c.trust, err)
		}
	}
}
