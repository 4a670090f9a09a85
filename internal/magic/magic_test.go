// SPDX-License-Identifier: Apache-2.0

package magic

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestMagic(t *testing.T) {
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, close := range []func() error{g.Close, z.Close} {
		if err := close(); err != nil {
			t.Fatal(err)
		}
	}
	frame := zst.Bytes()
	if len(frame) == 0 { // no content, no frame
		frame = z.EncodeAll([]byte("a"), nil)
	}
	for _, c := range []struct {
		name       string
		head       []byte
		gzip, zstd bool
	}{
		{"gzip", gz.Bytes(), true, false},
		{"zstd", frame, false, true},
		{"zstd, a skippable frame first", []byte{0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, false, true},
		{"a tar", []byte("etc/passwd\x00"), false, false},
		{"too short", []byte{0x28}, false, false},
		{"nothing", nil, false, false},
	} {
		if Gzip(c.head) != c.gzip || Zstd(c.head) != c.zstd {
			t.Errorf("%s: gzip %t, zstd %t", c.name, Gzip(c.head), Zstd(c.head))
		}
	}
}
