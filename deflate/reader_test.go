// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// inflate reads all of a gzip file and checks what every block promises.
func inflate(src io.ReaderAt, size int64) ([]byte, error) {
	r := NewReader(src, size)
	return rest(r)
}

func rest(r *Reader) ([]byte, error) {
	var out []byte
	start, last := r.off, false
	for {
		b, err := r.Next()
		if err == io.EOF {
			if !last {
				return out, errors.New("no block was the last")
			}
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if b.Off != start+int64(len(out)) || len(b.Data) > blockMax || last {
			return out, fmt.Errorf("block at %d of %d bytes after %d, last: %t", b.Off, len(b.Data), len(out), last)
		}
		last = b.Last
		out = append(out, b.Data...)
		b.Release()
	}
}

func TestReaderGivesTheContentOfEveryEncodersStreams(t *testing.T) {
	for _, s := range allStreams(t) {
		got, err := inflate(bytes.NewReader(s.gz), int64(len(s.gz)))
		if err != nil || !bytes.Equal(got, s.data) {
			t.Errorf("%s: %d bytes of %d, %v", s.name, len(got), len(s.data), err)
		}
	}
}

// packed makes a deflate stream of values and their widths.
func packed(v ...uint64) []byte {
	var w bitWriter
	for i := 0; i < len(v); i += 2 {
		w.put(v[i], uint(v[i+1]))
	}
	w.align()
	return w.buf
}

// dynamic makes the header of a final dynamic block, with a code as given: symbols
// and lengths in turn, those of distances from numLit on.
func dynamic(lens ...int) *bitWriter {
	var all [numLit + numDist]uint8
	for i := 0; i < len(lens); i += 2 {
		all[lens[i]] = uint8(lens[i+1])
	}
	var w bitWriter
	w.put(1|2<<1, 3)
	newHeader(&all).write(&w)
	return &w
}

func (w *bitWriter) then(v ...uint64) []byte {
	for i := 0; i < len(v); i += 2 {
		w.put(v[i], uint(v[i+1]))
	}
	w.align()
	return w.buf
}

func TestReaderAcceptsWhatZlibDoes(t *testing.T) {
	for name, c := range map[string]struct {
		deflated []byte
		want     string
	}{
		"an empty fixed block":                           {packed(3, 3, 0, 7), ""},
		"an empty stored block":                          {packed(1, 8, 0, 16, 0xffff, 16), ""},
		"a stored block after garbage in the first byte": {packed(1|0x15<<3, 8, 1, 16, 0xfffe, 16, 'x', 8), "x"},
		"a code of the end symbol alone":                 {dynamic(endSym, 1).then(0, 1), ""},
		"no distance code":                               {dynamic('a', 1, endSym, 1).then(0, 1, 0, 1, 1, 1), "aa"},
		"one distance code of one bit":                   {dynamic('a', 2, endSym, 2, 257, 1, numLit, 1).then(1, 2, 0, 1, 0, 1, 3, 2), "aaaa"},
		"length 258 as 227 and 31":                       {dynamic('a', 2, endSym, 2, 284, 1, numLit, 1).then(1, 2, 0, 1, 31, 5, 0, 1, 3, 2), strings.Repeat("a", 259)},
		"length 258 as such":                             {dynamic('a', 2, endSym, 2, 285, 1, numLit, 1).then(1, 2, 0, 1, 0, 1, 3, 2), strings.Repeat("a", 259)},
	} {
		gz := member(c.deflated, []byte(c.want))
		got, err := inflate(bytes.NewReader(gz), int64(len(gz)))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if out, err := tool(gz, "gzip", "-dc"); err != nil || string(out) != c.want {
			t.Errorf("%s: gzip: %q, %v", name, out, err)
		}
		if out, err := gunzip(gz); err != nil || string(out) != c.want {
			t.Errorf("%s: compress/gzip: %q, %v", name, out, err)
		}
	}
}

func TestReaderRefusesWhatIsNotDeflate(t *testing.T) {
	repeat := func(v ...uint64) []byte { // code lengths: 16 and 1 have codes of one bit
		var w bitWriter
		w.put(1|2<<1|0<<3|0<<8|14<<13, 17)
		for i := range 18 { // up to 1, the last but one in codeLengthOrder
			n := uint64(0)
			if s := codeLengthOrder[i]; s == 16 || s == 1 {
				n = 1
			}
			w.put(n, 3)
		}
		return w.then(v...)
	}
	lens := func(hlit, hdist uint64) []byte { return packed(1|2<<1|hlit<<3|hdist<<8|15<<13, 17, 0, 57) }
	for name, c := range map[string]struct {
		deflated []byte
		want     error
	}{
		"block type 3":                       {packed(7, 3), errType},
		"stored length":                      {packed(1, 8, 1, 16, 1, 16, 'x', 8), errStored},
		"287 literal codes":                  {lens(30, 0), errCounts},
		"31 distance codes":                  {lens(0, 30), errCounts},
		"no code length code":                {lens(0, 0), errSymbol},
		"oversubscribed code length code":    {packed(1|2<<1|0<<13, 17, 1|1<<3|1<<6, 12), errOversubscribed},
		"incomplete code length code":        {packed(1|2<<1|0<<13, 17, 2, 12), errIncomplete},
		"repeat before the first length":     {repeat(1, 1, 0, 2), errRepeat},
		"repeat beyond the last length":      {repeat(0, 1, ^uint64(0)>>8, 56, ^uint64(0)>>8, 56, ^uint64(0)>>8, 56, ^uint64(0)>>8, 56, ^uint64(0)>>8, 56), errRepeat},
		"no end of block":                    {dynamic('a', 1, 'b', 1).then(0, 8), errNoEnd},
		"oversubscribed literals":            {dynamic('a', 1, 'b', 1, endSym, 1).then(0, 8), errOversubscribed},
		"incomplete literals":                {dynamic('a', 2, endSym, 1).then(0, 8), errIncomplete},
		"one literal of two bits":            {dynamic(endSym, 2).then(0, 8), errIncomplete},
		"oversubscribed distances":           {dynamic('a', 1, endSym, 1, numLit, 1, numLit+1, 1, numLit+2, 1).then(0, 8), errOversubscribed},
		"incomplete distances":               {dynamic('a', 1, endSym, 1, numLit, 1, numLit+1, 2).then(0, 8), errIncomplete},
		"one distance of two bits":           {dynamic('a', 1, endSym, 1, numLit, 2).then(0, 8), errIncomplete},
		"the other bit of a one symbol code": {dynamic(endSym, 1).then(1, 1, 0, 8), errSymbol},
		"the other bit of a distance":        {dynamic('a', 2, endSym, 2, 257, 1, numLit, 1).then(1, 2, 0, 1, 1, 1, 3, 2), errSymbol},
		"a match without distances":          {dynamic('a', 2, endSym, 2, 257, 1).then(1, 2, 0, 1, 0, 1, 3, 2), errSymbol},
		"length symbol 286":                  {packed(3, 3, 0x63, 8, 0, 20), errSymbol},
		"distance symbol 30":                 {packed(3, 3, 0x0c, 8, 0x40, 7, 0x0f, 5, 0, 20), errSymbol},
		"distance before the start":          {packed(3, 3, 0x0c, 8, 0x40, 7, 0x10, 5, 0, 20), errDistance},
		"nothing":                            {nil, io.ErrUnexpectedEOF},
	} {
		gz := member(c.deflated, nil)
		if c.deflated == nil {
			gz = gz[:10]
		}
		_, err := inflate(bytes.NewReader(gz), int64(len(gz)))
		if !errors.Is(err, c.want) || !strings.HasPrefix(fmt.Sprint(err), "gzip byte ") {
			t.Errorf("%s: %v", name, err)
		}
		if out, err := gunzip(gz); err == nil {
			t.Errorf("%s: compress/gzip accepts it: %q", name, out)
		}
		if out, err := tool(gz, "gzip", "-dc"); err == nil {
			t.Errorf("%s: gzip accepts it: %q", name, out)
		}
	}
}

func TestReaderRefusesWhatIsNotGzip(t *testing.T) {
	good := member(packed(3, 3, 0, 7), nil)
	change := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	crc := append([]byte{0x1f, 0x8b, 8, flagHCRC, 0, 0, 0, 0, 0, 0xff, 1, 2}, good[10:]...)
	long := append([]byte{0x1f, 0x8b, 8, flagName, 0, 0, 0, 0, 0, 0xff}, bytes.Repeat([]byte("x"), 1<<20)...)
	for name, c := range map[string]struct {
		gz   []byte
		want error
	}{
		"an empty file":            {nil, io.ErrUnexpectedEOF},
		"one byte":                 {good[:1], io.ErrUnexpectedEOF},
		"the first magic byte":     {change(0, 'B'), errMagic},
		"the second magic byte":    {change(1, 0x9e), errMagic},
		"the method":               {change(2, 7), errMethod},
		"a reserved flag":          {change(3, 1<<5), errHeaderBits},
		"a wrong header CRC":       {crc, errHeaderCRC},
		"an endless name":          {long, errTextLong},
		"a wrong CRC":              {change(13, 1), errCRC},
		"a wrong length":           {change(17, 1), errSize},
		"a wrong high length byte": {change(19, 1), errSize},
		"text after the member":    {append(bytes.Clone(good), "hello"...), errTrailing},
		"zeros after the member":   {append(bytes.Clone(good), make([]byte, 512)...), errTrailing},
		"text after padding":       {append(bytes.Clone(good), 0, 0, 'x'), errTrailing},
		"a member after padding":   {append(append(bytes.Clone(good), 0), good...), errTrailing},
		"half a member":            {append(bytes.Clone(good), good[:14]...), io.ErrUnexpectedEOF},
	} {
		if _, err := inflate(bytes.NewReader(c.gz), int64(len(c.gz))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReaderErrorsNameTheByteAndStay(t *testing.T) {
	gz, err := tool(content(1_000_000, 3), "gzip", "-c")
	if err != nil {
		t.Fatal(err)
	}
	gz[len(gz)-8]++
	r := NewReader(bytes.NewReader(gz), int64(len(gz)))
	want := fmt.Sprintf("gzip byte %d: wrong CRC-32 of the content", len(gz))
	for range 2 {
		if _, err := rest(r); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestReaderFindsEveryTruncation(t *testing.T) {
	for _, s := range allStreams(t) {
		step := max(1, len(s.gz)/40)
		if len(s.gz) < 300 {
			step = 1
		}
		for n := 0; n < len(s.gz); n += step {
			_, err := inflate(bytes.NewReader(s.gz[:n]), int64(n))
			if strings.HasPrefix(s.name, "members") && err == nil {
				if _, err := gunzip(s.gz[:n]); err != nil {
					t.Errorf("%s: %d bytes accepted", s.name, n)
				}
				continue // cut between two
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %d bytes of %d: %v", s.name, n, len(s.gz), err)
			}
		}
		// A source that ends before it said.
		if _, err := inflate(bytes.NewReader(s.gz), int64(len(s.gz))+1); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: a byte too few: %v", s.name, err)
		}
	}
}

func TestReaderPassesOnErrorsOfTheSource(t *testing.T) {
	_, err := inflate(failing{}, 100)
	if !errors.Is(err, iotest.ErrTimeout) {
		t.Error(err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, iotest.ErrTimeout }

func TestForkContinuesFromTheSamePlace(t *testing.T) {
	for _, s := range allStreams(t) {
		r := NewReader(bytes.NewReader(s.gz), int64(len(s.gz)))
		for {
			off := r.off
			f := r.Fork()
			b, err := r.Next()
			if err != nil {
				break
			}
			if got, err := rest(f); err != nil || !bytes.Equal(got, s.data[off:]) {
				t.Errorf("%s: fork at %d: %d bytes of %d, %v", s.name, off, len(got), len(s.data)-int(off), err)
			}
			if b.Off != off || !bytes.Equal(b.Data, s.data[off:off+int64(len(b.Data))]) {
				t.Errorf("%s: block at %d after a fork at %d", s.name, b.Off, off)
			}
			b.Release()
			if len(s.data) > 1<<20 {
				for range 7 { // not a fork for each block of a long stream
					if b, err := r.Next(); err == nil {
						b.Release()
					}
				}
			}
		}
	}
}

// TestHeadersAreThoseThatGoReads: what compress/gzip refuses, no container runtime unpacks.
func TestHeadersAreThoseThatGoReads(t *testing.T) {
	good := member(packed(3, 3, 0, 7), nil)
	with := func(flag byte, length int) []byte {
		h := append([]byte{0x1f, 0x8b, 8, flag, 0, 0, 0, 0, 0, 0xff}, bytes.Repeat([]byte("x"), length)...)
		return append(append(h, 0), good[10:]...)
	}
	cases := map[string][]byte{
		"padded with zeros": append(bytes.Clone(good), make([]byte, 512)...), "one zero": append(bytes.Clone(good), 0),
		"two members": append(bytes.Clone(good), good...),
	}
	for _, n := range []int{0, 1, 510, 511, 512, 4096} {
		cases[fmt.Sprintf("a name of %d bytes", n)] = with(flagName, n)
		cases[fmt.Sprintf("a comment of %d bytes", n)] = with(flagComment, n)
	}
	for name, gz := range cases {
		want, wantErr := gunzip(gz)
		got, err := inflate(bytes.NewReader(gz), int64(len(gz)))
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v; compress/gzip: %q, %v", name, got, err, want, wantErr)
		}
	}
}
