// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	kgzip "github.com/klauspost/compress/gzip"
)

// tree packs some of the Go distribution as a layer would be: what every machine that
// runs this has.
func tree(b *testing.B) (data, gz []byte, headers []int64) {
	b.Helper()
	var t bytes.Buffer
	w := tar.NewWriter(&t)
	root, err := tool(nil, "go", "env", "GOROOT")
	if err != nil {
		b.Fatal(err)
	}
	for _, dir := range []string{"src/net", "src/crypto", "src/runtime", "bin", "pkg/tool", "src/cmd/compile"} {
		err := filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || t.Len() > 60<<20 {
				return err
			}
			p, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			headers = append(headers, int64(t.Len()))
			if err := w.WriteHeader(&tar.Header{Name: path[1:], Mode: 0o644, Size: int64(len(p)), Format: tar.FormatUSTAR}); err != nil {
				return err
			}
			w.Write(p)
			return w.Flush()
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	w.Close()
	gz, err = tool(t.Bytes(), "gzip", "-c6")
	if err != nil {
		b.Fatal(err)
	}
	return t.Bytes(), gz, headers
}

// BenchmarkReader compares inflating with the other packages, one after the other
// in one run, so that a busy machine is the same for all: the ratios count.
func BenchmarkReader(b *testing.B) {
	data, gz, _ := tree(b)
	own := func() {
		r := NewReader(bytes.NewReader(gz), int64(len(gz)))
		for {
			k, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				b.Fatal(err)
			}
			k.Release()
		}
	}
	read := func(r io.Reader, err error) {
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(data)))
	var mine, std, klauspost float64
	for b.Loop() {
		mine += seconds(own)
		b.StopTimer()
		std += seconds(func() { r, err := gzip.NewReader(bytes.NewReader(gz)); read(r, err) })
		klauspost += seconds(func() { r, err := kgzip.NewReader(bytes.NewReader(gz)); read(r, err) })
		b.StartTimer()
	}
	b.ReportMetric(std/mine, "x-compress/gzip")
	b.ReportMetric(klauspost/mine, "x-klauspost")
}

// BenchmarkSplice inserts 1,024 bytes before every file, and compares with
// compressing anew.
func BenchmarkSplice(b *testing.B) {
	data, gz, at := tree(b)
	edits := headers(len(data), len(at), rand.New(rand.NewSource(1)))
	for i := range edits {
		edits[i].Off = at[i]
	}
	want := apply(data, edits)
	b.SetBytes(int64(len(data)))
	var mine, klauspost float64
	var size, anew counter
	for b.Loop() {
		size, anew = 0, 0
		mine += seconds(func() {
			if _, err := Splice(&size, bytes.NewReader(gz), int64(len(gz)), edits); err != nil {
				b.Fatal(err)
			}
		})
		b.StopTimer()
		klauspost += seconds(func() {
			r, err := kgzip.NewReader(bytes.NewReader(gz))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err != nil {
				b.Fatal(err)
			}
			w, _ := kgzip.NewWriterLevel(&anew, 6)
			w.Write(want)
			w.Close()
		})
		b.StartTimer()
	}
	b.ReportMetric(klauspost/mine, "x-recompress")
	b.ReportMetric(100*float64(size)/float64(len(gz))-100, "%-growth")
	b.ReportMetric(100*float64(anew)/float64(len(gz))-100, "%-growth-anew")
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// seconds is the processor time that f takes.
func seconds(f func()) float64 {
	before := used()
	f()
	return used() - before
}

func used() float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}
