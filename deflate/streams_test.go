// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	kgzip "github.com/klauspost/compress/gzip"
)

// A stream is a gzip file made by someone else.
type stream struct {
	name     string
	gz, data []byte
}

// content makes n bytes of what layers are made of: headers that resemble each
// other, text, machine code, zeros and what is compressed already.
func content(n int, seed int64) []byte {
	rnd := rand.New(rand.NewSource(seed))
	words := strings.Fields("if err := return func int64 bytes package import string the for range append copy " +
		"const var struct interface length offset window block header distance symbol literal")
	var b bytes.Buffer
	for b.Len() < n {
		size := rnd.Intn(6000)
		fmt.Fprintf(&b, "usr/share/%s/%s.%d\x00\x00\x00\x00000644\x000000000\x00%011o\x00ustar  \x00root\x00", words[rnd.Intn(len(words))], words[rnd.Intn(len(words))], rnd.Intn(9), size)
		b.Write(make([]byte, -b.Len()&511))
		switch end := b.Len() + size; rnd.Intn(8) {
		case 0:
			b.Write(make([]byte, size*4))
		case 1:
			p := make([]byte, size)
			rnd.Read(p)
			b.Write(p)
		case 2, 3:
			for b.Len() < end {
				binary.Write(&b, binary.LittleEndian, uint32(rnd.ExpFloat64()*1000))
			}
		default:
			for b.Len() < end {
				b.WriteString(words[int(rnd.ExpFloat64()*4)%len(words)])
				b.WriteByte(" \n\t("[rnd.Intn(4)])
			}
		}
		b.Write(make([]byte, -b.Len()&511))
	}
	return b.Bytes()[:n]
}

// packages tells what to install for a tool that is missing.
var packages = map[string]string{
	"gzip": "gzip", "pigz": "pigz", "igzip": "isal", "libdeflate-gzip": "libdeflate-tools",
	"libdeflate-gunzip": "libdeflate-tools", "bsdcat": "libarchive-tools", "python3": "python3",
}

// tool gives what a program makes of in.
func tool(in []byte, name string, args ...string) ([]byte, error) {
	c := exec.Command(name, args...)
	c.Stdin = bytes.NewReader(in)
	var diag bytes.Buffer
	c.Stderr = &diag
	out, err := c.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%w: apt-get install %s", err, packages[name])
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, diag.Bytes())
	}
	return out, nil
}

// zlibScript writes its input as gzip, with a flush of a given kind now and then.
const zlibScript = `
import sys, zlib
level, strategy, mem, mode, every = map(int, sys.argv[1:])
data = sys.stdin.buffer.read()
c = zlib.compressobj(level, zlib.DEFLATED, 31, mem, strategy)
out = b''
if every:
    for i in range(0, len(data), every):
        out += c.compress(data[i:i+every]) + c.flush(mode)
else:
    out += c.compress(data)
sys.stdout.buffer.write(out + c.flush())
`

// encode gives data as written by all the encoders there are, with as many
// settings.
func encode(data []byte) ([]stream, error) {
	var all []stream
	var errs []error
	add := func(name string, data, gz []byte, err error) {
		all = append(all, stream{name, gz, data})
		errs = append(errs, err)
	}
	run := func(name string, args ...string) {
		gz, err := tool(data, name, args...)
		add(name+" "+strings.Join(args, " "), data, gz, err)
	}
	for l := 1; l <= 9; l++ {
		run("gzip", "-c", "-"+strconv.Itoa(l))
	}
	for l := 0; l <= 9; l += 3 {
		run("pigz", "-c", "-p2", "-b128", "-"+strconv.Itoa(l))
	}
	run("pigz", "-c", "-p2", "-b128", "--rsyncable")
	for l := 0; l <= 3; l++ {
		run("igzip", "-c", "-"+strconv.Itoa(l))
	}
	for l := 1; l <= 12; l++ {
		run("libdeflate-gzip", "-c", "-"+strconv.Itoa(l))
	}
	for _, a := range []struct{ name, args string }{
		{"zlib stored", "0 0 8 0 0"},
		{"zlib Z_FIXED", "6 4 8 0 0"},
		{"zlib Z_HUFFMAN_ONLY", "6 2 8 0 0"},
		{"zlib Z_RLE", "6 3 8 0 0"},
		{"zlib Z_FILTERED with little memory", "9 1 1 0 0"},
		{"zlib with Z_SYNC_FLUSH", "6 0 8 2 1000"},
		{"zlib with Z_FULL_FLUSH", "6 0 8 3 5000"},
		{"zlib with Z_PARTIAL_FLUSH", "6 0 8 1 77"},
		{"zlib with Z_BLOCK", "6 0 8 5 333"},
	} {
		gz, err := tool(data, "python3", append([]string{"-c", zlibScript}, strings.Fields(a.args)...)...)
		add(a.name, data, gz, err)
	}
	for _, l := range []int{gzip.HuffmanOnly, gzip.NoCompression, 1, 6, 9} {
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, l)
		w.Write(data)
		err := w.Close()
		add("compress/gzip "+strconv.Itoa(l), data, b.Bytes(), err)
	}
	for _, l := range []int{kgzip.StatelessCompression, kgzip.HuffmanOnly, 1, 3, 5, 7, 9} {
		var b bytes.Buffer
		w, _ := kgzip.NewWriterLevel(&b, l)
		w.Write(data)
		err := w.Close()
		add("klauspost "+strconv.Itoa(l), data, b.Bytes(), err)
	}
	for _, piece := range []int{1, 40, 5000, 100_000} {
		var b bytes.Buffer
		part := data[:min(len(data), piece*3000)]
		for at := 0; at < len(part); at += piece {
			w, _ := gzip.NewWriterLevel(&b, 6)
			if at%3 == 0 {
				w.Name, w.Comment, w.Extra = "name", "comment", []byte("AB\x02\x00xy")
			}
			w.Write(part[at:min(at+piece, len(part))])
			w.Close()
		}
		add(fmt.Sprintf("members of %d bytes", piece), part, b.Bytes(), nil)
	}
	return all, errors.Join(errs...)
}

// streams gives gzip files of half a megabyte, and some that are short or long.
var streams = sync.OnceValues(func() ([]stream, error) {
	data := content(450_000, 1)
	all, err := encode(data)
	errs := []error{err}
	add := func(name string, data, gz []byte, err error) {
		all = append(all, stream{name, gz, data})
		errs = append(errs, err)
	}
	for _, n := range []int{0, 1, 2, 3, 4, 100} {
		gz, err := tool(data[:n], "gzip", "-c")
		add(fmt.Sprintf("gzip of %d bytes", n), data[:n], gz, err)
	}
	zeros := make([]byte, 3_000_000)
	gz, err := tool(zeros, "gzip", "-c9")
	add("gzip of zeros", zeros, gz, err)
	big := content(1<<20, 2)
	add("one deflate block of a megabyte", big, oneBlock(big), nil)
	return all, errors.Join(errs...)
})

func allStreams(t testing.TB) []stream {
	t.Helper()
	s, err := streams()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// oneBlock makes a gzip file of one final block with the fixed code: literals, and
// a match where a byte was there three times before.
func oneBlock(data []byte) []byte {
	var codes [288]symbolCode
	assign(codes[:], fixedLengths[:])
	var w bitWriter
	w.put(3, 3)
	for i := 0; i < len(data); {
		if n := 3; i > 0 && i+n <= len(data) && bytes.Equal(data[i:i+n], data[i-1:i-1+n]) {
			w.put(codes[endSym+1].bits())
			w.put(0, 5)
			i += n
			continue
		}
		w.put(codes[data[i]].bits())
		i++
	}
	w.put(codes[endSym].bits())
	w.align()
	return member(w.buf, data)
}

// member makes a gzip file of a deflate stream and what it inflates to.
func member(deflated, data []byte) []byte {
	b := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}, deflated...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(data))
	return binary.LittleEndian.AppendUint32(b, uint32(len(data)))
}

// gunzip inflates with the standard library.
func gunzip(gz []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
