// SPDX-License-Identifier: Apache-2.0

package xattr

import (
	"crypto"
	_ "crypto/sha256" // Hash.New
	_ "crypto/sha512"
	"fmt"
	"hash"
)

// Hash is the number of a hash algorithm: enum hash_algo of Linux,
// include/uapi/linux/hash_info.h.
type Hash uint8

// The algorithms that every distribution kernel has for IMA.
const (
	SHA256 Hash = 4
	SHA384 Hash = 5
	SHA512 Hash = 6
)

var hashes = map[Hash]crypto.Hash{SHA256: crypto.SHA256, SHA384: crypto.SHA384, SHA512: crypto.SHA512}

// Valid tells whether h is one of the algorithms above.
func (h Hash) Valid() bool { return hashes[h] != 0 }

// New returns a hash.Hash of a valid algorithm.
func (h Hash) New() hash.Hash { return hashes[h].New() }

// Size is the length of a digest in bytes, 0 for an unknown algorithm.
func (h Hash) Size() int {
	if !h.Valid() {
		return 0
	}
	return hashes[h].Size()
}

// String is the kernel's name: "sha256".
func (h Hash) String() string {
	switch h {
	case SHA256:
		return "sha256"
	case SHA384:
		return "sha384"
	case SHA512:
		return "sha512"
	}
	return fmt.Sprintf("hash algorithm %d", uint8(h))
}

// ParseHash is the inverse of String.
func ParseHash(s string) (Hash, error) {
	for h := range hashes {
		if h.String() == s {
			return h, nil
		}
	}
	return 0, fmt.Errorf("hash algorithm %q: there are sha256, sha384 and sha512", s)
}

// Digest is a hash over the content of a file.
type Digest struct {
	Hash Hash
	Sum  []byte // of Hash.Size bytes
}

func (d Digest) check() error {
	if !d.Hash.Valid() || len(d.Sum) != d.Hash.Size() {
		return fmt.Errorf("%s with a digest of %d bytes", d.Hash, len(d.Sum))
	}
	return nil
}
