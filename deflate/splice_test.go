// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"bytes"
	"errors"
	"io"
	"math/rand"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// apply does to data what edits say.
func apply(data []byte, edits []Edit) []byte {
	var out []byte
	pos := int64(0)
	for _, e := range edits {
		out = append(append(out, data[pos:e.Off]...), e.New...)
		pos = e.Off + e.Len
	}
	return append(out, data[pos:]...)
}

// inverse gives the edits that take edits back.
func inverse(data []byte, edits []Edit) []Edit {
	var back []Edit
	shift := int64(0)
	for _, e := range edits {
		back = append(back, Edit{e.Off + shift, int64(len(e.New)), data[e.Off : e.Off+e.Len]})
		shift += int64(len(e.New)) - e.Len
	}
	return back
}

// headers inserts n blocks as blessing does: an extended tar header and its records with a
// signature.
func headers(size int, n int, rnd *rand.Rand) []Edit {
	var edits []Edit
	for i := range n {
		p := make([]byte, 1024)
		copy(p, "PaxHeaders.0/file\x00\x00\x000000644\x000000000")
		copy(p[512:], "105 SCHILY.xattr.security.ima=\x03\x02\x04")
		rnd.Read(p[545:617])
		edits = append(edits, Edit{Off: int64(size) * int64(i) / int64(n), New: p})
	}
	return edits
}

// scattered makes n edits of all kinds.
func scattered(data []byte, n int, rnd *rand.Rand) []Edit {
	var edits []Edit
	pos := int64(0)
	size := int64(len(data))
	for i := range n {
		e := Edit{Off: min(size, pos+rnd.Int63n(1+2*size/int64(n)))}
		switch rnd.Intn(6) {
		case 0:
			e.Len = rnd.Int63n(10)
		case 1:
			e.Len = rnd.Int63n(100_000)
		}
		e.Len = min(e.Len, size-e.Off)
		switch rnd.Intn(6) {
		case 0, 1:
			e.New = make([]byte, rnd.Intn(300))
			rnd.Read(e.New)
		case 2:
			at := rnd.Int63n(size + 1)
			e.New = data[at:min(size, at+int64(rnd.Intn(60_000)))]
		case 3:
			e.New = []byte(strings.Repeat("abc", rnd.Intn(400)))
		case 4: // the same length again
			e.New = bytes.Repeat([]byte{byte(i)}, int(e.Len))
		}
		edits = append(edits, e)
		pos = e.Off + e.Len
	}
	return edits
}

func splice(t testing.TB, gz []byte, edits []Edit) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Splice(&out, bytes.NewReader(gz), int64(len(gz)), edits); err != nil {
		t.Fatalf("%d edits: %v", len(edits), err)
	}
	return out.Bytes()
}

func TestSpliceWithoutEditsChangesNothing(t *testing.T) {
	for _, s := range allStreams(t) {
		if got := splice(t, s.gz, nil); !bytes.Equal(got, s.gz) {
			t.Errorf("%s: differs", s.name)
		}
	}
}

var decoders = [][]string{{"gzip", "-dc"}, {"igzip", "-dc"}, {"libdeflate-gunzip", "-c"}, {"bsdcat"}}

func TestSpliceEditsTheContentForEveryDecoder(t *testing.T) {
	for i, s := range allStreams(t) {
		rnd := rand.New(rand.NewSource(int64(i)))
		size := len(s.data)
		kinds := map[string][]Edit{
			"headers":    headers(size, min(1+size/3000, 2000), rnd),
			"few":        headers(size, 2, rnd),
			"scattered":  scattered(s.data, 40, rnd),
			"at the end": {{Off: int64(size), New: []byte("the end")}},
			"all away":   {{Off: 0, Len: int64(size)}},
		}
		if size > 200_000 {
			kinds["before the end"] = []Edit{{Off: int64(size) - 100_000, New: []byte("hello")}}
			kinds["replaced"] = []Edit{{Off: 50_000, Len: 512, New: make([]byte, 512)}}
			kinds["much new"] = []Edit{{Off: 70_000, Len: 1, New: content(700_000, int64(i))}}
		}
		for kind, edits := range kinds {
			want := apply(s.data, edits)
			gz := splice(t, s.gz, edits)
			got, err := gunzip(gz)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s: compress/gzip: %d bytes of %d, %v", s.name, kind, len(got), len(want), err)
				continue
			}
			if again := splice(t, s.gz, edits); !bytes.Equal(again, gz) {
				t.Errorf("%s: %s: another time another output", s.name, kind)
			}
			if got, err := gunzip(splice(t, gz, inverse(s.data, edits))); err != nil || !bytes.Equal(got, s.data) {
				t.Errorf("%s: %s: not the same when taken back: %v", s.name, kind, err)
			}
			if kind != "headers" && kind != "scattered" || strings.HasPrefix(s.name, "members of 1 ") {
				continue
			}
			for _, d := range decoders {
				got, err := tool(gz, d[0], d[1:]...)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %s: %s: %d bytes of %d, %v", s.name, kind, d[0], len(got), len(want), err)
				}
			}
		}
	}
}

func TestSpliceAtAndAroundEveryBoundary(t *testing.T) {
	for _, s := range allStreams(t) {
		r := NewReader(bytes.NewReader(s.gz), int64(len(s.gz)))
		var ends []int64
		for {
			b, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range b.parts {
				if n := b.Off + int64(p.end); len(ends) == 0 || ends[len(ends)-1]+5000 < n {
					ends = append(ends, n)
				}
			}
			b.Release()
		}
		size := int64(len(s.data))
		for _, around := range [][]Edit{
			{{0, 0, []byte("one")}, {0, 0, nil}, {0, 0, []byte("two")}},
			{{-1, 1, nil}}, {{-3, 7, []byte("replaced")}}, {{-2000, 4000, nil}, {2001, 1, nil}},
		} {
			var edits []Edit
			for _, end := range ends {
				for _, e := range around {
					if e.Off += end; e.Off >= 0 && e.Off+e.Len <= size {
						edits = append(edits, e)
					}
				}
			}
			got, err := gunzip(splice(t, s.gz, edits))
			if err != nil || !bytes.Equal(got, apply(s.data, edits)) {
				t.Errorf("%s: %d edits at %d and the like: %v", s.name, len(edits), around[0].Off, err)
			}
		}
	}
}

func TestAnEditInAFinalBlockThatWasWrittenBeginsAMember(t *testing.T) {
	data := content(12<<20, 2)
	gz := oneBlock(data)
	// Near the start the end of the block can still be put off.
	for off, want := range map[int64]int{100_000: 1, int64(len(data)) - 1: 2} {
		edits := []Edit{{Off: off, New: []byte("late")}}
		out := splice(t, gz, edits)
		got, err := gunzip(out)
		if err != nil || !bytes.Equal(got, apply(data, edits)) {
			t.Errorf("edit at %d: %v", off, err)
		}
		if members := bytes.Count(out, []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}); members != want {
			t.Errorf("edit at %d: %d members, want %d", off, members, want)
		}
	}
}

func TestSpliceKeepsMembersApart(t *testing.T) {
	data := content(100_000, 5)
	var gz []byte
	for range 3 {
		one, err := tool(data, "gzip", "-c")
		if err != nil {
			t.Fatal(err)
		}
		gz = append(gz, one...)
	}
	out := splice(t, gz, []Edit{{Off: 150_000, New: []byte("in the second")}})
	one := len(gz) / 3
	if !bytes.HasPrefix(out, gz[:one]) || !bytes.HasSuffix(out, gz[2*one:]) {
		t.Error("the first or the third member changed")
	}
	if !bytes.HasPrefix(out[one:], gz[:10]) {
		t.Error("the header of the second changed")
	}
}

func TestSpliceDoesNotDependOnHowBlocksArePassed(t *testing.T) {
	data := content(3_000_000, 6)
	gz, err := tool(data, "gzip", "-c")
	if err != nil {
		t.Fatal(err)
	}
	edits := headers(len(data), 900, rand.New(rand.NewSource(6)))
	want := splice(t, gz, edits)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for procs := 1; procs <= 4; procs++ {
		runtime.GOMAXPROCS(procs)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				r := NewReader(bytes.NewReader(gz), int64(len(gz)))
				passed := make(chan *Block, 4)
				wg.Go(func() {
					defer close(passed)
					for {
						b, err := r.Next()
						if err != nil {
							return
						}
						passed <- b
					}
				})
				var out bytes.Buffer
				w := NewWriter(&out)
				left := edits
				for b := range passed {
					n := 0
					for n < len(left) && left[n].Off < b.Off+int64(len(b.Data)) {
						n++
					}
					if err := w.WriteBlock(b, left[:n]); err != nil {
						t.Error(err)
					}
					left = left[n:]
					b.Release()
				}
				if err := w.Close(); err != nil || !bytes.Equal(out.Bytes(), want) {
					t.Error("differs", err)
				}
			})
		}
		wg.Wait()
	}
}

func TestSpliceCostsLittleSpace(t *testing.T) {
	data := content(4_000_000, 7)
	gz, err := tool(data, "gzip", "-c")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{10, 200, 2500} {
		edits := headers(len(data), n, rand.New(rand.NewSource(7)))
		var out bytes.Buffer
		stats, err := Splice(&out, bytes.NewReader(gz), int64(len(gz)), edits)
		if err != nil {
			t.Fatal(err)
		}
		best, err := tool(apply(data, edits), "gzip", "-c")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d edits: %d bytes became %d; gzip -6 %d; %+v", n, len(gz), out.Len(), len(best), stats)
		if out.Len() > len(best)*103/100 {
			t.Errorf("%d edits: %d bytes, where gzip -6 makes %d", n, out.Len(), len(best))
		}
		if stats.Copied+stats.Recoded > int64(out.Len())*8 || stats.Found > stats.Lost {
			t.Errorf("%d edits: %+v", n, stats)
		}
	}
}

func TestSpliceRefusesEditsOutOfPlace(t *testing.T) {
	gz := member(packed(1, 8, 4, 16, 0xfffb, 16, 0x64636261, 32), []byte("abcd"))
	for name, edits := range map[string][]Edit{
		"beyond the end":         {{Off: 5}},
		"before the start":       {{Off: -1}},
		"not sorted":             {{Off: 2}, {Off: 1}},
		"in replaced bytes":      {{Off: 1, Len: 2}, {Off: 2}},
		"more than there is":     {{Off: 1, Len: 4}},
		"of a length below zero": {{Off: 1, Len: -1}},
	} {
		if _, err := Splice(io.Discard, bytes.NewReader(gz), int64(len(gz)), edits); err == nil || !strings.HasPrefix(err.Error(), "edit ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriterRefusesBlocksOutOfOrder(t *testing.T) {
	data := content(1_000_000, 8)
	gz := oneBlock(data)
	r := NewReader(bytes.NewReader(gz), int64(len(gz)))
	first, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(io.Discard)
	if err := w.WriteBlock(first, nil); err != nil {
		t.Error(err)
	}
	if err := w.WriteBlock(first, nil); err == nil {
		t.Error("the same block twice")
	}
	w = NewWriter(io.Discard)
	if err := w.WriteBlock(first, nil); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err == nil {
		t.Error("closed half way")
	}
}

func TestWriterPassesOnErrorsAndWritesMuchAtOnce(t *testing.T) {
	data := content(3_000_000, 9)
	gz, err := tool(data, "gzip", "-c1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Splice(broken{}, bytes.NewReader(gz), int64(len(gz)), nil); !errors.Is(err, iotest.ErrTimeout) {
		t.Error(err)
	}
	var sizes sizes
	if _, err := Splice(&sizes, bytes.NewReader(gz), int64(len(gz)), nil); err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		if n < writeSize && i < len(sizes)-1 {
			t.Errorf("write %d of %d has %d bytes", i, len(sizes), n)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, iotest.ErrTimeout }

type sizes []int

func (s *sizes) Write(p []byte) (int, error) {
	*s = append(*s, len(p))
	return len(p), nil
}
