// SPDX-License-Identifier: Apache-2.0

//go:build !purego

package twinhash

// available tells whether the processor has the instructions (Intel SDM volume 2,
// CPUID): of leaf 1 SSSE3 and SSE4.1, of leaf 7 SHA.
var available = func() bool {
	if max, _, _, _ := cpuid(0, 0); max < 7 {
		return false
	}
	_, _, c, _ := cpuid(1, 0)
	_, b, _, _ := cpuid(7, 0)
	return c>>9&1 == 1 && c>>19&1 == 1 && b>>29&1 == 1
}()

func cpuid(leaf, sub uint32) (a, b, c, d uint32)

// blocks adds the blocks of p, whose length is a multiple of 64, to both states.
//
//go:noescape
func blocks(a, b *[8]uint32, p []byte)
