// SPDX-License-Identifier: Apache-2.0

package cli

// Trust in attestations: keys, those that they delegated to, and identities.

import (
	"context"
	"crypto"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/keyless"
	"github.com/sbom-bless/sbom-bless/key"
)

// identityFlags are those of commands that trust signatures without a key. They are named as cosign names them.
func identityFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "certificate-identity", Usage: "trusted identity of keyless attestations: an e-mail address or URI"},
		&cli.StringFlag{Name: "certificate-identity-regexp", Usage: "the same, as a regular expression"},
		&cli.StringFlag{Name: "certificate-oidc-issuer", Usage: "who vouches for the identity: the address of its OpenID Connect issuer"},
		&cli.StringFlag{Name: "certificate-oidc-issuer-regexp", Usage: "the same, as a regular expression"},
		&cli.StringFlag{Name: "trust-root", Usage: "trusted root of the sigstore instance, a JSON file (default: that of the public one, fetched)"},
	}
}

// readTrust is the trust that --key and the identityFlags give. Without any of them
// it is trust in nobody, and given is false.
func readTrust(ctx context.Context, c *cli.Context) (t attest.Trust, given bool, err error) {
	keys, err := publicKeys(ctx, c.StringSlice("key"))
	if err != nil {
		return t, false, err
	}
	t = attest.Trust{Keys: keys, Delegated: key.DelegatedBy(keys)}
	id := keyless.Identity{
		Subject: c.String("certificate-identity"), SubjectRegexp: c.String("certificate-identity-regexp"),
		Issuer: c.String("certificate-oidc-issuer"), IssuerRegexp: c.String("certificate-oidc-issuer-regexp"),
	}
	if id == (keyless.Identity{}) {
		return t, len(keys) > 0, nil
	}
	if id.Subject == "" && id.SubjectRegexp == "" || id.Issuer == "" && id.IssuerRegexp == "" {
		return t, false, usagef("an identity is both --certificate-identity and --certificate-oidc-issuer, or their -regexp forms")
	}
	root, err := keyless.Root(c.String("trust-root"))
	if err != nil {
		return t, false, err
	}
	v, err := keyless.NewVerifier(root, id)
	if err != nil {
		return t, false, err
	}
	t.Keyless = v.Verify
	return t, true, nil
}

// publicKeys loads the keys that --key names.
func publicKeys(ctx context.Context, refs []string) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for _, ref := range refs {
		pub, err := key.LoadPublic(ctx, ref)
		if err != nil {
			return nil, err
		}
		keys = append(keys, pub)
	}
	return keys, nil
}
