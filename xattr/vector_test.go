// SPDX-License-Identifier: Apache-2.0

package xattr_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"testing"

	"github.com/sbom-bless/sbom-bless/xattr"
)

// vector reads a file of testdata/evmctl, which evmctl 1.4 and openssl made.
func vector(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/evmctl/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(b); block != nil {
		return block.Bytes
	}
	if value, err := hex.DecodeString(string(bytes.TrimSpace(b))); err == nil {
		return value
	}
	return b
}

func TestVectorsOfEvmctl(t *testing.T) {
	content := vector(t, "content")
	digest := func(h xattr.Hash) xattr.Digest {
		sum := h.New()
		sum.Write(content)
		return xattr.Digest{Hash: h, Sum: sum.Sum(nil)}
	}
	for _, h := range []xattr.Hash{xattr.SHA256, xattr.SHA512} {
		if got, want := digest(h).IMA(), vector(t, "digest."+h.String()+".ima"); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, evmctl %x", h, got, want)
		}
	}
	for _, kind := range []string{"rsa-2048", "ecdsa-p256"} {
		t.Run(kind, func(t *testing.T) {
			key, err := x509.ParsePKCS8PrivateKey(vector(t, kind+".key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			cert, err := x509.ParseCertificate(vector(t, kind+".crt.pem"))
			if err != nil {
				t.Fatal(err)
			}
			signer, err := xattr.NewSigner(key.(crypto.Signer), cert)
			if err != nil {
				t.Fatal(err)
			}
			bare, err := xattr.NewSigner(key.(crypto.Signer), nil)
			if err != nil {
				t.Fatal(err)
			}
			if bare.KeyID() != signer.KeyID() { // openssl makes subject key identifiers in the same way
				t.Errorf("key id %s, with the certificate %s", bare.KeyID(), signer.KeyID())
			}
			_, isRSA := signer.Public().(*rsa.PublicKey)
			// same compares what only the random number of ECDSA may tell apart.
			same := func(what string, ours, theirs []byte) {
				if !isRSA {
					ours, theirs = ours[:7], theirs[:7]
				}
				if !bytes.Equal(ours, theirs) {
					t.Errorf("%s: %x, evmctl %x", what, ours, theirs)
				}
			}
			for _, h := range []xattr.Hash{xattr.SHA256, xattr.SHA384, xattr.SHA512} {
				theirs := vector(t, kind+"."+h.String()+".ima")
				v, err := xattr.Parse(theirs)
				if err != nil {
					t.Fatal(err)
				}
				if err := v.Verify(signer.Public(), digest(h)); err != nil {
					t.Errorf("%s: %v", h, err)
				}
				ours, err := signer.IMA(digest(h), 2)
				if err != nil {
					t.Fatal(err)
				}
				same(h.String(), ours, theirs)
			}
			capability, _ := hex.DecodeString("0100000200200000000000000000000000000000")
			attrs := map[string][]byte{xattr.IMA: vector(t, kind+".evm-ima"), "security.capability": capability, "user.note": []byte("not covered")}
			theirs := vector(t, kind+".evm")
			if err := xattr.VerifyEVM(signer.Public(), theirs, attrs, 1000, 100, 0o104750); err != nil {
				t.Error(err)
			}
			ours, err := signer.EVM(attrs, 1000, 100, 0o104750)
			if err != nil {
				t.Fatal(err)
			}
			same("security.evm", ours, theirs)
			for name, err := range map[string]error{
				"owner":     xattr.VerifyEVM(signer.Public(), theirs, attrs, 0, 100, 0o104750),
				"group":     xattr.VerifyEVM(signer.Public(), theirs, attrs, 1000, 0, 0o104750),
				"mode":      xattr.VerifyEVM(signer.Public(), theirs, attrs, 1000, 100, 0o100750),
				"attribute": xattr.VerifyEVM(signer.Public(), theirs, map[string][]byte{xattr.IMA: attrs[xattr.IMA]}, 1000, 100, 0o104750),
			} {
				if err == nil {
					t.Errorf("security.evm verifies with another %s", name)
				}
			}
		})
	}
}

// The bytes of a security.bpf.bless, member by member: RSA signs
// deterministically by definition, so they are fixed.
func TestBlessBytes(t *testing.T) {
	key, err := x509.ParsePKCS8PrivateKey(vector(t, "rsa-2048.key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xattr.NewSigner(key.(crypto.Signer), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := xattr.Digest{Hash: xattr.SHA256, Sum: bytes.Repeat([]byte{0xd1}, 32)}
	statement := "73626f6d2d626c6573732066696c6500" + "01" + "04" + "000000000000" + hex.EncodeToString(d.Sum) + hex.EncodeToString(make([]byte, 32))
	if got := xattr.Statement(d); hex.EncodeToString(got[:]) != statement {
		t.Errorf("statement %x, want %s", got, statement)
	}
	got, err := signer.Bless(d)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(vector(t, "rsa-2048.crt.pem"))
	if err != nil {
		t.Fatal(err)
	}
	const sha256ID = "300b" + "0609608648016503040201"
	want := "30820173" + "06092a864886f70d010702" + "a0820164" + "30820160" + "020103" + "310d" + sha256ID + "300b" + "06092a864886f70d010701" +
		"3182013d" + "30820139" + "020103" + "8014" + hex.EncodeToString(cert.SubjectKeyId) + sha256ID + "300d" + "06092a864886f70d0101010500" + "04820100"
	if have := hex.EncodeToString(got[:len(got)-256]); have != want {
		t.Errorf("%s, want\n%s", have, want)
	}
	id := bytes.Index(got, cert.SubjectKeyId)
	for i := range got {
		b := bytes.Clone(got)
		b[i] ^= 0x20
		err := xattr.VerifyBless(signer.Public(), b, d)
		if named := i >= id && i < id+len(cert.SubjectKeyId); (err == nil) != named { // who signed is the caller's to know
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if err := xattr.VerifyBless(signer.Public(), append(bytes.Clone(got), 0), d); err == nil {
		t.Error("verifies with a byte behind it")
	}
}
