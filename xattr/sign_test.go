// SPDX-License-Identifier: Apache-2.0

package xattr_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbom-bless/sbom-bless/xattr"
)

// keys are one of each kind.
func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	all := map[string]crypto.Signer{}
	var err error
	if all["p256"], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if all["p384"], err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if all["rsa2048"], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	return all
}

// keyFiles writes the private key, and has openssl make a self-signed certificate.
func keyFiles(t *testing.T, key crypto.Signer) (keyPEM, certPEM, certDER string) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM = filepath.Join(dir, "key.pem")
	certPEM, certDER = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "cert.der")
	if err := os.WriteFile(keyPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "openssl", "req", "-x509", "-new", "-key", keyPEM, "-subj", "/CN=test", "-addext", "keyUsage=digitalSignature", "-out", certPEM)
	run(t, nil, "openssl", "x509", "-in", certPEM, "-outform", "DER", "-out", certDER)
	return keyPEM, certPEM, certDER
}

func digestOf(content []byte) xattr.Digest {
	sum := sha256.Sum256(content)
	return xattr.Digest{Hash: xattr.SHA256, Sum: sum[:]}
}

// run fails the test when a tool that we did not write does.
func run(t *testing.T, stdin io.Reader, command ...string) string {
	t.Helper()
	c := exec.Command(command[0], command[1:]...)
	c.Stdin = stdin
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// attributeFile writes a file on a filesystem that takes security attributes.
func attributeFile(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func setAttribute(t *testing.T, file, name string, value []byte) {
	t.Helper()
	if err := unix.Setxattr(file, name, value, 0); err != nil {
		t.Fatalf("setxattr %s: %v (root is needed)", name, err)
	}
}

func TestEvmctlAcceptsOurSignatures(t *testing.T) {
	content := []byte("the content of a file\n")
	for name, key := range keys(t) {
		if name == "p384" {
			continue // evmctl 1.4 makes them with the digest of the key's size only
		}
		t.Run(name, func(t *testing.T) {
			_, _, certDER := keyFiles(t, key)
			signer, err := xattr.NewSigner(key, nil)
			if err != nil {
				t.Fatal(err)
			}
			file := attributeFile(t, content)
			value, err := signer.IMA(digestOf(content), 2)
			if err != nil {
				t.Fatal(err)
			}
			setAttribute(t, file, xattr.IMA, value)
			if out := run(t, nil, "evmctl", "ima_verify", "--key", certDER, file); !strings.Contains(out, "verification is OK") {
				t.Errorf("ima_verify says %s", out)
			}
			evm, err := signer.EVM(map[string][]byte{xattr.IMA: value}, 0, 0, 0o100644)
			if err != nil {
				t.Fatal(err)
			}
			setAttribute(t, file, xattr.EVM, evm)
			if out := run(t, nil, "evmctl", "verify", "--portable", "--key", certDER, "-a", "sha256", file); !strings.Contains(out, "verification is OK") {
				t.Errorf("verify --portable says %s", out)
			}
			if err := os.WriteFile(file, []byte("changed"), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("evmctl", "ima_verify", "--key", certDER, file).CombinedOutput(); err == nil {
				t.Errorf("ima_verify accepts a changed file: %s", out)
			}
		})
	}
}

func TestWeAcceptWhatEvmctlWrites(t *testing.T) {
	content := []byte("the content of a file\n")
	for name, key := range keys(t) {
		if name == "p384" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			keyPEM, _, _ := keyFiles(t, key)
			signer, err := xattr.NewSigner(key, nil)
			if err != nil {
				t.Fatal(err)
			}
			file := attributeFile(t, content)
			run(t, nil, "evmctl", "ima_sign", "-a", "sha256", "--key", keyPEM, file)
			theirs := getAttribute(t, file, xattr.IMA)
			v, err := xattr.Parse(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if v.KeyID != signer.KeyID() {
				t.Errorf("key id %s, ours %s", v.KeyID, signer.KeyID())
			}
			if err := v.Verify(key.Public(), digestOf(content)); err != nil {
				t.Error(err)
			}
			ours, err := signer.IMA(digestOf(content), 2)
			if err != nil {
				t.Fatal(err)
			}
			if name == "rsa2048" && !bytes.Equal(ours, theirs) {
				t.Errorf("ours   %x\ntheirs %x", ours, theirs)
			}
			if !bytes.Equal(ours[:7], theirs[:7]) {
				t.Errorf("header %x, theirs %x", ours[:7], theirs[:7])
			}
			run(t, nil, "evmctl", "sign", "--portable", "--imasig", "-a", "sha256", "--key", keyPEM, file)
			attrs := map[string][]byte{xattr.IMA: getAttribute(t, file, xattr.IMA)}
			if err := xattr.VerifyEVM(key.Public(), getAttribute(t, file, xattr.EVM), attrs, 0, 0, 0o100644); err != nil {
				t.Error(err)
			}
			run(t, nil, "evmctl", "ima_hash", "-a", "sha256", file)
			if got := getAttribute(t, file, xattr.IMA); !bytes.Equal(got, digestOf(content).IMA()) {
				t.Errorf("ima_hash wrote %x, we write %x", got, digestOf(content).IMA())
			}
		})
	}
}

func getAttribute(t *testing.T, file, name string) []byte {
	t.Helper()
	b := make([]byte, 4096)
	n, err := unix.Getxattr(file, name, b)
	if err != nil {
		t.Fatalf("getxattr %s: %v", name, err)
	}
	return b[:n]
}

func TestOpenSSLAcceptsOurPKCS7(t *testing.T) {
	d := digestOf([]byte("content"))
	statement := xattr.Statement(d)
	for name, key := range keys(t) {
		t.Run(name, func(t *testing.T) {
			_, certPEM, _ := keyFiles(t, key)
			signer, err := xattr.NewSigner(key, nil)
			if err != nil {
				t.Fatal(err)
			}
			message, err := signer.Bless(d)
			if err != nil {
				t.Fatal(err)
			}
			if err := xattr.VerifyBless(key.Public(), message, d); err != nil {
				t.Error(err)
			}
			content := filepath.Join(t.TempDir(), "content")
			verify := []string{"openssl", "cms", "-verify", "-inform", "DER", "-binary", "-noverify", "-certfile", certPEM, "-content", content, "-out", os.DevNull}
			if err := os.WriteFile(content, statement[:], 0o644); err != nil {
				t.Fatal(err)
			}
			run(t, bytes.NewReader(message), verify...)
			statement[24] ^= 1
			if err := os.WriteFile(content, statement[:], 0o644); err != nil {
				t.Fatal(err)
			}
			statement[24] ^= 1
			c := exec.Command(verify[0], verify[1:]...)
			c.Stdin = bytes.NewReader(message)
			if out, err := c.CombinedOutput(); err == nil {
				t.Errorf("openssl accepts another statement: %s", out)
			}
		})
	}
}

func TestSignaturesAreDeterministicAndBound(t *testing.T) {
	for name, key := range keys(t) {
		signer, err := xattr.NewSigner(key, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []xattr.Hash{xattr.SHA256, xattr.SHA384, xattr.SHA512} {
			sum := h.New().Sum(nil)
			d := xattr.Digest{Hash: h, Sum: sum}
			other := xattr.Digest{Hash: h, Sum: append([]byte{sum[0] ^ 1}, sum[1:]...)}
			for _, version := range []int{2, 3} {
				a, err := signer.IMA(d, version)
				if err != nil {
					t.Fatal(err)
				}
				b, err := signer.IMA(d, version)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(a, b) {
					t.Errorf("%s %s v%d: two signatures over one digest differ", name, h, version)
				}
				v, err := xattr.Parse(a)
				if err != nil {
					t.Fatal(err)
				}
				if err := v.Verify(key.Public(), d); err != nil {
					t.Errorf("%s %s v%d: %v", name, h, version, err)
				}
				if v.Verify(key.Public(), other) == nil {
					t.Errorf("%s %s v%d verifies another digest", name, h, version)
				}
				v.Version = byte(5 - version)
				if v.Verify(key.Public(), d) == nil {
					t.Errorf("%s %s: version %d passes for version %d", name, h, version, v.Version)
				}
			}
			message, err := signer.Bless(d)
			if err != nil {
				t.Fatal(err)
			}
			if xattr.VerifyBless(key.Public(), message, other) == nil {
				t.Errorf("%s %s: PKCS#7 verifies another digest", name, h)
			}
		}
	}
}

// The digest and the header of a signature, byte by byte.
func TestValueLayout(t *testing.T) {
	sum := sha256.Sum256(nil)
	if got, want := hex.EncodeToString(digestOf(nil).IMA()), "0404"+hex.EncodeToString(sum[:]); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	v := xattr.Value{Type: xattr.TypeSignature, Version: 2, Hash: xattr.SHA512, KeyID: xattr.KeyID{0xa1, 0xb2, 0xc3, 0xd4}, Sig: []byte{1, 2, 3}}
	if got, want := hex.EncodeToString(v.Append(nil)), "030206a1b2c3d40003010203"; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}

func TestKeysThatCannotServeAreRefused(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		key  crypto.Signer
		cert *x509.Certificate
		want string
	}{
		"P-521":                        {p521, nil, "P-521"},
		"Ed25519":                      {ed, nil, "ed25519"},
		"RSA of 1024 bits":             {rsa1024, nil, "1024"},
		"a certificate of another key": {p256, &x509.Certificate{PublicKey: &p521.PublicKey, SubjectKeyId: make([]byte, 20)}, "another key"},
		"a certificate without subject key identifier": {p256, &x509.Certificate{PublicKey: &p256.PublicKey}, "no subject key identifier"},
	} {
		if _, err := xattr.NewSigner(row.key, row.cert); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: error %v, want %q", name, err, row.want)
		}
	}
	signer, err := xattr.NewSigner(p256, &x509.Certificate{PublicKey: &p256.PublicKey, SubjectKeyId: []byte("named by someone")})
	if err != nil {
		t.Fatal(err)
	}
	if signer.KeyID() != (xattr.KeyID{'e', 'o', 'n', 'e'}) {
		t.Errorf("key id %s, not that of the certificate", signer.KeyID())
	}
	for want, d := range map[string]xattr.Digest{
		"sha1 is too weak":         {Hash: xattr.SHA1, Sum: make([]byte, 20)},
		"unknown hash algorithm 0": {Sum: make([]byte, 32)},
		"31 bytes":                 {Hash: xattr.SHA256, Sum: make([]byte, 31)},
		"64 bytes":                 {Hash: xattr.SHA256, Sum: make([]byte, 64)},
	} {
		_, err := signer.IMA(d, 2)
		_, err2 := signer.Bless(d)
		if err == nil || err2 == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err2.Error(), want) {
			t.Errorf("errors %v and %v, want %q", err, err2, want)
		}
	}
	if _, err := signer.IMA(digestOf(nil), 1); err == nil || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("signature version 1: %v", err)
	}
}

// remote is a key as a KMS has it: nothing but Sign.
type remote struct {
	crypto.Signer
	opts crypto.SignerOpts
}

func (r *remote) Sign(random io.Reader, sum []byte, opts crypto.SignerOpts) ([]byte, error) {
	r.opts = opts
	return r.Signer.Sign(rand.Reader, sum, opts)
}

func TestRemoteKeysAreAskedForTheHash(t *testing.T) {
	for name, key := range keys(t) {
		r := &remote{Signer: key}
		signer, err := xattr.NewSigner(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		value, err := signer.IMA(digestOf(nil), 2)
		if err != nil {
			t.Fatal(err)
		}
		v, err := xattr.Parse(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Verify(key.Public(), digestOf(nil)); err != nil || r.opts != crypto.SHA256 {
			t.Errorf("%s: %v, options %v", name, err, r.opts)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(digestOf(nil).IMA())
	f.Add(xattr.Value{Type: 3, Version: 2, Hash: xattr.SHA256, Sig: []byte("sig")}.Append(nil))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := xattr.NewSigner(key, nil)
	if err != nil {
		f.Fatal(err)
	}
	message, err := signer.Bless(digestOf(nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := xattr.Parse(b); err == nil && !bytes.Equal(v.Append(nil), b) {
			t.Errorf("%x parsed and appended is %x", b, v.Append(nil))
		}
		if v, err := xattr.ParseEVM(b); err == nil && !bytes.Equal(v.Append(nil), b) {
			t.Errorf("%x parsed and appended is %x", b, v.Append(nil))
		}
		if xattr.VerifyBless(key.Public(), b, digestOf(nil)) == nil && !bytes.Equal(b, message) {
			t.Errorf("another message verifies: %x", b)
		}
		_ = xattr.VerifyEVM(key.Public(), b, map[string][]byte{xattr.IMA: b}, 0, 0, 0)
	})
}

func BenchmarkSign(b *testing.B) {
	for name, key := range keys(b) {
		signer, err := xattr.NewSigner(key, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("ima/%s", name), func(b *testing.B) {
			for b.Loop() {
				if _, err := signer.IMA(digestOf(nil), 2); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("bless/%s", name), func(b *testing.B) {
			for b.Loop() {
				if _, err := signer.Bless(digestOf(nil)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
