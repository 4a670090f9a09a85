// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"bytes"
	"compress/flate"
	"io"
	"testing"
)

// seeds gives streams short enough to be changed a thousand times a second.
func seeds(f *testing.F) []stream {
	s, err := encode(content(6000, 4)[4000:])
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// known wraps a deflate stream, and what compress/flate makes of it, as gzip.
func known(deflated []byte) (gz, data []byte, err error) {
	src := bytes.NewReader(deflated)
	data, err = io.ReadAll(io.LimitReader(flate.NewReader(src), 8<<20))
	return member(deflated[:len(deflated)-src.Len()], data), data, err
}

// FuzzReader holds the reader against compress/flate: both take a stream or both
// refuse it, and they make the same of it.
func FuzzReader(f *testing.F) {
	for _, s := range seeds(f) {
		if s.gz[3] == 0 {
			f.Add(s.gz[10 : len(s.gz)-8])
		}
	}
	f.Add(packed(3, 3, 0, 7))
	f.Add(dynamic('a', 2, endSym, 2, 257, 1, numLit, 1).then(1, 2, 0, 1, 0, 1, 3, 2))
	f.Add(dynamic('a', 2, endSym, 2, 284, 1, numLit, 1).then(1, 2, 0, 1, 31, 5, 0, 1, 3, 2))
	f.Fuzz(func(t *testing.T, deflated []byte) {
		gz, want, wantErr := known(deflated)
		if len(want) == 8<<20 {
			return
		}
		got, err := inflate(bytes.NewReader(gz), int64(len(gz)))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, compress/flate: %v", err, wantErr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, compress/flate: %d", len(got), len(want))
		}
	})
}

// FuzzSplice edits two members at will. An edit is taken from seven bytes of
// script: how far it is from the one before, how much it replaces, and with what.
func FuzzSplice(f *testing.F) {
	for _, s := range seeds(f) {
		if s.gz[3] == 0 {
			f.Add(s.gz[10:len(s.gz)-8], []byte("\x00\x00\x00\x00\x00\x04\x01\x00\x04\x00\x00\x00\x04\x02"))
			f.Add(s.gz[10:len(s.gz)-8], []byte("\x20\x01\x00\x03\x06\x04abcdefg"))
		}
	}
	f.Fuzz(func(t *testing.T, deflated, script []byte) {
		gz, data, err := known(deflated)
		if err != nil || len(data) == 8<<20 {
			return
		}
		gz = append(gz, gz...)
		data = append(data, data...)
		if got := splice(t, gz, nil); !bytes.Equal(got, gz) {
			t.Fatal("without edits it is not the same")
		}
		var edits []Edit
		pos := int64(0)
		for ; len(script) >= 7; script = script[7:] {
			pos += int64(script[0]) | int64(script[1])<<8 | int64(script[2])<<16
			n := int64(script[3]) * int64(script[4])
			if pos+n > int64(len(data)) {
				break
			}
			p := bytes.Repeat(script[:script[6]%7+1], int(script[5]))
			edits = append(edits, Edit{pos, n, p})
			pos += n
		}
		edited := splice(t, gz, edits)
		got, err := gunzip(edited)
		if err != nil || !bytes.Equal(got, apply(data, edits)) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(data), err)
		}
		back, err := gunzip(splice(t, edited, inverse(data, edits)))
		if err != nil || !bytes.Equal(back, data) {
			t.Fatalf("taken back: %d bytes of %d, %v", len(back), len(data), err)
		}
	})
}
