// SPDX-License-Identifier: Apache-2.0

package bless

// Which attributes a file gets, and the signatures in them.

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/sbom-bless/sbom-bless/tree"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// ours tells whether name is an attribute that bless writes.
func ours(name string) bool {
	return name == xattr.IMA || name == xattr.Bless || name == xattr.EVM
}

// sign has the edit for p made by a worker, waiting for one if all are busy.
func (s *layerScan) sign(p *pending, f tree.File) {
	head := bytes.Clone(s.content.head[:min(domainHead, len(s.content.head))])
	s.signing.Add(1)
	select {
	case s.workers.work <- func() { s.makeEdit(p, &f, head) }:
	case <-s.ctx.Done():
		p.err = s.ctx.Err()
		close(p.done)
		s.signing.Done()
	}
}

// makeEdit gives p the attributes of f.
func (s *layerScan) makeEdit(p *pending, f *tree.File, head []byte) {
	defer func() { close(p.done); s.signing.Done() }()
	attrs, err := s.attributes(p.entry, f, head)
	if err == nil {
		p.edit, p.set, err = p.entry.Set(attrs)
	}
	if p.err = err; err == nil && p.set {
		s.edits.Add(1)
		s.signed.Add(1)
	}
}

// others is for entries that carry no content: an attribute of ours there would
// be set on something else, or on nothing.
func (s *layerScan) others(e *xattr.Entry) (*pending, error) {
	var found []string
	for _, name := range []string{xattr.IMA, xattr.Bless, xattr.EVM} {
		if _, ok := e.Xattrs[name]; ok {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	if !s.replace {
		return nil, fmt.Errorf("has %s, though it is no regular file: it %w", found[0], ErrForeign)
	}
	p := &pending{entry: e, done: make(chan struct{})}
	close(p.done)
	var err error
	if p.edit, p.set, err = e.Set(nil); p.set {
		s.edits.Add(1)
	}
	return p, err
}

// attributes gives the attributes of ours that e is to have. What is there
// already stays when it is right; what someone else put there is refused,
// unless it is to be replaced.
func (r *run) attributes(e *xattr.Entry, f *tree.File, head []byte) (map[string][]byte, error) {
	if r.signer != nil {
		if err := otherDomain(head, f.Size); err != nil {
			return nil, err
		}
	}
	d, code := fileDigest(f, r.hash), fileDigest(f, xattr.SHA256)
	want, err := r.signatures.get(r, d, code, r.bpfFiles == BPFAll || r.bpfFiles == BPFCode && f.Code)
	if err != nil {
		return nil, err
	}
	attrs := map[string][]byte{xattr.IMA: want.ima}
	if want.bless != nil {
		attrs[xattr.Bless] = want.bless
	}
	if old := e.Xattrs[xattr.IMA]; old != nil && r.sameIMA(old, want.ima, d) {
		attrs[xattr.IMA] = old
	} else if old != nil && !r.replace && !r.mayUpgrade(old, d) {
		return nil, foreign(xattr.IMA)
	}
	if old := e.Xattrs[xattr.Bless]; old != nil && !bytes.Equal(old, want.bless) {
		switch {
		case want.bless != nil && xattr.VerifyBless(r.signer.Public(), old, code) == nil:
			attrs[xattr.Bless] = old
		case !r.replace && (r.signer == nil || xattr.VerifyBless(r.signer.Public(), old, code) != nil):
			return nil, foreign(xattr.Bless)
		}
	}
	if r.evm {
		if err := r.addEVM(e, f, attrs); err != nil {
			return nil, err
		}
	} else if e.Xattrs[xattr.EVM] != nil && !r.replace {
		return nil, foreign(xattr.EVM)
	}
	return attrs, r.checkBudget(e, attrs)
}

// domainHead is how much of a file otherDomain needs.
const domainHead = 16

// otherDomain refuses a file whose content is something else that the same key
// signs. An IMA signature of version 2 is over the bare digest of the content:
// over such a file it would pass for a signature over that.
func otherDomain(head []byte, size int64) error {
	what := ""
	switch {
	case bytes.HasPrefix(head, []byte("DSSEv1 ")):
		what = "an attestation (DSSE)"
	case bytes.HasPrefix(head, []byte("sbom-bless ")):
		what = "a statement of sbom-bless"
	case isTBSCertificate(head):
		what = "a certificate to be signed (TBSCertificate)"
	case len(head) >= 2 && head[0] == xattr.TypeSignature && xattr.Hash(head[1]).Size() > 0 && size == int64(2+xattr.Hash(head[1]).Size()):
		what = "an IMA signature of version 3 (struct ima_file_id)"
	case len(head) >= 3 && head[0] == xattr.TypeSignature && (head[1] == 2 || head[1] == 3) && xattr.Hash(head[2]).Size() > 0 && size < 4096:
		what = "an EVM signature (security.ima and struct h_misc)"
	default:
		return nil
	}
	return fmt.Errorf("its content has the form of %s: a signature over it could be passed off as one\nhint: no program needs such a file; take it out of the image", what)
}

// isTBSCertificate knows the start of an X.509 version 3 certificate as it is
// signed: a DER SEQUENCE that begins with [0] INTEGER 2.
func isTBSCertificate(head []byte) bool {
	if len(head) < 2 || head[0] != 0x30 {
		return false
	}
	at := 2
	if head[1]&0x80 != 0 {
		at += int(head[1] & 0x7f)
	}
	return at < len(head) && bytes.HasPrefix(head[at:], []byte{0xa0, 3, 2, 1, 2})
}

// fileDigest is the digest of f in the algorithm h, which is SHA-256 or that of
// security.ima.
func fileDigest(f *tree.File, h xattr.Hash) xattr.Digest {
	if h != xattr.SHA256 && f.Digest != nil {
		return xattr.Digest{Hash: h, Sum: f.Digest}
	}
	return xattr.Digest{Hash: xattr.SHA256, Sum: f.SHA256}
}

func foreign(name string) error {
	return fmt.Errorf("has %s already, and it %w", name, ErrForeign)
}

// sameIMA tells whether the value old serves as well as want: equal, or a
// signature in the same format by the same key.
func (r *run) sameIMA(old, want []byte, d xattr.Digest) bool {
	if bytes.Equal(old, want) {
		return true
	}
	if r.signer == nil {
		return false
	}
	v, err := xattr.Parse(old)
	return err == nil && v.Type == xattr.TypeSignature && int(v.Version) == r.imaVersion && v.Hash == r.hash &&
		v.Verify(r.signer.Public(), d) == nil
}

// mayUpgrade tells whether old says nothing that want would contradict: the
// right digest without a signature, or a right signature by the same key in
// another format.
func (r *run) mayUpgrade(old []byte, d xattr.Digest) bool {
	v, err := xattr.Parse(old)
	if err != nil || v.Hash != d.Hash {
		return false
	}
	if v.Type == xattr.TypeDigest {
		return bytes.Equal(v.Sum, d.Sum)
	}
	return r.signer != nil && v.Verify(r.signer.Public(), d) == nil
}

// addEVM adds the portable signature over owner, mode and attributes.
func (r *run) addEVM(e *xattr.Entry, f *tree.File, attrs map[string][]byte) error {
	protected := map[string][]byte{xattr.IMA: attrs[xattr.IMA]}
	for name, value := range f.Xattrs {
		protected[name] = value
	}
	uid, gid, mode := uint32(f.UID), uint32(f.GID), uint16(f.Mode)|modeRegular
	if old := e.Xattrs[xattr.EVM]; old != nil {
		if xattr.VerifyEVM(r.signer.Public(), old, protected, uid, gid, mode) == nil {
			attrs[xattr.EVM] = old
			return nil
		}
		if !r.replace {
			return foreign(xattr.EVM)
		}
	}
	sig, err := r.signer.EVM(protected, uid, gid, mode)
	attrs[xattr.EVM] = sig
	return err
}

// modeRegular is S_IFREG of stat(2), which is part of what EVM signs.
const modeRegular = 0o100000

// checkBudget holds the attributes of a file to what filesystems can store:
// ext4 keeps them in one block of 4 KiB, 16 bytes and the name for each
// (fs/ext4/xattr.h, struct ext4_xattr_entry).
func (r *run) checkBudget(e *xattr.Entry, attrs map[string][]byte) error {
	n := int64(32)
	for name, value := range attrs {
		n += 16 + int64(len(name)+len(value))
	}
	for name, value := range e.Xattrs {
		if !ours(name) {
			n += 16 + int64(len(name)+len(value))
		}
	}
	if n > r.limits.XattrBytes {
		return exceeds("XattrBytes", "its attributes take %d bytes, more than the %d that ext4 can be trusted to store", n, r.limits.XattrBytes)
	}
	return nil
}

// ---- signatures, made once per digest ----

type signatures struct{ ima, bless []byte }

// signatureCache remembers the signatures of the digests seen last, in two
// generations.
type signatureCache struct {
	mu        sync.Mutex
	cur, prev map[signatureKey]signatures
}

type signatureKey struct {
	sum   [64]byte
	bless bool
}

const signatureGeneration = 8192

// get signs d for security.ima, and with bless the SHA-256 digest of the same
// content for security.bpf.bless: that is what the kernel gives an eBPF program.
func (c *signatureCache) get(r *run, d, code xattr.Digest, bless bool) (signatures, error) {
	if r.signer == nil {
		return signatures{ima: d.IMA()}, nil
	}
	key := signatureKey{bless: bless}
	copy(key.sum[:], d.Sum)
	c.mu.Lock()
	s, ok := c.cur[key]
	if !ok {
		s, ok = c.prev[key]
	}
	c.mu.Unlock()
	if ok {
		return s, nil
	}
	var err error
	if s.ima, err = r.signer.IMA(d, r.imaVersion); err != nil {
		return s, err
	}
	if bless {
		if s.bless, err = r.signer.Bless(code); err != nil {
			return s, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cur) >= signatureGeneration || c.cur == nil {
		c.prev, c.cur = c.cur, make(map[signatureKey]signatures)
	}
	c.cur[key] = s
	return s, nil
}
