// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// keygen runs the command in a process's place.
func keygen(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), append([]string{"sbom-bless", "keygen"}, args...), nil, &out, &errOut)
	return code, out.String(), errOut.String()
}

func opensslOut(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).Output()
	if err != nil {
		t.Fatalf("openssl %q: %v (apt-get install openssl)", args, err)
	}
	return string(out)
}

func TestKeygenDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("SBOM_BLESS_PASSWORD", "")
	code, stdout, stderr := keygen(t)
	if code != 0 || !regexp.MustCompile(`^[0-9a-f]{8} bless\.crt\n$`).MatchString(stdout) {
		t.Fatalf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	id := stdout[:8]
	ski := opensslOut(t, "x509", "-in", "bless.crt", "-noout", "-ext", "subjectKeyIdentifier")
	if want := strings.ToUpper(id[:2] + ":" + id[2:4] + ":" + id[4:6] + ":" + id[6:]); !strings.HasSuffix(strings.TrimSpace(ski), want) {
		t.Errorf("subject key identifier %q does not end in %s", ski, want)
	}
	if subject := opensslOut(t, "x509", "-in", "bless.crt", "-noout", "-subject", "-nameopt", "RFC2253"); subject != "subject=CN=sbom-bless "+id+"\n" {
		t.Errorf("subject %q", subject)
	}
	for _, want := range []string{"ecdsa-p256 key " + id, "bless.key  private key, not encrypted", "hint: "} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, stderr)
		}
	}
}

func TestKeygenFlagsAndEnvironment(t *testing.T) {
	dir := t.TempDir()
	prefix := filepath.Join(dir, "release")
	if err := os.WriteFile(filepath.Join(dir, "passphrase"), []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SBOM_BLESS_PASSPHRASE_FILE", filepath.Join(dir, "passphrase"))
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	code, stdout, stderr := keygen(t, "--out", prefix, "--type", "rsa-2048", "--name", "Release 7")
	if code != 0 || !strings.HasSuffix(stdout, " "+prefix+".crt\n") {
		t.Fatalf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if !strings.Contains(stderr, "private key, encrypted") || strings.Contains(stderr, "horse") {
		t.Errorf("stderr %q", stderr)
	}
	private := opensslOut(t, "pkey", "-in", prefix+".key", "-passin", "pass:correct horse", "-noout", "-text")
	if !strings.Contains(private, "(2048 bit") {
		t.Error(private)
	}
	got := opensslOut(t, "x509", "-in", prefix+".crt", "-noout", "-subject", "-dates", "-nameopt", "RFC2253")
	if want := "subject=CN=Release 7\nnotBefore=Sep 21 14:13:20 2026 GMT\nnotAfter=Sep 21 14:13:20 2036 GMT\n"; got != want {
		t.Errorf("certificate says\n%swant\n%s", got, want)
	}
}

func TestKeygenNeverOverwrites(t *testing.T) {
	t.Setenv("SBOM_BLESS_PASSWORD", "")
	prefix := filepath.Join(t.TempDir(), "bless")
	if err := os.WriteFile(prefix+".der", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := keygen(t, "--out", prefix)
	if code != 1 || stdout != "" || stderr != "sbom-bless: "+prefix+".der: exists already, and keys are never overwritten\nhint: --out names other files\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if entries, _ := os.ReadDir(filepath.Dir(prefix)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestKeygenUsageErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("SBOM_BLESS_PASSWORD", "")
	for _, test := range []struct {
		args  []string
		epoch string
		want  string
	}{
		{args: []string{"--type", "ed25519"}, want: "--type ed25519: choose one of ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096"},
		{args: []string{"release"}, want: "keygen takes no arguments, and there is \"release\"\nhint: --out release names the files"},
		{args: []string{"--out", ""}, want: `--out "": a path`},
		{args: []string{"--out", "keys/"}, want: `--out "keys/": a path`},
		{args: []string{"--passphrase", "secret"}, want: "unknown flag --passphrase"},
		{epoch: "yesterday", want: "SOURCE_DATE_EPOCH=yesterday: not a number"},
		{epoch: "315532800", want: "SOURCE_DATE_EPOCH=315532800: the certificate would have expired by now"},
	} {
		if test.epoch != "" {
			t.Setenv("SOURCE_DATE_EPOCH", test.epoch)
		}
		code, stdout, stderr := keygen(t, test.args...)
		if code != exitUsage || stdout != "" || !strings.HasPrefix(stderr, "sbom-bless: "+test.want) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
	if entries, _ := os.ReadDir("."); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}
