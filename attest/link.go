// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/sbom-bless/sbom-bless/internal/digest"
	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
)

// MediaTypeLink is a classic in-toto link in a DSSE envelope.
const MediaTypeLink = "application/vnd.in-toto.link+dsse"

// StepName is the name of the link's step, for layouts.
const StepName = "bless"

// link signs the classic in-toto link (in-toto specification 1.0, 4.4) of the
// step "bless": materials are the source, products the blessed image, its SBOMs and
// the file list. The name is the one that in-toto looks for. A layout
// names the key by KeyID.
//
// in-toto takes RSA signatures in the form of RSASSA-PSS alone. An RSA key that is not in memory may not
// be able to make them; then there is no link, and the answer is nil.
func (b *Blessing) link(s *Signer) (link []byte, name string, err error) {
	id, err := KeyID(s.publicDER)
	if err != nil {
		return nil, "", err
	}
	sum := func(h v1.Hash) in_toto.HashObj { return in_toto.HashObj{h.Algorithm: h.Hex} }
	l := in_toto.Link{
		Type:        "link",
		Name:        StepName,
		Materials:   map[string]in_toto.HashObj{artifactName(b.Source.Name, "source"): sum(b.Source.Digest)},
		Products:    map[string]in_toto.HashObj{artifactName(b.Name, "image"): sum(b.Image.Digest), "files.zst": sum(digest.Of(b.FileList))},
		ByProducts:  map[string]any{},
		Command:     []string{},
		Environment: map[string]any{},
	}
	for _, sbom := range b.SBOMs {
		l.Products[sbomFormats[sbom.MediaType].file] = sum(digest.Of(sbom.Raw))
	}
	payload, err := cjson.EncodeCanonical(l)
	if err != nil {
		return nil, "", err
	}
	pae := dsse.PAE(payloadType, payload)
	var sig []byte
	switch key := s.key.(type) {
	case *rsa.PrivateKey:
		// The salt is derived from the message, so that the signature is deterministic.
		h := crypto.SHA256.New()
		h.Write(pae)
		salt := sha512.Sum512(append([]byte("sbom-bless PSS salt\x00"), h.Sum(nil)...))
		sig, err = rsa.SignPSS(bytes.NewReader(salt[:]), key, crypto.SHA256, h.Sum(nil), &rsa.PSSOptions{SaltLength: 32})
	default:
		pub, ok := s.key.Public().(*ecdsa.PublicKey)
		if !ok {
			return nil, "", nil
		}
		hash := crypto.SHA256
		if pub.Curve == elliptic.P384() {
			hash = crypto.SHA384
		}
		sig, err = sign(s.key, pae, hash)
	}
	if err != nil {
		return nil, "", err
	}
	env, err := jsonedit.Marshal(Envelope{Payload: payload, PayloadType: payloadType, Signatures: []Signature{{KeyID: id, Sig: sig}}})
	return env, fmt.Sprintf(in_toto.LinkNameFormat, StepName, id), err
}

// KeyID is the id that in-toto layouts know a public key (PKIX DER) by.
func KeyID(publicDER []byte) (string, error) {
	var k in_toto.Key
	if err := k.LoadKeyReaderDefaults(bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}))); err != nil {
		return "", fmt.Errorf("in-toto key id: %w", err)
	}
	if len(k.KeyID) < 8 {
		return "", errors.New("in-toto key id: too short")
	}
	return k.KeyID, nil
}

func artifactName(name, without string) string {
	if name == "" {
		return without
	}
	return name
}
