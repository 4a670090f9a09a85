// SPDX-License-Identifier: Apache-2.0

package deflate_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/sbom-bless/sbom-bless/deflate"
)

// Splice changes five bytes of a gzip file. What is far from the edit is copied as it is, compressed.
func ExampleSplice() {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, "hello world")
	if err := z.Close(); err != nil {
		log.Fatal(err)
	}

	var edited bytes.Buffer
	edits := []deflate.Edit{{Off: 6, Len: 5, New: []byte("there")}}
	if _, err := deflate.Splice(&edited, bytes.NewReader(packed.Bytes()), int64(packed.Len()), edits); err != nil {
		log.Fatal(err)
	}

	r, err := gzip.NewReader(&edited)
	if err != nil {
		log.Fatal(err)
	}
	var out strings.Builder
	if _, err := io.Copy(&out, r); err != nil {
		log.Fatal(err)
	}
	fmt.Println(out.String())
	// Output: hello there
}
