// SPDX-License-Identifier: Apache-2.0

// Package jsonedit edits JSON in place: [Apply] exchanges values and keeps every other
// byte, so that fields, order and spelling that the caller does not know survive. [Marshal] writes
// values without the escapes meant for HTML, which would change what is signed.
package jsonedit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// maxDepth is more than any manifest or config of the OCI and Docker specifications has.
const maxDepth = 32

// Edit exchanges one value. [Set] makes it.
type Edit struct {
	path  []string
	value any
}

// Set is the edit that puts value at path: object keys, and array indexes in decimal. If the last
// element of the path is missing in its object, it is added. A json.RawMessage goes in byte for
// byte, any other value as json.Marshal writes it.
func Set(value any, path ...string) Edit { return Edit{path, value} }

// List is a JSON array of the elements, byte for byte.
func List(elements []json.RawMessage) json.RawMessage {
	var parts [][]byte
	for _, e := range elements {
		parts = append(parts, e)
	}
	return json.RawMessage("[" + string(bytes.Join(parts, []byte(","))) + "]")
}

// Apply applies the edits one after the other. It refuses an object with the
// same key twice, because readers differ in which of the two they believe.
func Apply(raw []byte, edits ...Edit) (_ []byte, err error) {
	if err := Check(raw); err != nil {
		return nil, err
	}
	for _, e := range edits {
		value, ok := e.value.(json.RawMessage) // as it is; Marshal would reformat it
		if !ok {
			if value, err = json.Marshal(e.value); err != nil {
				return nil, err
			}
		}
		raw, err = replace(raw, e.path, value)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", e.path, err)
		}
	}
	return raw, nil
}

// Check checks that raw is one JSON value, without duplicate keys, not
// nested too deeply, with nothing behind it.
func Check(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := strictValue(dec, 0, ""); err != nil {
		return fmt.Errorf("at byte %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("at byte %d: data after the JSON value", dec.InputOffset())
	}
	return nil
}

// freeText are the objects of manifests and configs whose keys are no field names.
var freeText = map[string]bool{"annotations": true, "Labels": true, "Volumes": true, "ExposedPorts": true}

// fold is the same for all keys that encoding/json takes for one: it compares them rune by rune as
// unicode.SimpleFold does, by which "layer\u017f" is "layers".
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, key)
}

// strictValue reads the value of key. Keys that differ in case alone are one key to
// encoding/json and two to others; only where keys are free text may they stand
// together.
func strictValue(dec *json.Decoder, depth int, key string) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	member := key // of the elements of an array: what the array is
	for dec.More() {
		if delim == '{' {
			tok, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := tok.(string)
			folded := name
			if !freeText[key] {
				folded = fold(name)
			}
			if seen[folded] {
				return fmt.Errorf("key %q stands twice in one object", name)
			}
			seen[folded] = true
			member = name
		}
		if err := strictValue(dec, depth+1, member); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// replace exchanges the value at path in raw.
func replace(raw []byte, path []string, value []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	for depth := 0; ; depth++ {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		last := depth == len(path)-1
		switch tok {
		case json.Delim('{'):
			found, err := seekKey(dec, path[depth])
			if err != nil {
				return nil, err
			}
			if !found {
				if !last {
					return nil, fmt.Errorf("no key %q", path[depth])
				}
				return addKey(raw, int(dec.InputOffset()), path[depth], value)
			}
		case json.Delim('['):
			if err := seekIndex(dec, path[depth]); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%q is not in an object or array", path[depth])
		}
		if last {
			break
		}
	}
	var old json.RawMessage
	if err := dec.Decode(&old); err != nil {
		return nil, err
	}
	end := int(dec.InputOffset())
	return splice(raw, end-len(old), end, value), nil
}

// seekKey moves dec to the value of key, or to the closing brace.
func seekKey(dec *json.Decoder, key string) (bool, error) {
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return false, err
		}
		if k == key {
			return true, nil
		}
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return false, err
		}
	}
	return false, nil
}

func seekIndex(dec *json.Decoder, index string) error {
	n, err := strconv.Atoi(index)
	if err != nil {
		return err
	}
	for i := 0; dec.More(); i++ {
		if i == n {
			return nil
		}
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return err
		}
	}
	return fmt.Errorf("no element %d", n)
}

// addKey adds a member behind the last one of the object whose last value ends
// at off.
func addKey(raw []byte, off int, key string, value []byte) ([]byte, error) {
	k, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	member := append(append(k, ':'), value...)
	if raw[off-1] != '{' {
		member = append([]byte{','}, member...)
	}
	return splice(raw, off, off, member), nil
}

func splice(raw []byte, from, to int, with []byte) []byte {
	out := make([]byte, 0, len(raw)+len(with))
	out = append(out, raw[:from]...)
	out = append(out, with...)
	return append(out, raw[to:]...)
}

// Marshal is json.Marshal without the escapes meant for HTML.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
