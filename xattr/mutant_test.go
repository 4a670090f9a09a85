// SPDX-License-Identifier: Apache-2.0

package xattr_test

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Archives of the corpus with a few bytes of their headers changed, the checksums
// made right again: whatever the scanner then still accepts, the four readers
// must read as it does.
func TestMutantsAreReadAlikeOrRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	all := corpus(t)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(name string) bool { return len(all[name]) < 1024 || len(all[name]) > 40000 })
	random := rand.New(rand.NewPCG(1, 2))
	file := filepath.Join(t.TempDir(), "archive.tar")
	accepted := 0
	for range 300 {
		name := names[random.IntN(len(names))]
		mutant := mutate(random, all[name])
		ours, err := bounded(mutant)
		if err != nil {
			continue
		}
		accepted++
		if err := os.WriteFile(file, mutant, 0o600); err != nil {
			t.Fatal(err)
		}
		for reader, read := range readers {
			theirs, err := read(t, file)
			if err == nil {
				err = disagree(reader, content(theirs), content(ours))
			}
			if err != nil && !notOfUse(err) {
				t.Errorf("%s, changed to\n%q\n%s: %v", name, mutant[:min(len(mutant), 2048)], reader, err)
			}
		}
	}
	if accepted < 50 {
		t.Errorf("only %d mutants were accepted: they show nothing", accepted)
	}
}

// content leaves what an entry is; a changed owner or time may be beyond what a
// reader can show.
func content(all []seen) []seen {
	for i, s := range all {
		all[i] = seen{Name: clean(strings.TrimLeft(s.Name, " /")), Type: s.Type, Size: s.Size, Sum: s.Sum}
	}
	return all
}

// notOfUse tells of errors in showing what was read.
func notOfUse(err error) bool {
	for _, s := range []string{
		"converted",          // bsdtar: a name that is not in the locale's character set
		"parsing time",       // GNU tar shows years that Go does not read
		"end of file header", // tarfile wants one entry at least
	} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

// mutate changes one to three bytes of an archive's header blocks.
func mutate(random *rand.Rand, archive []byte) []byte {
	b := bytes.Clone(archive)
	var headers []int
	for off := 0; off+512 <= len(b); off += 512 {
		if bytes.HasPrefix(b[off+257:], []byte("ustar")) {
			headers = append(headers, off)
		}
	}
	if len(headers) == 0 {
		return b
	}
	fields := []int{0, 100, 108, 116, 124, 136, 157, 257, 329, 345, 386, 476, 483, 512} // each ends before the next
	for range 1 + random.IntN(3) {
		off := headers[random.IntN(len(headers))]
		if random.IntN(4) == 0 {
			b[off+156] = "\x00012567SxLKg"[random.IntN(12)]
			continue
		}
		i := random.IntN(len(fields) - 1)
		at := off + fields[i] + random.IntN(fields[i+1]-fields[i])
		b[at] = "\x00 0716./\n\x80\xffa"[random.IntN(12)]
	}
	return summedUp(b)
}
