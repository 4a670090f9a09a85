// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"archive/tar"
	"fmt"
)

// Span is data at an offset of a sparse file.
type Span struct {
	Off  int64
	Data []byte
}

// SparseGNU is a sparse file in the old GNU format: up to four spans, held in
// the header block (GNU tar manual, "Sparse Formats").
func SparseGNU(name string, size int64, spans ...Span) Entry {
	data := join(spans)
	h := Header(name, tar.TypeGNUSparse, int64(len(data)))
	copy(h[257:], "ustar  \x00")
	at := 386
	for _, s := range spans {
		at += copy(h[at:], fmt.Sprintf("%011o\x00%011o\x00", s.Off, len(s.Data)))
	}
	if len(spans) < 4 { // the hole at the end has an entry of its own
		copy(h[at:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	}
	copy(h[483:], fmt.Sprintf("%011o\x00", size))
	sign(h)
	return Raw(h, Pad(data))
}

// SparsePAX is a sparse file in PAX format 1.0: the map precedes the data.
func SparsePAX(name string, size int64, spans ...Span) Entry {
	table := fmt.Appendf(nil, "%d\n", len(spans)+1)
	for _, s := range spans {
		table = fmt.Appendf(table, "%d\n%d\n", s.Off, len(s.Data))
	}
	table = fmt.Appendf(table, "%d\n0\n", size)
	content := append(Pad(table), join(spans)...)
	return Raw(
		Records("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name="+name, fmt.Sprintf("GNU.sparse.realsize=%d", size)),
		Header("GNUSparseFile.0/"+name, tar.TypeReg, int64(len(content))), Pad(content))
}

func join(spans []Span) []byte {
	var data []byte
	for _, s := range spans {
		data = append(data, s.Data...)
	}
	return data
}
