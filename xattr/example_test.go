// SPDX-License-Identifier: Apache-2.0

package xattr_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log"

	"github.com/sbom-bless/sbom-bless/xattr"
)

// A signer makes the value of security.ima for the digest of a file; whoever has the public key
// verifies it.
func Example() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := xattr.NewSigner(key, nil)
	if err != nil {
		log.Fatal(err)
	}
	sum := sha256.Sum256([]byte("#!/bin/sh\necho hello\n"))
	digest := xattr.Digest{Hash: xattr.SHA256, Sum: sum[:]}
	attribute, err := signer.IMA(digest, 2)
	if err != nil {
		log.Fatal(err)
	}

	value, err := xattr.Parse(attribute)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(value.Hash, value.KeyID == signer.KeyID(), value.Verify(key.Public(), digest))

	sum[0] ^= 1
	fmt.Println(value.Verify(key.Public(), digest) != nil)
	// Output:
	// sha256 true <nil>
	// true
}
