// SPDX-License-Identifier: Apache-2.0

package key

// Keys in the key management services that sigstore knows. Each takes its
// credentials and addresses from where its own command line tool does, such as
// AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, AZURE_TENANT_ID, VAULT_ADDR.

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"

	// Each registers itself with package kms for its URI scheme.
	_ "github.com/sigstore/sigstore/pkg/signature/kms/aws"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/azure"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
)

func kmsSchemes() []string {
	return []string{"awskms://", "gcpkms://", "azurekms://", "hashivault://"}
}

func isKMS(ref string) bool {
	return slices.ContainsFunc(kmsSchemes(), func(scheme string) bool { return strings.HasPrefix(ref, scheme) })
}

func loadKMS(ctx context.Context, ref string) (*Key, error) {
	service, err := kms.Get(ctx, ref, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	public, err := service.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if err := checkPublic(public); err != nil {
		return nil, err
	}
	// The callback would tell of errors of Public, which remoteSigner never calls.
	signer, opts, err := service.CryptoSigner(ctx, nil)
	if err != nil {
		return nil, err
	}
	return remote(signer, public, opts.HashFunc()), nil
}
