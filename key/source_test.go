// SPDX-License-Identifier: Apache-2.0

package key

import (
	"crypto"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// secrets are pieces of a private key that no message may have: each line of the PEM, and so its base64.
func secrets(file string) []string {
	lines := strings.Split(strings.TrimSpace(file), "\n")
	return lines[1 : len(lines)-1]
}

// A key where its name belongs is refused without a piece of it in the message, in every form in which people
// hand keys around.
func TestKeyItselfIsNotShown(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{
		"PKCS#8 P-256": "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
		"PKCS#8 P-384": "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
		"PKCS#8 RSA":   "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
		"SEC 1":        "openssl ecparam -name prime256v1 -genkey -noout",
		"SEC 1 P-384":  "openssl ecparam -name secp384r1 -genkey -noout",
		"PKCS#1":       "openssl genrsa -traditional 2048",
		"encrypted":    "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes-256-cbc -pass pass:secret",
	} {
		path := filepath.Join(dir, "k")
		tool(t, "sh", "-c", script+" > "+path)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file := string(raw)
		block, _ := pem.Decode(raw)
		for form, ref := range map[string]string{
			"as it is":              file,
			"lines joined":          strings.ReplaceAll(file, "\n", ""),
			"lines joined by blank": strings.ReplaceAll(file, "\n", " "),
			"quoted":                fmt.Sprintf("%q", file),
			"cut short":             file[:len(file)-60],
			"base64 of PEM":         base64.StdEncoding.EncodeToString(raw),
			"base64 of DER":         base64.StdEncoding.EncodeToString(block.Bytes),
			"the PEM's inner lines": strings.Join(secrets(file), "\n"),
		} {
			_, err := Load(t.Context(), ref, Options{})
			_, errPublic := LoadPublic(t.Context(), ref)
			_, errCert := LoadCertificate(ref)
			errUsage := fmt.Errorf("sbom-bless: no such thing %s: nothing found", Hide(ref))
			for _, err := range []error{err, errPublic, errCert, errUsage} {
				if err == nil {
					t.Fatalf("%s, %s: loaded", name, form)
				}
				for _, secret := range secrets(file) {
					for _, piece := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
						if len(secret) > 8 && strings.Contains(err.Error(), piece) {
							t.Errorf("%s, %s: the message has %s:\n%v", name, form, piece, err)
						}
					}
				}
			}
			if want := "key (a private key, not shown)"; !strings.HasPrefix(err.Error(), want) && form != "quoted" || !strings.HasSuffix(err.Error(), ": is a key itself, where the name of one belongs"+hintKeyItself) {
				t.Errorf("%s, %s: %v", name, form, err)
			}
		}
	}
}

// What is no private key is shown as it is.
func TestHideHidesNothingElse(t *testing.T) {
	_, prefix := keyFiles(t, "rsa-2048", "")
	for _, file := range []string{prefix + ".crt", prefix + ".pub"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := Hide(string(raw)); got != string(raw) {
			t.Errorf("%s became %s", file, got)
		}
	}
	for _, text := range []string{"secrets/MIGRATION/bless.key", "sha256:" + strings.Repeat("ab01", 16), "awskms:///arn:aws:kms:eu-west-1:1:key/MIIB"} {
		if got := Hide(text); got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
}

func TestLoadFromEnvironmentAndStdin(t *testing.T) {
	made, prefix := keyFiles(t, "ecdsa-p256", "")
	raw, err := os.ReadFile(prefix + ".key")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SIGNING", string(raw))
	crt, err := os.ReadFile(prefix + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CERTIFICATE", string(crt))
	t.Setenv("EMPTY", "")
	for _, ref := range []string{"env://SIGNING", "-"} {
		k, err := Load(t.Context(), ref, Options{Cert: "env://CERTIFICATE", Stdin: strings.NewReader(string(raw))})
		if err != nil {
			t.Fatal(err)
		}
		if k.ID() != made.ID() || k.Cert == nil {
			t.Errorf("%s: key %s with certificate %v, want %s", ref, k.ID(), k.Cert, made.ID())
		}
	}
	if pub, err := LoadPublic(t.Context(), "env://CERTIFICATE"); err != nil || !made.Public.(interface{ Equal(crypto.PublicKey) bool }).Equal(pub) {
		t.Errorf("public: %v, %v", pub, err)
	}
	for ref, want := range map[string]string{
		"env://NOWHERE": "key env://NOWHERE: the environment has no such variable, or an empty one",
		"env://EMPTY":   "key env://EMPTY: the environment has no such variable, or an empty one",
		"-":             "key -: no such file or directory",
	} {
		if _, err := Load(t.Context(), ref, Options{}); err == nil || err.Error() != want {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

// A passphrase where the name of its file belongs is not shown.
func TestPassphraseItselfIsNotShown(t *testing.T) {
	_, prefix := keyFiles(t, "ecdsa-p256", "correct horse")
	for _, mistake := range []string{"correct horse", strings.Repeat("correct horse", 400)} {
		_, err := Load(t.Context(), prefix+".key", Options{PassphraseFile: mistake})
		if err == nil || strings.Contains(err.Error(), "horse") || !strings.Contains(err.Error(), "hint: "+envPassphrase) {
			t.Errorf("error %v", err)
		}
	}
}

// Secrets that a platform mounts read-only, with modes that nobody there can change.
func TestModeOfMountedSecret(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	made, prefix := keyFiles(t, "ecdsa-p256", "")
	raw, err := os.ReadFile(prefix + ".key")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, mode, uid, flags string
		want                   []string // of the error; empty: loads
	}{
		{"Kubernetes, defaultMode 0400", "0400", "65534", "ro", nil},
		{"Kubernetes, a pod with fsGroup", "0440", "0", "ro", nil},
		{"Kubernetes, as it is by default", "0644", "0", "ro", []string{"others may access it (mode 0644), on a mount that is read-only", "hint: defaultMode: 0400", "as stdin"}},
		{"group may write", "0460", "0", "ro", []string{"mode 0460"}},
		{"GitLab, a variable of type file, own", "0666", "65534", "rw", []string{"others may access it (mode 0666)", "hint: chmod 600"}},
		{"GitLab, a variable of type file, another's", "0666", "0", "rw", []string{"others may access it (mode 0666), and it belongs to another user", "hint: install -m 600", "as stdin"}},
		{"group may read where the mode can be changed", "0440", "65534", "rw", []string{"others may access it (mode 0440)", "hint: chmod 600"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			// A mount namespace of its own, and in it the user that a pod or a job has.
			cmd := exec.Command("unshare", "-m", "sh", "-ec", `
				mount -t tmpfs -o mode=755 none /mnt
				printf %s "$RAW" > /mnt/key; chown `+test.uid+`:65534 /mnt/key; chmod `+test.mode+` /mnt/key
				mount -o remount,`+test.flags+` /mnt
				exec "$0"`, os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"=load as nobody", "KEY=/mnt/key", "RAW="+string(raw))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range test.want {
				if !strings.Contains(string(out), "error: key /mnt/key: ") || !strings.Contains(string(out), want) {
					t.Errorf("%q does not say %q", out, want)
				}
			}
			if test.want == nil && string(out) != "loaded "+made.ID()+"\n" {
				t.Errorf("%q", out)
			}
		})
	}
}
