// SPDX-License-Identifier: Apache-2.0

package key

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// packages are the Debian packages of the tools that judge our keys.
var packages = map[string]string{
	"openssl": "openssl", "evmctl": "ima-evm-utils", "keyctl": "keyutils",
	"softhsm2-util": "softhsm2", "pkcs11-tool": "opensc",
}

// tool runs a command and gives its standard output.
func tool(t testing.TB, args ...string) string {
	t.Helper()
	out, err := try(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Fatalf("%v: apt-get install %s", err, packages[args[0]])
	}
	var out, errOut bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", errors.Join(err, errors.New(strings.Join(args, " ")+": "+errOut.String()))
	}
	return out.String(), nil
}

func write(t *testing.T, path string, mode fs.FileMode, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// rsaKeys are made once, for that takes seconds.
var rsaKeys sync.Map

func generate(t *testing.T, typ string) *Key {
	t.Helper()
	made, ok := rsaKeys.Load(typ)
	if !ok {
		k, err := Generate(typ, "", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if made = *k; strings.HasPrefix(typ, "rsa") {
			rsaKeys.Store(typ, made)
		}
	}
	k := made.(Key)
	return &k
}

// keyFiles makes the four files of a new key and gives their prefix.
func keyFiles(t *testing.T, typ string, passphrase string) (*Key, string) {
	t.Helper()
	k, prefix := generate(t, typ), filepath.Join(t.TempDir(), "bless")
	if err := k.WriteFiles(prefix, []byte(passphrase)); err != nil {
		t.Fatal(err)
	}
	return k, prefix
}

// proves has openssl verify what k signs, with the public key in the PEM file.
func proves(t *testing.T, k *Key, public string) {
	t.Helper()
	dir := t.TempDir()
	message := []byte("message\n")
	digest := sha256.Sum256(message)
	sig, err := k.Signer.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "message"), 0o644, message)
	write(t, filepath.Join(dir, "sig"), 0o644, sig)
	tool(t, "openssl", "dgst", "-sha256", "-verify", public, "-signature", filepath.Join(dir, "sig"), filepath.Join(dir, "message"))
}

func TestOpenSSLReadsWhatWeMake(t *testing.T) {
	for _, typ := range Types() {
		for _, passphrase := range []string{"", "correct horse"} {
			name := typ
			if passphrase != "" {
				name += " encrypted"
			}
			t.Run(name, func(t *testing.T) {
				k, prefix := keyFiles(t, typ, passphrase)

				public := tool(t, "openssl", "pkey", "-in", prefix+".key", "-passin", "pass:"+passphrase, "-pubout")
				if diff := cmp.Diff(string(read(t, prefix+".pub")), public); diff != "" {
					t.Errorf("PREFIX.pub is not the public half of PREFIX.key (-ours +openssl):\n%s", diff)
				}
				if diff := cmp.Diff(public, tool(t, "openssl", "x509", "-in", prefix+".crt", "-noout", "-pubkey")); diff != "" {
					t.Errorf("the certificate has another key (-key +certificate):\n%s", diff)
				}
				tool(t, "openssl", "verify", "-check_ss_sig", "-x509_strict", "-purpose", "any", "-partial_chain", "-trusted", prefix+".crt", prefix+".crt")
				if der := tool(t, "openssl", "x509", "-in", prefix+".crt", "-outform", "DER"); der != string(read(t, prefix+".der")) {
					t.Error("PREFIX.der is not PREFIX.crt")
				}
				text := tool(t, "openssl", "x509", "-in", prefix+".crt", "-noout", "-text", "-nameopt", "oneline")
				for _, want := range []string{
					"Version: 3", "CN = sbom-bless " + k.ID() + "\n", "CA:FALSE", "Digital Signature\n", "Code Signing\n",
				} {
					if !strings.Contains(text, want) {
						t.Errorf("certificate lacks %q:\n%s", want, text)
					}
				}
				if encrypted := bytes.Contains(read(t, prefix+".key"), []byte("BEGIN ENCRYPTED PRIVATE KEY")); encrypted != (passphrase != "") {
					t.Errorf("encrypted: %v, with passphrase %q", encrypted, passphrase)
				}

				t.Setenv(envPassphrase, passphrase)
				loaded, err := Load(t.Context(), prefix+".key", Options{})
				if err != nil {
					t.Fatal(err)
				}
				if !loaded.Cert.Equal(k.Cert) || loaded.ID() != k.ID() || loaded.Remote || !loaded.Deterministic {
					t.Errorf("loaded key differs: %+v", loaded)
				}
				proves(t, loaded, prefix+".pub")
			})
		}
	}
}

func TestSignaturesOfKeysInMemoryAreDeterministic(t *testing.T) {
	for _, typ := range Types()[:3] {
		k, digest := generate(t, typ), sha256.Sum256(nil)
		a, errA := k.Signer.Sign(nil, digest[:], crypto.SHA256)
		b, errB := k.Signer.Sign(nil, digest[:], crypto.SHA256)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %x and %x, %v, %v", typ, a, b, errA, errB)
		}
	}
}

// evmctl writes the key id into the signatures that it makes.
func TestIDIsThatOfEvmctl(t *testing.T) {
	for _, typ := range Types() {
		k, prefix := keyFiles(t, typ, "")
		file := filepath.Join(t.TempDir(), "file")
		write(t, file, 0o644, []byte("content"))
		tool(t, "evmctl", "ima_sign", "--sigfile", "--hashalgo", "sha256", "--key", prefix+".key", file)
		sig := read(t, file+".sig") // 3, 2, hash, key id, ...
		if id := hex.EncodeToString(sig[3:7]); id != k.ID() {
			t.Errorf("%s: our id is %s, that of evmctl %s", typ, k.ID(), id)
		}
		if ski := hex.EncodeToString(k.Cert.SubjectKeyId); !strings.HasSuffix(ski, k.ID()) {
			t.Errorf("%s: subject key identifier %s does not end in the id %s", typ, ski, k.ID())
		}
	}
}

// The running kernel loads the certificates, and knows them by our key ids.
func TestKernelLoadsTheCertificate(t *testing.T) {
	if _, err := try(t, "keyctl", "session", "-", "true"); err != nil {
		if msg := err.Error(); !strings.Contains(msg, "Operation not permitted") && !strings.Contains(msg, "Function not implemented") {
			t.Fatal(err)
		}
		t.Skip("this kernel, or a sandbox, lets nobody make keyrings: ", err)
	}
	for _, typ := range Types() {
		t.Run(typ, func(t *testing.T) {
			k, prefix := keyFiles(t, typ, "")
			_, err := try(t, "keyctl", "session", "-", "sh", "-c", `keyctl padd asymmetric "" @s < "$1" && grep -q "X509.*$2" /proc/keys`, "sh", prefix+".der", k.ID())
			if err != nil && strings.HasPrefix(typ, "ecdsa") && strings.Contains(err.Error(), "No such file or directory") {
				t.Skip("this kernel has no ECDSA; the tests in virtual machines have kernels with it")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCertificateTime(t *testing.T) {
	from := time.Date(2024, 2, 29, 12, 0, 0, 0, time.FixedZone("", 3600))
	k, err := Generate("ecdsa-p256", "release key", from)
	if err != nil {
		t.Fatal(err)
	}
	type facts struct {
		Name      string
		From, To  string
		Algorithm x509.SignatureAlgorithm
	}
	got := facts{k.Cert.Subject.CommonName, k.Cert.NotBefore.Format(time.RFC3339), k.Cert.NotAfter.Format(time.RFC3339), k.Cert.SignatureAlgorithm}
	want := facts{"release key", "2024-02-29T11:00:00Z", "2034-03-01T11:00:00Z", x509.ECDSAWithSHA256}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestGenerateUnknownType(t *testing.T) {
	if _, err := Generate("ed25519", "", time.Now()); err == nil || !strings.Contains(err.Error(), "ecdsa-p256") {
		t.Errorf("error %v should name the types there are", err)
	}
}

func TestFileModes(t *testing.T) {
	_, prefix := keyFiles(t, "ecdsa-p256", "")
	got := map[string]string{}
	for _, ext := range []string{".key", ".pub", ".crt", ".der"} {
		info, err := os.Stat(prefix + ext)
		if err != nil {
			t.Fatal(err)
		}
		got[ext] = info.Mode().String()
	}
	want := map[string]string{".key": "-rw-------", ".pub": "-rw-r--r--", ".crt": "-rw-r--r--", ".der": "-rw-r--r--"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Whichever of the files exists, even as a dangling link, nothing is written.
func TestWriteFilesNeverOverwrites(t *testing.T) {
	k := generate(t, "ecdsa-p256")
	for _, ext := range []string{".key", ".pub", ".crt", ".der"} {
		dir := t.TempDir()
		if err := os.Symlink("nowhere", filepath.Join(dir, "bless"+ext)); err != nil {
			t.Fatal(err)
		}
		err := k.WriteFiles(filepath.Join(dir, "bless"), nil)
		if err == nil || !strings.Contains(err.Error(), "bless"+ext+": exists already") {
			t.Errorf("%s exists: %v", ext, err)
		}
		entries, _ := os.ReadDir(dir)
		if len(entries) != 1 {
			t.Errorf("%s existed, and now there are %v", ext, entries)
		}
	}
}

// A disk without room for the last file keeps none of them. The limit on the
// size of files stands in for the disk: the certificate is the largest file.
func TestWriteFilesLeavesNothingHalfWritten(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", `trap "" XFSZ; ulimit -f 1; exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=write", "PREFIX="+filepath.Join(dir, "bless"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "bless.crt: file too large") {
		t.Fatalf("%v: %s", err, out)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}
