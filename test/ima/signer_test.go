// SPDX-License-Identifier: Apache-2.0

package ima

import (
	"archive/tar"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"math/big"
	"testing"
	"time"
)

type signer struct {
	kind string
	der  []byte
	key  crypto.Signer
	ski  []byte
}

func newSigner(t *testing.T, kind string) *signer {
	s := &signer{kind: kind}
	switch kind {
	case "rsa-2048":
		s.key, _ = rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-4096":
		s.key, _ = rsa.GenerateKey(rand.Reader, 4096)
	case "ecdsa-p256":
		s.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		s.key, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	pub, _ := x509.MarshalPKIXPublicKey(s.key.Public())
	h := sha1.Sum(pub)
	s.ski = h[:]
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), SubjectKeyId: s.ski, KeyUsage: x509.KeyUsageDigitalSignature}
	var err error
	s.der, err = x509.CreateCertificate(rand.Reader, c, c, s.key.Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *signer) ima(t *testing.T, h crypto.Hash, content []byte, version int) []byte {
	hh := h.New()
	hh.Write(content)
	d := hh.Sum(nil)
	algo := map[crypto.Hash]byte{crypto.SHA256: 4, crypto.SHA384: 5, crypto.SHA512: 6}[h]
	if version == 3 {
		hh.Reset()
		hh.Write([]byte{3, algo})
		hh.Write(d)
		d = hh.Sum(nil)
	}
	sig, err := s.key.Sign(rand.Reader, d, h)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{3, byte(version), algo}
	b = append(b, s.ski[len(s.ski)-4:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(sig)))
	return append(b, sig...)
}

func bless(t *testing.T, src []byte, set func([]byte) []byte) []byte {
	var out bytes.Buffer
	r, w := tar.NewReader(bytes.NewReader(src)), tar.NewWriter(&out)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		b, _ := io.ReadAll(r)
		h.Format = tar.FormatPAX
		if set != nil {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.ima": string(set(b))}
		}
		w.WriteHeader(h)
		w.Write(b)
	}
	w.Close()
	return out.Bytes()
}

func (s *signer) blessWithEVM(t *testing.T, h tar.Header, content []byte, attrs map[string][]byte) []byte {
	ima := s.ima(t, crypto.SHA256, content, 2)
	hh := crypto.SHA256.New()
	hh.Write(ima)
	hh.Write(attrs["security.capability"])
	var m [24]byte
	binary.LittleEndian.PutUint32(m[12:], uint32(h.Uid))
	binary.LittleEndian.PutUint32(m[16:], uint32(h.Gid))
	binary.LittleEndian.PutUint16(m[20:], uint16(h.Mode)|0o100000)
	hh.Write(m[:])
	sig, err := s.key.Sign(rand.Reader, hh.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{5, 2, 4}
	b = append(b, s.ski[len(s.ski)-4:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(sig)))
	b = append(b, sig...)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	h.Size = int64(len(content))
	h.PAXRecords = map[string]string{"SCHILY.xattr.security.ima": string(ima), "SCHILY.xattr.security.evm": string(b)}
	for k, v := range attrs {
		h.PAXRecords["SCHILY.xattr."+k] = string(v)
	}
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	w.Write(content)
	w.Close()
	return out.Bytes()
}
