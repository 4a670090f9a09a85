// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"github.com/sbom-bless/sbom-bless/xattr"
	"golang.org/x/sys/unix"
)

// What makes a file good: the list, the signature, or both.
func TestTrust(t *testing.T) {
	vm.Test(t, vm.Some("7.3"), vm.Config{Memory: 1536, Host: func(t vm.TB, c *vm.Config) {
		for in, from := range guestFiles() {
			c.Files[in] = from
		}
	}}, testTrust)
}

// Programs that exit with status evil, by what speaks for them.
const (
	signedAndListed = "/bin/fortytwo"
	signedOnly      = "/opt/unlisted"
	listedOnly      = "/opt/unsigned"
	byStranger      = "/opt/stranger" // listed
	changed         = "/opt/changed"  // has the signature of another content
)

func testTrust(t *testing.T, k vm.Kernel) {
	must(makeImage())
	for n, name := range []string{listedOnly, byStranger, changed} {
		must(os.WriteFile(image+name, append(tiny(evil), make([]byte, n+2)...), 0o755))
	}
	node, nodeCert := newSigner()
	stranger, strangerCert := newSigner()
	must(filepath.WalkDir(image, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		must(err)
		signer := node
		switch strings.TrimPrefix(name, image) {
		case listedOnly:
			return nil
		case byStranger:
			signer = stranger
		case changed:
			b = append(b, 0)
		}
		sum := sha256.Sum256(b)
		value, err := signer.Bless(xattr.Digest{Hash: xattr.SHA256, Sum: sum[:]})
		must(err)
		return unix.Setxattr(name, "security.bpf.bless", value, 0)
	}))
	set, err := imageSet()
	must(err)
	set.Files = slices.DeleteFunc(set.Files, func(f enforce.File) bool { return f.Path == changed })

	e, err := enforce.Load(pinned)
	if err != nil {
		t.Fatal(err)
	}
	keyring := enforce.Domain{Name: "keyring", Rules: enforce.Rules{Enforce: true, Trust: enforce.TrustKeyring}}
	t.Run("no keys", func(t *testing.T) {
		c := newContainer(t)
		d := keyring
		d.Cgroup, d.Root = c.cgroup, c.root
		if _, err := e.Add(d, set); err == nil || !strings.Contains(err.Error(), "no keys") {
			t.Errorf("added: %v", err)
		}
	})
	setKeys := func(certs ...*x509.Certificate) {
		t.Helper()
		if err := e.SetKeys(certs); err != nil {
			t.Fatal(err)
		}
	}
	switch k {
	case "6.1": // has no ECDSA, and nothing for programs to read attributes with
		if err := e.SetKeys([]*x509.Certificate{nodeCert}); !errors.Is(err, enforce.ErrNotSupported) {
			t.Errorf("keys: %v", err)
		}
		fallthrough
	case "6.12": // reads user.* alone
		t.Run("refused", func(t *testing.T) {
			err := enforce.Supports(enforce.Probe(), enforce.TrustKeyring)
			if !errors.Is(err, enforce.ErrNotSupported) || !strings.Contains(err.Error(), "signed files") {
				t.Errorf("probe: %v", err)
			}
			if k == "6.1" {
				return
			}
			setKeys(nodeCert)
			c := newContainer(t)
			d := keyring
			d.Cgroup, d.Root = c.cgroup, c.root
			if _, err := e.Add(d, set); !errors.Is(err, enforce.ErrNotSupported) || !strings.Contains(err.Error(), "security.bpf") {
				t.Errorf("added: %v", err)
			}
		})
		return
	}

	for _, trust := range []enforce.Trust{enforce.TrustSBOM, enforce.TrustKeyring, enforce.TrustBoth} {
		if err := enforce.Supports(enforce.Probe(), trust); err != nil {
			t.Error(err)
		}
	}
	setKeys(nodeCert)
	events := watch(t, e)
	run := func(t *testing.T, c *container, id uint32, name, reason string) {
		t.Helper()
		a := attack{name: executing + name, op: "exec", reason: reason}
		o := a.run(t, c)
		switch {
		case o.Control != "":
			t.Errorf("%s: control: %s", name, o.Control)
		case reason == "" && o.Error != "":
			t.Errorf("%s does not run: %s; events: %v", name, o.Error, events.of(id))
		case reason != "" && o.Errno != syscall.EPERM:
			t.Errorf("%s: %q, want EPERM; events: %v", name, o.Error, events.of(id))
		case reason != "" && !events.wait(id, a.op, reason):
			t.Errorf("%s: no event %s; events: %v", name, reason, events.of(id))
		}
	}
	t.Run("baseline", func(t *testing.T) {
		c := newContainer(t)
		for _, name := range []string{signedAndListed, signedOnly, listedOnly, byStranger, changed} {
			run(t, c, 0, name, "")
		}
	})
	add := func(t *testing.T, trust enforce.Trust) (*container, uint32) {
		t.Helper()
		c := newContainer(t)
		d := enforce.Domain{Name: string(trust), Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true, Trust: trust}}
		id, err := e.Add(d, set)
		if err != nil {
			t.Fatal(err)
		}
		return c, id
	}
	for trust, reasons := range map[enforce.Trust]map[string]string{
		enforce.TrustSBOM:    {signedAndListed: "", signedOnly: "not-listed", listedOnly: "", byStranger: "", changed: "not-listed"},
		enforce.TrustKeyring: {signedAndListed: "", signedOnly: "", listedOnly: "not-signed", byStranger: "bad-signature", changed: "bad-signature"},
		enforce.TrustBoth:    {signedAndListed: "", signedOnly: "not-listed", listedOnly: "not-signed", byStranger: "bad-signature", changed: "not-listed"},
	} {
		t.Run(string(trust), func(t *testing.T) {
			c, id := add(t, trust)
			for name, reason := range reasons {
				run(t, c, id, name, reason)
			}
		})
	}
	t.Run("a copy in the writable layer has the signature, and does not count", func(t *testing.T) {
		c, id := add(t, enforce.TrustKeyring)
		must(copyWithXattr(c.root+"/home/copy", c.root+signedAndListed))
		run(t, c, id, "/home/copy", "writable-layer")
	})
	t.Run("the keyring is closed to the host's root", func(t *testing.T) {
		ring := keyringOf(t)
		if _, err := unix.AddKey("asymmetric", "", strangerCert.Raw, ring); err == nil {
			t.Error("a key was added")
		}
		if err := unix.KeyctlSetperm(ring, 0x3f3f3f3f); err == nil {
			t.Error("its permissions were changed")
		}
	})
	t.Run("other keys", func(t *testing.T) {
		c, id := add(t, enforce.TrustBoth)
		run(t, c, id, signedAndListed, "")
		setKeys(nodeCert, strangerCert)
		run(t, c, id, byStranger, "")
		run(t, c, id, signedAndListed, "")
		// What was judged good by the old keys is judged again: not even the attacker's own program runs.
		setKeys(strangerCert)
		if _, err := c.start("attacker", executing+signedAndListed); err == nil {
			t.Error("a program that no key of the node signed runs")
		}
		if !events.wait(id, "exec", "bad-signature") {
			t.Errorf("events: %v", events.of(id))
		}
	})
	if err := e.Unload(); err != nil {
		t.Error(err)
	}
	must(e.Close())
}

func newSigner() (*xattr.Signer, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, SubjectKeyId: make([]byte, 20),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	_, err = rand.Read(template.SubjectKeyId)
	must(err)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	signer, err := xattr.NewSigner(key, cert)
	must(err)
	return signer, cert
}

func copyWithXattr(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	value := make([]byte, 4096)
	n, err := unix.Getxattr(from, "security.bpf.bless", value)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, b, 0o755), unix.Setxattr(to, "security.bpf.bless", value[:n], 0))
}

// keyringOf finds the verifier's keyring, as anybody can.
func keyringOf(t *testing.T) int {
	t.Helper()
	ids := make([]byte, 4096)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, unix.KEY_SPEC_USER_KEYRING, ids, 0)
	must(err)
	for i := 0; i+4 <= n; i += 4 {
		id := int(int32(uint32(ids[i]) | uint32(ids[i+1])<<8 | uint32(ids[i+2])<<16 | uint32(ids[i+3])<<24))
		text, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, id)
		if err == nil && strings.Contains(text, ";sbom-bless-") {
			return id
		}
	}
	t.Fatal("no keyring")
	return 0
}
