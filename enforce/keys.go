// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Permissions of the keyring and nobody's right to change them: programs look
// keys up as possessors (search), people may look (view, read). From
// include/linux/key.h.
const keyringPermissions = 0x0b030000

var errNoKeys = errors.New("the verifier has no keys\nhint: load it with the certificates whose signatures count")

// SetKeys makes certs the keys that the kernel verifies security.bpf.bless
// with, for every domain whose trust is keyring or both; it replaces those of
// the call before, at once. What was verified with the old ones is verified
// again. An error changes nothing.
//
// The keys are in a keyring that nobody can add to, which root's user keyring
// keeps when this process ends.
func (e *Enforcer) SetKeys(certs []*x509.Certificate) error {
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	old, err := e.settings()
	if err != nil {
		return err
	}
	ring, err := newKeyring(certs)
	if err != nil {
		return err
	}
	if err := e.change(func(s *blessSettings) { s.Keyring = int32(ring) }); err != nil {
		return errors.Join(err, dropKeyring(ring))
	}
	if old.Keyring != 0 {
		if err := dropKeyring(int(old.Keyring)); err != nil {
			return err
		}
	}
	return e.rememberKeys(certs)
}

// newKeyring makes a keyring of the certificates, closed to others and kept
// by the user keyring of root.
func newKeyring(certs []*x509.Certificate) (ring int, err error) {
	// Only its possessor may fill a keyring, and the thread's is the one that
	// this process surely possesses: a service's session has no link to root's.
	if len(certs) == 0 {
		return 0, errNoKeys
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	name := fmt.Sprintf("sbom-bless-%08x", rand.Uint32())
	if ring, err = unix.AddKey("keyring", name, nil, unix.KEY_SPEC_THREAD_KEYRING); err != nil {
		return 0, fmt.Errorf("keyring: %w", err)
	}
	defer func() {
		_, unlinked := unix.KeyctlInt(unix.KEYCTL_UNLINK, ring, unix.KEY_SPEC_THREAD_KEYRING, 0, 0)
		err = errors.Join(err, unlinked)
	}()
	for _, c := range certs {
		_, err := unix.AddKey("asymmetric", "", c.Raw, ring)
		switch {
		case errors.Is(err, unix.ENOPKG), errors.Is(err, unix.ENOENT):
			// ENOENT: ECDSA on Debian's cloud kernel 6.1 (seen).
			return 0, fmt.Errorf("certificate %s: this kernel has no %s: %w", c.Subject, c.PublicKeyAlgorithm, ErrNotSupported)
		case err != nil:
			return 0, fmt.Errorf("certificate %s: %w", c.Subject, err)
		}
	}
	if err := unix.KeyctlRestrictKeyring(ring, "", ""); err != nil {
		return 0, fmt.Errorf("keyring: restrict: %w", err)
	}
	if _, err := unix.KeyctlInt(unix.KEYCTL_LINK, ring, unix.KEY_SPEC_USER_KEYRING, 0, 0); err != nil {
		return 0, fmt.Errorf("keyring: link: %w", err)
	}
	if err := unix.KeyctlSetperm(ring, keyringPermissions); err != nil {
		return 0, errors.Join(fmt.Errorf("keyring: permissions: %w", err), dropKeyring(ring))
	}
	return ring, nil
}

// dropKeyring lets the kernel free the keyring. One that is gone already, as
// after a restart of what held it, is no error.
func dropKeyring(ring int) error {
	_, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, ring, unix.KEY_SPEC_USER_KEYRING, 0, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOKEY) {
		return fmt.Errorf("keyring: unlink: %w", err)
	}
	return nil
}

// dropKeys lets go of the keyring that is in use.
func (e *Enforcer) dropKeys() error {
	s, err := e.settings()
	if err != nil || s.Keyring == 0 {
		return err
	}
	return dropKeyring(int(s.Keyring))
}

// checkKeys tells why no file can be verified, if none can.
func (e *Enforcer) checkKeys() error {
	s, err := e.settings()
	if err != nil {
		return err
	}
	if s.Keyring == 0 {
		return errNoKeys
	}
	return canVerify()
}

// Keys gives what SetKeys was called with last, by whatever process; none if
// it never was.
func (e *Enforcer) Keys() ([]*x509.Certificate, error) {
	if e.options.State == "" {
		return nil, nil
	}
	name := e.keysPath()
	rest, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certs, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		certs = append(certs, c)
	}
}

func (e *Enforcer) keysPath() string { return filepath.Join(e.options.State, "keys.pem") }

func (e *Enforcer) rememberKeys(certs []*x509.Certificate) error {
	if e.options.State == "" {
		return nil
	}
	var b bytes.Buffer
	for _, c := range certs {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return err
		}
	}
	return writeNew(e.keysPath(), b.Bytes())
}
