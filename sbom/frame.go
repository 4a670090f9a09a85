// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"

	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
)

// A frame is a document whose longest lists are not in it: an element of each stands for the whole, and is
// replaced as the document is written. Files of an image as values of a format's model take several times
// the memory of the document.
type frame struct {
	rest []byte // of the frame
	out  bytes.Buffer
}

// list writes the frame up to the list that holds mark alone, and the elements in its place.
func (f *frame) list(mark any, elements iter.Seq[any]) error {
	text, err := jsonedit.Marshal(mark)
	if err != nil {
		return err
	}
	before, after, ok := bytes.Cut(f.rest, text)
	if !ok {
		return errors.New("the frame has lost its mark") // the encoder writes it in another way
	}
	f.out.Write(before)
	f.rest = after
	e := json.NewEncoder(&f.out)
	e.SetEscapeHTML(false)
	start := f.out.Len()
	for v := range elements {
		if f.out.Len() > start {
			f.out.WriteByte(',')
		}
		if err := e.Encode(v); err != nil {
			return err
		}
		f.out.Truncate(f.out.Len() - 1) // the line break
	}
	return nil
}

// end writes the rest of the frame and gives the document.
func (f *frame) end() []byte {
	f.out.Write(f.rest)
	return f.out.Bytes()
}
