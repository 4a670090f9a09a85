// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package key

import (
	"crypto"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// newToken makes a SoftHSM token, named "bless", with an EC and an RSA key that
// pkcs11-tool generates.
func newToken(t *testing.T) (dir string) {
	t.Helper()
	if _, err := os.Stat(softHSM); err != nil {
		t.Fatalf("%v: apt-get install softhsm2", err)
	}
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	write(t, conf, 0o600, fmt.Appendf(nil, "directories.tokendir = %s/tokens\nlog.level = ERROR\n", dir))
	t.Setenv("SOFTHSM2_CONF", conf)
	tool(t, "softhsm2-util", "--init-token", "--free", "--label", "bless", "--pin", "1234", "--so-pin", "5678")
	onToken(t, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "release")
	onToken(t, "--keypairgen", "--key-type", "rsa:2048", "--id", "02", "--label", "rsa key")
	return dir
}

func onToken(t *testing.T, args ...string) {
	t.Helper()
	tool(t, append([]string{"pkcs11-tool", "--module", softHSM, "--login", "--pin", "1234", "--token-label", "bless"}, args...)...)
}

// publicOnToken reads the public key of the id as pkcs11-tool sees it.
func publicOnToken(t *testing.T, id string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pub")
	onToken(t, "--read-object", "--type", "pubkey", "--id", id, "--output-file", path+".der")
	tool(t, "openssl", "pkey", "-pubin", "-inform", "DER", "-in", path+".der", "-out", path+".pem")
	return path + ".pem"
}

func TestPKCS11(t *testing.T) {
	dir := newToken(t)
	pin := filepath.Join(dir, "pin")
	write(t, pin, 0o600, []byte("1234\n"))
	var serial, slot string
	for _, line := range strings.Split(tool(t, "softhsm2-util", "--show-slots"), "\n") {
		if value, ok := strings.CutPrefix(line, "Slot "); ok && slot == "" {
			slot = value
		}
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Serial number:"); ok && serial == "" {
			serial = strings.TrimSpace(value)
		}
	}
	for _, test := range []struct{ name, uri, id, pin string }{
		{"EC, token and object", "pkcs11:token=bless;object=release?module-path=" + softHSM, "01", "1234"},
		{"EC, slot and id", "pkcs11:slot-id=" + slot + ";id=%01?module-path=" + softHSM, "01", "1234"},
		{"EC, serial, PIN in the URI", "pkcs11:serial=" + serial + ";object=release?pin-value=1234&module-path=" + softHSM, "01", "wrong"},
		{"RSA, as p11tool prints URIs", "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=" + serial +
			";token=bless;id=%02;object=rsa%20key;type=private?module-path=" + softHSM + "&pin-source=file:" + pin, "02", ""},
		{"RSA, PIN in a file", "pkcs11:token=bless;id=%02?module-path=" + softHSM + "&pin-source=" + pin, "02", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.pin != "" {
				t.Setenv(envPIN, test.pin)
			}
			k, err := Load(t.Context(), test.uri, Options{})
			if err != nil {
				t.Fatal(err)
			}
			public := publicOnToken(t, test.id)
			proves(t, k, public)
			if !k.Remote || k.Deterministic != (test.id == "02") || k.Cert != nil {
				t.Errorf("loaded %+v", k)
			}
			leaf, err := Delegate(t.Context(), k, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			opensslVerifies(t, public, leaf.Cert)
			if err := k.Close(); err != nil {
				t.Error(err)
			}
			pub, err := LoadPublic(t.Context(), test.uri)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := VerifyDelegation(pub, leaf.Cert.Raw); err != nil {
				t.Error(err)
			}
			digest := sha256.Sum256(nil)
			if _, err := k.Signer.Sign(nil, digest[:], crypto.SHA256); err == nil {
				t.Error("signed after Close")
			}
		})
	}
}

// A certificate with the id and label of the key is the key's, if it matches.
func TestPKCS11CertificateOnTheToken(t *testing.T) {
	dir := newToken(t)
	t.Setenv(envPIN, "1234")
	const uri = "pkcs11:token=bless;id=%01?module-path=" + softHSM
	k, err := Load(t.Context(), uri, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cert := certTemplate("on the token", k, time.Now(), time.Now().Add(time.Hour))
	cert.SubjectKeyId = []byte{1, 2, 3, 4, 5}
	if cert, err = issue(cert, cert, k); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cert.der")
	write(t, file, 0o644, cert.Raw)
	onToken(t, "--write-object", file, "--type", "cert", "--id", "01", "--label", "release")
	if k, err = Load(t.Context(), uri, Options{}); err != nil {
		t.Fatal(err)
	}
	if !cert.Equal(k.Cert) || k.ID() != "02030405" {
		t.Errorf("certificate %v, id %s", k.Cert, k.ID())
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	onToken(t, "--write-object", file, "--type", "cert", "--id", "02", "--label", "rsa key")
	_, err = Load(t.Context(), "pkcs11:token=bless;id=%02?module-path="+softHSM, Options{})
	if err == nil || !strings.Contains(err.Error(), "certificate on the token: belongs to another key") {
		t.Errorf("certificate of another key: %v", err)
	}
}

func TestPKCS11Refuses(t *testing.T) {
	newToken(t)
	onToken(t, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "03", "--label", "release")
	onToken(t, "--keypairgen", "--key-type", "EC:secp521r1", "--id", "04", "--label", "p521")
	for _, test := range []struct {
		name, uri, pin string
		want           []string
	}{
		{"no PIN", "pkcs11:token=bless;id=%01?module-path=" + softHSM, "",
			[]string{"no PIN", "hint: SBOM_BLESS_PKCS11_PIN gives it"}},
		{"wrong PIN", "pkcs11:token=bless;id=%01?module-path=" + softHSM, "4321",
			[]string{"CKR_PIN_INCORRECT"}},
		{"wrong PIN in the URI", "pkcs11:token=bless;id=%01?pin-value=4321&module-path=" + softHSM, "",
			[]string{"key pkcs11:token=bless;id=%01?pin-value=...&module-path=" + softHSM + ": ", "CKR_PIN_INCORRECT"}},
		{"no such token", "pkcs11:token=other;id=%01?module-path=" + softHSM, "1234",
			[]string{"could not find PKCS#11 token"}},
		{"no such key", "pkcs11:token=bless;id=%09?module-path=" + softHSM, "1234",
			[]string{"no such key pair on the token", "hint: pkcs11-tool"}},
		{"two such keys", "pkcs11:token=bless;object=release?module-path=" + softHSM, "1234",
			[]string{"2 key pairs on the token match", "hint: name both id and object"}},
		{"P-521", "pkcs11:token=bless;id=%04?module-path=" + softHSM, "1234",
			[]string{"ecdsa on P-521"}},
		{"no such module", "pkcs11:token=bless;id=%01?module-path=/none.so", "1234",
			[]string{"module-path: stat /none.so: no such file"}},
		{"a module that is none", "pkcs11:token=bless;id=%01?module-path=/etc/passwd", "1234",
			[]string{"failed to open module"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.pin != "" {
				t.Setenv(envPIN, test.pin)
			}
			_, err := Load(t.Context(), test.uri, Options{})
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v does not say %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "4321") {
				t.Errorf("error shows the PIN: %v", err)
			}
		})
	}
}

func TestParsePKCS11(t *testing.T) {
	t.Setenv(envPIN, "1234")
	slot := 7
	for uri, want := range map[string]tokenKey{
		"pkcs11:token=a;serial=b;slot-id=7;id=%01%02?module-path=/m": {module: "/m", slot: &slot, id: "\x01\x02", pin: "1234"},
		"pkcs11:token=a;serial=b;object=%C3%A4?module-path=/m":       {module: "/m", serial: "b", object: "ä", pin: "1234"},
		"pkcs11:token=a%20b;object=x?module-path=/m&pin-value=%35":   {module: "/m", token: "a b", object: "x", pin: "5"},
	} {
		got, err := parsePKCS11(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
		} else if diff := cmp.Diff(want, *got, cmp.AllowUnexported(tokenKey{})); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", uri, diff)
		}
	}
	for uri, want := range map[string]string{
		"pkcs11:token=a;id=%01":                                      "no module-path",
		"pkcs11:token=a?module-path=/m":                              "neither id nor object",
		"pkcs11:id=%01?module-path=/m":                               "no token, serial or slot-id",
		"pkcs11:slot-id=-1;id=%01?module-path=/m":                    "not a slot number",
		"pkcs11:slot-id=x;id=%01?module-path=/m":                     "must be a number",
		"pkcs11:token=a;token=b;id=%01?module-path=/m":               "duplicate",
		"pkcs11:token=%zz;id=%01?module-path=/m":                     "invalid URL escape",
		"pkcs11:token=a;id=%01?module-path=m":                        "must be absolute",
		"pkcs11:token=a;id=%01?module-path=/m&pin-source=/none":      "pin-source: passphrase file /none: no such file",
		"pkcs11:token=a;id=%01?module-path=/m&pin-source=%7Cecho":    "neither a path nor a file: URI",
		"pkcs11:token=a;id=%01?module-path=/m&pin-source=https://a/": "neither a path nor a file: URI",
	} {
		if _, err := parsePKCS11(uri); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", uri, err, want)
		}
	}
}
