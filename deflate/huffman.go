// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"math/bits"
	"slices"
)

// codeLengths sets lens to the lengths of a Huffman code for symbols of the given
// frequencies, none longer than limit. The code is complete: where fewer than two
// symbols occur, others get a code too, because not every decoder takes less.
func codeLengths(lens []uint8, freq []uint32, limit int) {
	clear(lens)
	var space [numLit]uint64
	leaves := space[:0] // frequency << 16 | symbol
	for sym, f := range freq {
		if f > 0 {
			leaves = append(leaves, uint64(f)<<16|uint64(sym))
		}
	}
	for sym := 0; len(leaves) < 2; sym++ {
		if freq[sym] == 0 {
			leaves = append(leaves, 1<<16|uint64(sym))
		}
	}
	slices.Sort(leaves)

	// Huffman's algorithm with two queues: the leaves, and the nodes in the order
	// they are made. weight and parent are those of the nodes.
	n := len(leaves)
	var weight [numLit]uint64
	var parent [2 * numLit]uint16 // of leaf i, and of node i at n+i
	leaf, node := 0, 0
	for made := range n - 1 {
		for range 2 {
			if node == made || leaf < n && leaves[leaf]>>16 <= weight[node] {
				weight[made] += leaves[leaf] >> 16
				parent[leaf] = uint16(made)
				leaf++
			} else {
				weight[made] += weight[node]
				parent[n+node] = uint16(made)
				node++
			}
		}
	}
	var depth [numLit]uint8
	var count [maxBits + 1]int
	for i := n - 3; i >= 0; i-- {
		depth[i] = depth[parent[n+i]] + 1
	}
	for i := range n {
		count[min(int(depth[parent[i]])+1, limit)]++
	}

	// Too short by so many codes of limit bits: lengthen the deepest that can be.
	excess := -1 << limit
	for l := 1; l <= limit; l++ {
		excess += count[l] << (limit - l)
	}
	for ; excess > 0; excess-- {
		l := limit - 1
		for count[l] == 0 {
			l--
		}
		count[l]--
		count[l+1] += 2
		count[limit]--
	}
	i := 0
	for l := limit; l > 0; l-- {
		for range count[l] {
			lens[leaves[i]&0xffff] = uint8(l)
			i++
		}
	}
}

// A symbolCode is the code of a symbol, first bit lowest, and above it, from bit
// 16, its length.
type symbolCode uint32

func (c symbolCode) bits() (uint64, uint) { return uint64(c & 0xffff), uint(c >> 16) }

// assign sets codes to the canonical code of the given lengths (RFC 1951 section
// 3.2.2).
func assign(codes []symbolCode, lens []uint8) {
	var count, next [maxBits + 2]uint16
	for _, n := range lens {
		count[n]++
	}
	count[0] = 0
	for n := 1; n <= maxBits; n++ {
		next[n+1] = (next[n] + count[n]) << 1
	}
	for sym, n := range lens {
		codes[sym] = 0
		if n > 0 {
			codes[sym] = symbolCode(bits.Reverse16(next[n])>>(16-n)) | symbolCode(n)<<16
			next[n]++
		}
	}
}
