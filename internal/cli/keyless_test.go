// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/attest/keyless/keylesstest"
)

// TestKeylessFromEndToEnd signs attestations with the identity of a CI job and verifies by it, through the command line:
// a certificate authority and a log that run in this process stand for Fulcio and Rekor.
func TestKeylessFromEndToEnd(t *testing.T) {
	workshop(t, "whiteouts")
	i := keylesstest.Start(t)
	root := i.RootFile(t)
	other := keylesstest.Start(t).RootFile(t)
	t.Setenv("SIGSTORE_ID_TOKEN", keylesstest.Token)
	mustRun(t, "bless", "oci:source", "-t", "oci:blessed", "--key", "bless.key", "--keyless", "--fulcio-url", i.URL, "--rekor-url", i.URL, "--trust-root", root)
	mustRun(t, "bless", "oci:source", "-t", "docker-archive:embedded.tar:app:1", "--key", "bless.key", "--embed", "--sbom", "none",
		"--keyless", "--fulcio-url", i.URL, "--rekor-url", i.URL, "--trust-root", root)
	mustRun(t, "bless", "oci:source", "--detached", "--key", "bless.key", "--keyless", "--fulcio-url", i.URL, "--rekor-url", i.URL, "--trust-root", root)
	who := []string{"--certificate-identity", keylesstest.Subject, "--certificate-oidc-issuer", keylesstest.Issuer, "--trust-root"}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"identity alone":               {append([]string{"verify", "oci:blessed"}, append(who, root)...), 0, "all signed by the key that the identity vouches for"},
		"identity and key":             {append([]string{"verify", "oci:blessed", "--key", "bless.crt"}, append(who, root)...), 0, "the attestations say the same"},
		"embedded, identity alone":     {append([]string{"verify", "docker-archive:embedded.tar"}, append(who, root)...), 0, "the attestations embedded in the image say the same"},
		"detached":                     {append([]string{"verify", "oci:source", "--detached"}, append(who, root)...), 0, "the attestations say the same"},
		"inspect":                      {append([]string{"inspect", "oci:blessed"}, append(who, root)...), 0, ""},
		"another instance":             {append([]string{"verify", "oci:blessed"}, append(who, other)...), 3, "no blessing signed by the given key"},
		"another subject":              {[]string{"verify", "oci:blessed", "--certificate-identity", "x@example.com", "--certificate-oidc-issuer", keylesstest.Issuer, "--trust-root", root}, 3, "no matching CertificateIdentity"},
		"another issuer":               {[]string{"verify", "oci:blessed", "--certificate-identity", keylesstest.Subject, "--certificate-oidc-issuer", "https://other.example", "--trust-root", root}, 3, "no matching CertificateIdentity"},
		"the key did not attest":       {[]string{"verify", "oci:blessed", "--key", "bless.crt"}, 3, "no blessing signed by the given key"},
		"an identity without a root":   {append([]string{"verify", "oci:blessed"}, append(who, "absent.json")...), 1, "trusted root absent.json"},
		"files without a key":          {append([]string{"verify", "oci:blessed", "--files-only"}, append(who, root)...), 2, "--files-only needs --key"},
		"half an identity":             {[]string{"verify", "oci:blessed", "--certificate-identity", keylesstest.Subject, "--trust-root", root}, 2, "both --certificate-identity and --certificate-oidc-issuer"},
		"the SBOM, identity":           {append([]string{"sbom", "oci:blessed"}, append(who, root)...), 0, ""},
		"the SBOM, another's identity": {append([]string{"sbom", "oci:blessed"}, append(who, other)...), 1, "no blessing signed by the given key"},
	} {
		t.Run(name, func(t *testing.T) {
			code, errs := command(t, c.args...)
			if code != c.code || !strings.Contains(errs, c.want) {
				t.Errorf("exit code %d, want %d; want %q in\n%s", code, c.code, c.want, errs)
			}
		})
	}
}
