// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"strings"

	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// limitHints has the flag of each field of [bless.Limits].
var limitHints = map[string]string{
	"LayerBytes": "--max-layer-size raises the limit",
	"Ratio":      "--max-ratio raises the limit",
	"Entries":    "--max-entries raises the limit",
	"ZstdWindow": "--max-zstd-window raises the limit",
	"XattrBytes": "use an ECDSA key, or raise --max-xattr-size",
}

// hints has the flag that helps against an error. The packages that the errors come from know no flags.
var hints = []struct {
	err  error
	hint string
}{
	{bless.ErrForeign, "--replace-xattrs exchanges it"},
	{key.ErrExists, "--out names other files"},
	{key.ErrOtherKey, "--cert names the right one"},
	{key.ErrNoPassphrase, "SBOM_BLESS_PASSWORD or --passphrase-file gives it"},
	{transport.ErrCertificate, "SSL_CERT_FILE names a file of trusted certificates; --insecure trusts any"},
	{transport.ErrPlainHTTP, "--insecure, if nobody can be on the way"},
	{xattr.ErrHeaderLimit, "--max-header-size raises the limit"},
	{transport.ErrNoReferrers, "--embed puts the attestations into the image, --attestation-out DIR into a directory"},
	{transport.ErrNoIndex, "--platform chooses one of its images"},
}

// hintFor is the last line of the message about err, empty if no flag helps.
func hintFor(err error) string {
	if limit := new(bless.LimitError); errors.As(err, &limit) {
		return "\nhint: " + limitHints[limit.Limit]
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return "\nhint: " + h.hint
		}
	}
	if child := new(bless.ChildError); errors.As(err, &child) && len(child.Others) > 0 {
		return "\nhint: the other platforms can be chosen: --platform " + strings.Join(child.Others, " --platform ")
	}
	return ""
}
