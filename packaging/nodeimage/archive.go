// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"path"
	"strings"
	"time"
)

// inImage is where the program is.
const inImage = "usr/bin/sbom-bless"

// made is when everything in the image was made: no build has a time of its own.
var made = time.Unix(0, 0).UTC()

// archive is the tar of the one layer: the program, and the directories above it.
func archive(program []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var above []string
	for dir := path.Dir(inImage); dir != "."; dir = path.Dir(dir) {
		above = append([]string{dir + "/"}, above...)
	}
	for _, name := range append(above, inImage) {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: made, Format: tar.FormatUSTAR}
		if !strings.HasSuffix(name, "/") {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(program))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
