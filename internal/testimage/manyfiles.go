// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// words are what the files of manyfiles are written with: enough of them that
// the text compresses as source code does.
var words = bytes.Fields([]byte(`module exports require function return const
	let var if else for while switch case default break continue new this class
	extends super import from async await promise resolve reject then catch
	value index length push map filter reduce object array string number
	undefined null true false typeof options callback error result stream
	buffer path file config state props render update (a,b)=>{ }); === !== && ||`))

// manyFiles makes one layer of 200,000 files of 100 to 3,600 bytes, each with
// content of its own, laid out as a node_modules directory.
func manyFiles(ctx context.Context, b *builder) error {
	path := filepath.Join(b.tmp, "0.tar")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buffered := bufio.NewWriter(f)
	tw := tar.NewWriter(buffered)
	rng := rand.New(rand.NewPCG(1, 2))
	const packages, perPackage = 4000, 50
	for p := range packages {
		dir := Dir(fmt.Sprintf("srv/app/node_modules/package-%04d/", p))
		if err := tw.WriteHeader(&dir.Header); err != nil {
			return err
		}
		for i := range perPackage {
			// Sizes lean to the small: the product of two uniform numbers.
			size := 100 + int(3500*rng.Float64()*rng.Float64())
			body := fmt.Appendf(nil, "// package %d, file %d\n", p, i)
			for n := 1; len(body) < size; n++ {
				body = append(body, words[rng.IntN(len(words))]...)
				if n%6 == 0 {
					body = fmt.Appendf(body, " %08x\n", rng.Uint32())
				} else {
					body = append(body, ' ')
				}
			}
			e := File(fmt.Sprintf("%slib/file%02d.js", dir.Name, i), 0o644, body)
			if err := tw.WriteHeader(&e.Header); err != nil {
				return err
			}
			if _, err := tw.Write(e.Body); err != nil {
				return err
			}
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return b.add(ctx, path, "200,000 files")
}
