// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"crypto"
	_ "crypto/sha1" // linked in for crypto.SHA1.New
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"hash"
	"strconv"
)

// Hash is a hash algorithm by its number in enum hash_algo of
// include/uapi/linux/hash_info.h.
type Hash uint8

// The algorithms known here. SHA-1 is understood, never signed.
const (
	SHA1   Hash = 2
	SHA256 Hash = 4
	SHA384 Hash = 5
	SHA512 Hash = 6
)

// ParseHash reads the name of an algorithm to sign with: sha256, sha384 or
// sha512.
func ParseHash(name string) (Hash, error) {
	for _, h := range []Hash{SHA256, SHA384, SHA512} {
		if h.String() == name {
			return h, nil
		}
	}
	return 0, fmt.Errorf("hash algorithm %q: choose sha256, sha384 or sha512", name)
}

// String is the kernel's name of the algorithm (hash_algo_name of
// crypto/hash_info.c).
func (h Hash) String() string {
	switch h {
	case SHA1:
		return "sha1"
	case SHA256:
		return "sha256"
	case SHA384:
		return "sha384"
	case SHA512:
		return "sha512"
	}
	return "hash algorithm " + strconv.Itoa(int(h))
}

// Size is the length of a digest in bytes, 0 for an unknown algorithm.
func (h Hash) Size() int {
	if c := h.crypto(); c != 0 {
		return c.Size()
	}
	return 0
}

// New gives a running hash. It panics if h is none of the constants.
func (h Hash) New() hash.Hash { return h.crypto().New() }

// crypto is the standard library's name of h, 0 for an unknown algorithm.
func (h Hash) crypto() crypto.Hash {
	switch h {
	case SHA1:
		return crypto.SHA1
	case SHA256:
		return crypto.SHA256
	case SHA384:
		return crypto.SHA384
	case SHA512:
		return crypto.SHA512
	}
	return 0
}

// Digest is the digest of a file's content.
type Digest struct {
	Hash Hash
	Sum  []byte
}

// check tells what keeps d from being signed.
func (d Digest) check() error {
	switch {
	case d.Hash == SHA1:
		return fmt.Errorf("digest: sha1 is too weak to be signed")
	case d.Hash.Size() == 0:
		return fmt.Errorf("digest: unknown %s", d.Hash)
	case len(d.Sum) != d.Hash.Size():
		return fmt.Errorf("digest: %s of %d bytes, want %d", d.Hash, len(d.Sum), d.Hash.Size())
	}
	return nil
}
