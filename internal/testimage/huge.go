// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// hugePart is the part of which WriteHuge makes a file by repetition.
const hugePart = 16 << 20

// WriteHuge writes to dir the layout of an image of one layer with one file of that size,
// half of it noise and half of it text: more than a Bundle could hold.
// Size is rounded down to 16 MiB. The file is the same bytes again and again, packed once.
func WriteHuge(dir, compression string, size int64) error {
	part := make([]byte, 0, hugePart)
	rng := rand.New(rand.NewPCG(1, 2))
	for len(part) < hugePart {
		for range 8 << 10 {
			part = fmt.Appendf(part, "%s ", words[rng.IntN(len(words))])
		}
		for range 8 << 10 {
			part = binary.LittleEndian.AppendUint64(part, rng.Uint64())
		}
	}
	part = part[:hugePart]
	var head bytes.Buffer
	n := size / hugePart
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "model.bin", Mode: 0o644, Size: n * hugePart, ModTime: Created}); err != nil {
		return err
	}
	end := make([]byte, 2*512)

	diffID := sha256.New()
	packed := []io.Reader{bytes.NewReader(Compress(head.Bytes(), compression))}
	diffID.Write(head.Bytes())
	once := Compress(part, compression)
	for range n {
		packed = append(packed, bytes.NewReader(once))
		diffID.Write(part)
	}
	packed = append(packed, bytes.NewReader(Compress(end, compression)))
	diffID.Write(end)
	b := &builder{layout: dir, diffIDs: []v1.Hash{{Algorithm: "sha256", Hex: hex.EncodeToString(diffID.Sum(nil))}}}
	layer, err := addBlob(dir, Image{}.layerType(compression), io.MultiReader(packed...))
	if err != nil {
		return err
	}
	b.layers = []v1.Descriptor{layer}
	b.history = []v1.History{{Created: v1.Time{Time: Created}, CreatedBy: "one file"}}
	return b.finish(nil)
}
