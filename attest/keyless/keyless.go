// SPDX-License-Identifier: Apache-2.0

// Package keyless signs and checks attestations with an identity in place of a
// key, as sigstore does: Fulcio certifies a key that lives for one run, for
// whom an OpenID Connect token names; Rekor logs the signatures. The formats
// are those of sigstore's client specification, by sigstore-go.
package keyless

import (
	"context"
	"errors"
	"fmt"
	"time"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"
)

// Addresses of the public sigstore instance.
const (
	PublicFulcio = "https://fulcio.sigstore.dev"
	PublicRekor  = "https://rekor.sigstore.dev"
)

// timeout bounds each request; retries follow when the server says 5xx.
const (
	timeout = 30 * time.Second
	retries = 3
)

// Options say which sigstore instance signs. The zero value is the public one, without a timestamp authority.
type Options struct {
	Fulcio, Rekor string
	// Timestamp is the full address of a timestamp authority (RFC 3161).
	Timestamp string
	// Root, if given, is what each bundle is verified against before it is handed out.
	Root root.TrustedMaterial
}

// Signer signs statements under an identity. It is an attest.Bundler.
type Signer struct {
	keypair     sign.Keypair
	certificate sign.CertificateProvider
	logs        []sign.Transparency
	timestamps  []*sign.TimestampAuthority
	root        root.TrustedMaterial
}

// NewSigner makes a fresh key and has Fulcio certify it for whom the token names.
func NewSigner(ctx context.Context, token string, o Options) (*Signer, error) {
	if o.Fulcio == "" {
		o.Fulcio = PublicFulcio
	}
	if o.Rekor == "" {
		o.Rekor = PublicRekor
	}
	keypair, err := sign.NewEphemeralKeypair(&sign.EphemeralKeypairOptions{Algorithm: protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256})
	if err != nil {
		return nil, err
	}
	fulcio := sign.NewFulcio(&sign.FulcioOptions{BaseURL: o.Fulcio, Timeout: timeout, Retries: retries})
	der, err := fulcio.GetCertificate(ctx, keypair, &sign.CertificateProviderOptions{IDToken: token})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Fulcio, err)
	}
	s := &Signer{
		keypair:     keypair,
		certificate: certificate(der),
		logs:        []sign.Transparency{sign.NewRekor(&sign.RekorOptions{BaseURL: o.Rekor, Timeout: timeout, Retries: retries})},
		root:        o.Root,
	}
	if o.Timestamp != "" {
		s.timestamps = []*sign.TimestampAuthority{sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: o.Timestamp, Timeout: timeout, Retries: retries})}
	}
	return s, nil
}

// certificate hands out the one certificate of a run, for all its statements.
type certificate []byte

func (c certificate) GetCertificate(context.Context, sign.Keypair, *sign.CertificateProviderOptions) ([]byte, error) {
	return c, nil
}

// Bundle signs a statement and logs the signature.
func (s *Signer) Bundle(ctx context.Context, statement []byte) ([]byte, error) {
	b, err := sign.Bundle(&sign.DSSEData{Data: statement, PayloadType: "application/vnd.in-toto+json"}, s.keypair, sign.BundleOptions{
		CertificateProvider:  s.certificate,
		TransparencyLogs:     s.logs,
		TimestampAuthorities: s.timestamps,
		Context:              ctx,
		TrustedRoot:          s.root,
	})
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	return protojson.Marshal(b)
}

// ErrNoToken means that the environment offers no identity.
var ErrNoToken = errors.New("no identity token: neither SIGSTORE_ID_TOKEN is set, nor does a GitHub Actions job with permission id-token: write run")
