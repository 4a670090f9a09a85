// SPDX-License-Identifier: Apache-2.0

package key

import (
	"crypto"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each script makes a key in KEY, and a certificate in {crt} or none, that must
// not sign; the words of the error are those that a person needs.
func TestLoadRefuses(t *testing.T) {
	const p256 = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {key}; "
	const selfSigned = "openssl req -x509 -new -key {key} -subj /CN=test -days 30 -out {crt} "
	for _, test := range []struct {
		name, script string
		want         []string
	}{
		{"no such file", "true",
			[]string{"key {key}: no such file or directory"}},
		{"a directory", "mkdir -m 700 {key}",
			[]string{"key {key}: is a directory"}},
		{"readable by the group", p256 + "chmod 640 {key}",
			[]string{"key {key}: others may access it (mode 0640)", "hint: chmod 600 {key}"}},
		{"readable by everybody", p256 + "chmod 604 {key}",
			[]string{"key {key}: others may access it (mode 0604)", "hint: chmod 600 {key}"}},
		{"empty", ": > {key}",
			[]string{"key {key}: no PEM in it"}},
		{"endless", "head -c 2000000 /dev/zero > {key}",
			[]string{"key {key}: too large"}},
		{"DER", p256 + "openssl pkey -in {key} -outform DER -out {key}.der; mv {key}.der {key}",
			[]string{"key {key}: no PEM in it", "hint: openssl pkey -inform DER"}},
		{"two keys", p256 + "cat {key} {key} > {key}.2; mv {key}.2 {key}",
			[]string{"key {key}: holds a PRIVATE KEY and a PRIVATE KEY: one of them per file"}},
		{"a key cut short", p256 + "sed -i 3d {key}",
			[]string{"key {key}: asn1: "}},
		{"a public key", p256 + "openssl pkey -in {key} -pubout -out {key}.pub; mv {key}.pub {key}",
			[]string{"key {key}: holds a PUBLIC KEY: signing needs the private key"}},
		{"a certificate", p256 + selfSigned + "; mv {crt} {key}",
			[]string{"key {key}: holds a CERTIFICATE: signing needs the private key"}},
		{"a certificate for all to read", p256 + selfSigned + "; mv {crt} {key}; chmod 644 {key}",
			[]string{"key {key}: holds a CERTIFICATE: signing needs the private key"}},
		{"something else", "openssl ecparam -name prime256v1 -genkey -noout | openssl ec -pubout | sed s/PUBLIC/OTHER/ > {key}",
			[]string{`key {key}: PEM type "OTHER KEY" is not a private key`}},
		{"OpenSSL's old encryption", "openssl genrsa -traditional -aes256 -passout pass:secret -out {key} 2048",
			[]string{"key {key}: encrypted in OpenSSL's old way", "hint: openssl pkcs8 -topk8 -in OLD -out NEW -v2 aes-256-cbc"}},
		{"PBES1", p256 + "openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout pass:secret -in {key} -out {key}.1; mv {key}.1 {key}",
			[]string{"key {key}: encrypted PKCS#8: scheme 1.2.840.113549.1.12.1.3 is not PBES2", "hint: openssl pkcs8 -topk8"}},
		{"an unknown cipher", p256 + "openssl pkcs8 -topk8 -v2 camellia-256-cbc -passout pass:secret -in {key} -out {key}.1; mv {key}.1 {key}",
			[]string{"key {key}: encrypted PKCS#8: cipher 1.2.392.200011.61.1.1.1.4 is unknown", "hint: openssl pkcs8 -topk8"}},
		{"Ed25519", "openssl genpkey -algorithm ED25519 -out {key}",
			[]string{"key {key}: ed25519: the kernel's IMA and PKCS#7 verifiers do not know it", "hint: sbom-bless keygen"}},
		{"X25519", "openssl genpkey -algorithm X25519 -out {key}",
			[]string{"key {key}: ", "not a key that kernels verify signatures with", "hint: sbom-bless keygen"}},
		{"P-521", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out {key}",
			[]string{"key {key}: ecdsa on P-521: kernels verify P-256 and P-384", "hint: sbom-bless keygen"}},
		{"P-224", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-224 -out {key}",
			[]string{"key {key}: ecdsa on P-224: "}},
		{"RSA-1024", "openssl genrsa -out {key} 1024",
			[]string{"key {key}: rsa of 1024 bits is too weak: at least 2048", "hint: sbom-bless keygen"}},
		{"RSA of a size the kernel refuses", "openssl genrsa -out {key} 2560",
			[]string{"key {key}: rsa of 2560 bits: kernels verify 2048, 3072 and 4096 bits", "hint: sbom-bless keygen"}},
		{"certificate of another key", p256 + selfSigned + "; " + p256,
			[]string{"key {key}: certificate {crt}: belongs to another key"}},
		{"certificate of a key of another kind", "openssl genpkey -algorithm ED25519 -out {key}; " + selfSigned + "; " + p256,
			[]string{"key {key}: certificate {crt}: belongs to another key"}},
		{"certificate without subject key identifier", p256 + selfSigned + "-addext subjectKeyIdentifier=none -addext authorityKeyIdentifier=none",
			[]string{"key {key}: certificate {crt}: has no subject key identifier", "hint: openssl req -x509"}},
		{"two certificates", p256 + selfSigned + "; cat {crt} {crt} > {crt}.2; mv {crt}.2 {crt}",
			[]string{"key {key}: certificate {crt}: holds a CERTIFICATE and a CERTIFICATE: one of them per file"}},
		{"a key for a certificate", p256 + "cp {key} {crt}",
			[]string{"key {key}: certificate {crt}: holds a PRIVATE KEY"}},
		{"a certificate that is none", p256 + "echo x > {crt}",
			[]string{"key {key}: certificate {crt}: x509: "}},
		{"a dangling certificate", p256 + "ln -s nowhere {crt}",
			[]string{"key {key}: certificate {crt}: no such file or directory"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			names := strings.NewReplacer("{key}", filepath.Join(dir, "a.key"), "{crt}", filepath.Join(dir, "a.crt"))
			tool(t, "sh", "-c", "umask 077; "+names.Replace(test.script))
			t.Setenv(envPassphrase, "secret")
			k, err := Load(t.Context(), filepath.Join(dir, "a.key"), Options{})
			if err == nil {
				t.Fatalf("loaded %+v", k)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), names.Replace(want)) {
					t.Errorf("error %q does not say %q", err, names.Replace(want))
				}
			}
		})
	}
}

// keyFilesFrom makes the files of a key whose certificate is valid for ten years
// from the time.
func keyFilesFrom(t *testing.T, from time.Time) (*Key, string) {
	t.Helper()
	k, err := Generate("ecdsa-p256", "", from)
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(t.TempDir(), "bless")
	if err := k.WriteFiles(prefix, nil); err != nil {
		t.Fatal(err)
	}
	return k, prefix
}

func TestLoadRefusesByTime(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		from time.Time
		want string
	}{
		{now.AddDate(-10, 0, -1), ".crt: expired on "},
		{now.AddDate(0, 0, 1), ".crt: not valid before "},
	} {
		_, prefix := keyFilesFrom(t, test.from)
		_, err := Load(t.Context(), prefix+".key", Options{})
		if err == nil || !strings.Contains(err.Error(), prefix+test.want) {
			t.Errorf("error %v does not say %s", err, test.want)
		}
	}
}

// sameID loads the key with its new certificate.
func sameID(t *testing.T, k *Key, prefix string) {
	t.Helper()
	loaded, err := Load(t.Context(), prefix+".key", Options{Cert: prefix + ".new"})
	if err != nil {
		t.Fatal(err)
	}
	if loaded.ID() != k.ID() {
		t.Errorf("id %s was %s", loaded.ID(), k.ID())
	}
}

// What the hints advise makes the key usable, with the same key id.
func TestHintsHelp(t *testing.T) {
	t.Run("an expired certificate", func(t *testing.T) {
		k, prefix := keyFilesFrom(t, time.Now().AddDate(-11, 0, 0))
		tool(t, "openssl", "x509", "-in", prefix+".crt", "-signkey", prefix+".key", "-days", "3650", "-out", prefix+".new")
		sameID(t, k, prefix)
	})
	t.Run("no certificate with a subject key identifier", func(t *testing.T) {
		k, prefix := keyFiles(t, "rsa-2048", "")
		tool(t, "openssl", "req", "-x509", "-new", "-key", prefix+".key", "-subj", "/CN=NAME", "-days", "3650",
			"-addext", "subjectKeyIdentifier=hash", "-out", prefix+".new")
		sameID(t, k, prefix)
	})
	t.Run("an old encryption", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.key")
		tool(t, "openssl", "genrsa", "-traditional", "-aes256", "-passout", "pass:secret", "-out", path, "2048")
		tool(t, "openssl", "pkcs8", "-topk8", "-in", path, "-passin", "pass:secret", "-out", path+".new", "-v2", "aes-256-cbc", "-passout", "pass:secret")
		t.Setenv(envPassphrase, "secret")
		if _, err := Load(t.Context(), path+".new", Options{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCertGoesBeforeTheOneBesideTheKey(t *testing.T) {
	k, prefix := keyFiles(t, "ecdsa-p256", "")
	tool(t, "openssl", "req", "-x509", "-new", "-key", prefix+".key", "-subj", "/CN=other", "-addext", "subjectKeyIdentifier=01:02:03:04:0a:0b:0c:0d", "-outform", "DER", "-out", prefix+".other")
	loaded, err := Load(t.Context(), prefix+".key", Options{Cert: prefix + ".other"})
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Cert.Subject.CommonName != "other" || loaded.ID() != "0a0b0c0d" {
		t.Errorf("certificate of %s, id %s", loaded.Cert.Subject.CommonName, loaded.ID())
	}
	if err := os.Remove(prefix + ".crt"); err != nil {
		t.Fatal(err)
	}
	if loaded, err = Load(t.Context(), prefix+".key", Options{}); err != nil {
		t.Fatal(err)
	}
	if loaded.Cert != nil || loaded.ID() != k.ID() {
		t.Errorf("without a certificate: %v, id %s, not %s", loaded.Cert, loaded.ID(), k.ID())
	}
}

func TestLoadPublic(t *testing.T) {
	for _, typ := range Types()[:3] {
		k, prefix := keyFiles(t, typ, "")
		tool(t, "openssl", "pkey", "-pubin", "-in", prefix+".pub", "-outform", "DER", "-out", prefix+".pub.der")
		files := []string{prefix + ".pub", prefix + ".crt", prefix + ".der", prefix + ".pub.der"}
		if strings.HasPrefix(typ, "rsa") {
			tool(t, "openssl", "rsa", "-pubin", "-in", prefix+".pub", "-RSAPublicKey_out", "-out", prefix+".pkcs1")
			files = append(files, prefix+".pkcs1")
		}
		for _, file := range files {
			pub, err := LoadPublic(t.Context(), file)
			if err != nil {
				t.Error(err)
			} else if !pub.(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public) {
				t.Errorf("%s: another key", file)
			}
		}
	}
}

// Images stay verifiable after the certificate has expired.
func TestLoadPublicOfExpiredCertificate(t *testing.T) {
	_, prefix := keyFilesFrom(t, time.Now().AddDate(-11, 0, 0))
	if _, err := LoadPublic(t.Context(), prefix+".crt"); err != nil {
		t.Error(err)
	}
}

func TestLoadPublicRefuses(t *testing.T) {
	_, prefix := keyFiles(t, "ecdsa-p256", "")
	dir := t.TempDir()
	tool(t, "sh", "-ec", `cd "$1"
		openssl genpkey -algorithm ED25519 -out ed.key; openssl pkey -in ed.key -pubout -out ed.pub
		openssl genrsa -out rsa.key 1024; openssl rsa -in rsa.key -pubout -out rsa.pub
		cat "$2.pub" "$2.pub" > two.pub; echo text > text.pub`, "sh", dir, prefix)
	write(t, filepath.Join(dir, "odd.pub"), 0o644, pem.EncodeToMemory(&pem.Block{Type: "PGP MESSAGE"}))
	got, want := map[string]string{}, map[string]string{
		"none.pub": "no such file or directory",
		"ed.pub":   "ed25519: the kernel's IMA and PKCS#7 verifiers do not know it" + hintKeygen,
		"rsa.pub":  "rsa of 1024 bits is too weak: at least 2048 are needed\nhint: sbom-bless keygen makes a key that they can",
		"two.pub":  "holds a PUBLIC KEY and a PUBLIC KEY: one of them per file",
		"text.pub": "neither a public key nor a certificate, in PEM or in DER",
		"odd.pub":  `PEM type "PGP MESSAGE" is neither a public key nor a certificate`,
		"ed.key":   "a private key, where the public one is enough\nhint: openssl pkey -in PRIVATE -pubout -out PUBLIC",
	}
	for name := range want {
		_, err := LoadPublic(t.Context(), filepath.Join(dir, name))
		if err != nil {
			got[name] = strings.TrimPrefix(err.Error(), "key "+filepath.Join(dir, name)+": ")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
