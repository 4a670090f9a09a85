// SPDX-License-Identifier: Apache-2.0

package bless

// The scan of a layer: what each entry is, the digests of each file, and which
// of them are to be signed.

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sbom-bless/sbom-bless/internal/code"
	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// layerScan is the xattr.Handler of one layer.
type layerScan struct {
	*run
	ctx     context.Context
	decoded *decodeQueue
	waiting *waitQueue
	scanner *xattr.Scanner
	files   []tree.File
	stats   LayerStats
	meter   meter
	edits   atomic.Int64 // entries that change
	signing sync.WaitGroup
	signed  atomic.Int64 // files that got new attributes

	carried bool // the source has records of ours already

	held    []*block   // not yet passed on: a header may begin in them
	memory  int64      // of held
	begun   []*pending // files whose headers begin in held, in order
	content content    // of the file at hand
	open    *pending   // the file at hand, unless it was hashed ahead
}

// scan takes the decoded blocks to the end.
func (s *layerScan) scan() error {
	defer s.waiting.stop()
	for {
		b, err := s.decoded.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		s.held = append(s.held, b)
		s.memory += b.memory()
		if err := s.meter.unpacked(b.end()); err != nil {
			return err
		}
		if _, err := s.scanner.Write(b.data); err != nil {
			return err
		}
		s.passOn(s.scanner.Next())
		if err := s.bound(); err != nil {
			return err
		}
	}
	if err := s.scanner.Close(); err != nil {
		return err
	}
	s.passOn(1 << 62)
	return nil
}

// bound keeps what waits within its bounds, between two blocks.
func (s *layerScan) bound() error {
	if err := s.meter.held(s.memory); err != nil {
		return err
	}
	if s.open == nil {
		s.waiting.room()
		return nil
	}
	if !s.waiting.full() {
		return nil
	}
	if err := s.hashAhead(); err != nil {
		return fmt.Errorf("%s: %w", tree.Show(s.open.entry.Name), err)
	}
	s.finish()
	s.open = nil
	return nil
}

// passOn gives the held blocks that end at or before safe to assemble, each
// with the files that begin in it.
func (s *layerScan) passOn(safe int64) {
	for len(s.held) > 0 && s.held[0].end() <= safe {
		b := waitingBlock{block: s.held[0]}
		n := 0
		for n < len(s.begun) && s.begun[n].entry.Off < b.end() {
			n++
		}
		b.files = s.begun[:n:n]
		s.begun = s.begun[n:]
		s.held = s.held[1:]
		s.memory -= b.memory()
		s.waiting.push(b)
	}
}

// Entry takes the next entry's header.
func (s *layerScan) Entry(e *xattr.Entry) error {
	for name := range e.Xattrs {
		s.carried = s.carried || ours(name)
	}
	f, err := fileOf(e)
	if err == nil {
		err = s.meter.entry(&s.stats, e, &f)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", tree.Show(e.Name), err)
	}
	s.files = append(s.files, f)
	if !f.Regular() || tree.IsWhiteout(f.Name) {
		p, err := s.others(e)
		if err != nil {
			return fmt.Errorf("%s: %w", tree.Show(e.Name), err)
		}
		if p != nil {
			s.begun = append(s.begun, p)
		}
		return nil
	}
	p := &pending{entry: e, done: make(chan struct{})}
	s.begun = append(s.begun, p)
	s.content.reset(s.hash, s.sha1)
	s.passOn(e.Off)
	s.waiting.room()
	s.open = p
	return nil
}

// Content takes a piece of the file at hand, holes as zeros.
func (s *layerScan) Content(p []byte) error {
	if s.open != nil {
		s.content.write(p)
	}
	return nil
}

// End tells that the file at hand is complete.
func (s *layerScan) End() error {
	if s.open != nil {
		s.finish()
		s.open = nil
	}
	return nil
}

// finish has the file at hand signed.
func (s *layerScan) finish() {
	f := &s.files[len(s.files)-1]
	s.content.fill(f)
	f.Code, f.Memory = s.content.isCode(f), memoryOf(s.content.head, f.Size)
	s.stats.count(f)
	s.sign(s.open, *f)
}

// hashAhead hashes the rest of the file at hand, while the blocks from which it is
// read stay where they are.
func (s *layerScan) hashAhead() error {
	rest := &restOfFile{content: &s.content}
	scanner := s.scanner.Fork(rest)
	return s.decoded.peek(func(blocks []*block, dec decoder) error {
		for _, b := range blocks {
			if _, err := scanner.Write(b.data); err != nil || rest.done {
				return rest.result(err)
			}
		}
		for {
			if err := s.ctx.Err(); err != nil {
				return err
			}
			b, err := dec.next()
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return err
			}
			err = s.meter.unpacked(b.end())
			if err == nil {
				_, err = scanner.Write(b.data)
			}
			b.release()
			if err != nil || rest.done {
				return rest.result(err)
			}
		}
	})
}

// restOfFile hashes what is left of one file, and then stops the scanner.
type restOfFile struct {
	content *content
	done    bool
}

func (r *restOfFile) Entry(*xattr.Entry) error { return errStopped }

func (r *restOfFile) Content(p []byte) error { r.content.write(p); return nil }

func (r *restOfFile) End() error { r.done = true; return errStopped }

func (r *restOfFile) result(err error) error {
	if r.done {
		return nil
	}
	return err
}

// fileOf turns an entry into its record.
func fileOf(e *xattr.Entry) (tree.File, error) {
	name, err := tree.Clean(e.Name)
	if err != nil {
		return tree.File{}, err
	}
	f := tree.File{Name: name, Type: e.Type, Mode: uint32(e.Mode) & 0o7777, UID: int(e.UID), GID: int(e.GID), ModTime: e.ModTime}
	switch e.Type {
	case '0':
		f.Size = e.Size
	case '1':
		if f.Link, err = tree.Clean(e.Linkname); err != nil {
			return f, fmt.Errorf("hard link to %s: %w", tree.Show(e.Linkname), err)
		}
	case '2':
		f.Link = e.Linkname
		if err := tree.CheckTarget(f.Link); err != nil {
			return f, err
		}
	}
	for name, value := range e.Xattrs {
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			return f, fmt.Errorf("has the attribute %s, with which a layer could redirect the overlay filesystem", tree.Show(name))
		}
		if !ours(name) {
			if f.Xattrs == nil {
				f.Xattrs = map[string][]byte{}
			}
			f.Xattrs[name] = value
		}
	}
	return f, nil
}

// ---- content ----

// content is what is learned from a file's bytes.
type content struct {
	main   hash.Hash // what goes into security.ima
	kind   xattr.Hash
	sha256 hash.Hash // where main is another one
	sha1   hash.Hash // where an SBOM needs it
	head   []byte
}

// reset makes c ready for the next file.
func (c *content) reset(h xattr.Hash, withSHA1 bool) {
	c.head = c.head[:0]
	if c.kind != h {
		c.main, c.kind, c.sha256 = h.New(), h, nil
		if h != xattr.SHA256 {
			c.sha256 = sha256.New()
		}
	}
	if withSHA1 && c.sha1 == nil {
		c.sha1 = sha1.New()
	}
	for _, h := range []hash.Hash{c.main, c.sha256, c.sha1} {
		if h != nil {
			h.Reset()
		}
	}
}

func (c *content) write(p []byte) {
	c.sniff(p)
	c.main.Write(p)
	if c.sha256 != nil {
		c.sha256.Write(p)
	}
	if c.sha1 != nil {
		c.sha1.Write(p)
	}
}

// headSize is how much of a file is kept at hand. Linkers put the program headers of ELF
// files into it, right behind the file header.
const headSize = 4096

// sniff keeps the first bytes, which tell code, and what it asks for.
func (c *content) sniff(p []byte) {
	if n := headSize - len(c.head); n > 0 {
		c.head = append(c.head, p[:min(n, len(p))]...)
	}
}

// fill records the digests in f.
func (c *content) fill(f *tree.File) {
	if c.sha256 == nil {
		f.SHA256 = c.main.Sum(nil)
	} else {
		f.SHA256, f.Digest = c.sha256.Sum(nil), c.main.Sum(nil)
	}
	if c.sha1 != nil {
		f.SHA1 = c.sha1.Sum(nil)
	}
}

// isCode tells whether f counts as code: an x bit, ELF, "#!", or a known
// suffix, also with a version behind it (libc.so.6).
func (c *content) isCode(f *tree.File) bool {
	if f.Mode&0o111 != 0 || bytes.HasPrefix(c.head, []byte("\x7fELF")) || bytes.HasPrefix(c.head, []byte("#!")) {
		return true
	}
	base := path.Base(f.Name)
	return code.IsSuffix(path.Ext(base)) || strings.Contains(strings.ToLower(base), ".so.")
}
