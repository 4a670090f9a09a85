// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package key

import "errors"

func loadPKCS11(ref string) (*Key, error) {
	if _, err := parsePKCS11(ref); err != nil {
		return nil, err
	}
	return nil, errors.New("this sbom-bless was built without cgo, which PKCS#11 needs" +
		"\nhint: CGO_ENABLED=1 go install github.com/sbom-bless/sbom-bless@latest")
}
