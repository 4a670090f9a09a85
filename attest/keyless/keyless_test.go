// SPDX-License-Identifier: Apache-2.0

package keyless

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
)

const (
	subject = "builder@example.com"
	issuer  = "https://issuer.example"
)

// keypair is a sign.Keypair of a key that the test authority certified.
type keypair struct{ *ecdsa.PrivateKey }

func (k keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}
func (k keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}
func (k keypair) GetHint() []byte                { return nil }
func (k keypair) GetKeyAlgorithm() string        { return "ECDSA" }
func (k keypair) GetPublicKey() crypto.PublicKey { return k.Public() }
func (k keypair) GetPublicKeyPem() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err
}
func (k keypair) SignData(_ context.Context, data []byte) (sig, digest []byte, err error) {
	sum := sha256.Sum256(data)
	sig, err = ecdsa.SignASN1(rand.Reader, k.PrivateKey, sum[:])
	return sig, sum[:], err
}

// log is the log of sigstore-go's authority in memory.
type log struct {
	*ca.VirtualSigstore
	certificate *x509.Certificate
}

func (l log) GetTransparencyLogEntry(_ context.Context, _ []byte, b *protobundle.Bundle) error {
	e := b.GetDsseEnvelope()
	sig := e.Signatures[0].Sig
	entry, err := l.GenerateTlogEntry(l.certificate, &dsse.Envelope{
		PayloadType: e.PayloadType,
		Payload:     base64.StdEncoding.EncodeToString(e.Payload),
		Signatures:  []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(sig)}},
	}, sig, time.Now().Add(time.Minute).Unix(), true)
	if err != nil {
		return err
	}
	logged := entry.TransparencyLogEntry()
	logged.KindVersion = &protorekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
	set, err := l.RekorSignPayload(tlog.RekorPayload{
		Body:           base64.StdEncoding.EncodeToString(logged.CanonicalizedBody),
		IntegratedTime: logged.IntegratedTime, LogIndex: logged.LogIndex, LogID: hex.EncodeToString(logged.LogId.KeyId),
	})
	if err != nil {
		return err
	}
	logged.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: set}
	b.VerificationMaterial.TlogEntries = append(b.VerificationMaterial.TlogEntries, logged)
	return nil
}

// withoutCTLogs is the authority's trust, whose certificates have no proof of their log.
type withoutCTLogs struct{ root.TrustedMaterial }

func (withoutCTLogs) CTLogs() map[string]*root.TransparencyLog { return nil }

func sigstore(t *testing.T) (*ca.VirtualSigstore, *Signer) {
	t.Helper()
	v, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := v.GenerateLeafCert(subject, issuer)
	if err != nil {
		t.Fatal(err)
	}
	return v, &Signer{keypair: keypair{key.(*ecdsa.PrivateKey)}, certificate: certificate(cert.Raw), logs: []sign.Transparency{log{v, cert}}}
}

func blessing(t *testing.T) attest.Blessing {
	t.Helper()
	list, err := filelist.Encode([]filelist.File{{Path: "a", Package: -1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return attest.Blessing{
		Image:    v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 1, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}},
		Source:   attest.Source{Name: "source", Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("cd", 32)}},
		Counts:   attest.Counts{Files: 1},
		SBOMs:    []attest.SBOM{{MediaType: attest.MediaTypeSPDX, Raw: []byte(`{"spdxVersion":"SPDX-2.3"}`)}},
		FileList: list,
	}
}

func TestIdentityIsTrusted(t *testing.T) {
	ctx := context.Background()
	v, signer := sigstore(t)
	b := blessing(t)
	artifacts, err := attest.Make(ctx, b, signer)
	if err != nil {
		t.Fatal(err)
	}
	dir := attest.Dir(t.TempDir())
	if err := attest.Push(ctx, dir, artifacts); err != nil {
		t.Fatal(err)
	}
	other, _ := sigstore(t)
	for name, c := range map[string]struct {
		material root.TrustedMaterial
		id       Identity
		want     string
	}{
		"the identity":               {withoutCTLogs{v}, Identity{Subject: subject, Issuer: issuer}, ""},
		"the identity by expression": {withoutCTLogs{v}, Identity{SubjectRegexp: "^builder@", IssuerRegexp: `^https://issuer\.example$`}, ""},
		"another subject":            {withoutCTLogs{v}, Identity{Subject: "other@example.com", Issuer: issuer}, "no matching CertificateIdentity"},
		"another issuer":             {withoutCTLogs{v}, Identity{Subject: subject, Issuer: "https://other.example"}, "no matching CertificateIdentity"},
		"another instance":           {withoutCTLogs{other}, Identity{Subject: subject, Issuer: issuer}, "no blessing"},
		"proof of the certificate":   {v, Identity{Subject: subject, Issuer: issuer}, "timestamp"},
	} {
		t.Run(name, func(t *testing.T) {
			verifier, err := NewVerifier(c.material, c.id)
			if err != nil {
				t.Fatal(err)
			}
			got, err := attest.Verify(ctx, dir, b.Image.Digest, attest.Trust{Keyless: verifier.Verify})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %s", err, c.want)
				}
				return
			}
			if err != nil || len(got.Attestations) != 3 || len(got.Rejected) > 0 {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	if _, err := attest.Verify(ctx, dir, b.Image.Digest, attest.Trust{}); !errors.Is(err, attest.ErrUntrusted) {
		t.Errorf("nobody is trusted: %v", err)
	}
}

func TestAlteredBundleIsRefused(t *testing.T) {
	v, signer := sigstore(t)
	subjectDigest := blessing(t).Image.Digest
	raw, err := signer.Bundle(context.Background(), []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"`+subjectDigest.Hex+`"}}],"predicateType":"https://example.com/p","predicate":{"a":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := NewVerifier(withoutCTLogs{v}, Identity{Subject: subject, Issuer: issuer})
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(raw, subjectDigest); err != nil {
		t.Errorf("as made: %v", err)
	}
	if err := verifier.Verify(raw, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("00", 32)}); err == nil {
		t.Error("taken for another image")
	}
	for name, edit := range map[string]func(b map[string]any){
		"statement": func(b map[string]any) {
			e := b["dsseEnvelope"].(map[string]any)
			p, _ := base64.StdEncoding.DecodeString(e["payload"].(string))
			e["payload"] = base64.StdEncoding.EncodeToString(bytes.Replace(p, []byte(`"a":1`), []byte(`"a":2`), 1))
		},
		"no log entry": func(b map[string]any) { delete(b["verificationMaterial"].(map[string]any), "tlogEntries") },
	} {
		var b map[string]any
		if err := json.Unmarshal(raw, &b); err != nil {
			t.Fatal(err)
		}
		edit(b)
		changed, _ := json.Marshal(b)
		if err := verifier.Verify(changed, subjectDigest); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestVerifierWantsBothParts(t *testing.T) {
	v, _ := sigstore(t)
	for _, id := range []Identity{{}, {Subject: subject}, {IssuerRegexp: issuer}, {Subject: subject, IssuerRegexp: "("}} {
		if _, err := NewVerifier(v, id); err == nil {
			t.Errorf("%+v taken", id)
		}
	}
}

func TestToken(t *testing.T) {
	ctx := context.Background()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "bearer secret":
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Query().Get("audience") != "sigstore" || r.URL.Query().Get("v") != "1":
			w.WriteHeader(http.StatusBadRequest)
		default:
			_, _ = w.Write([]byte(`{"count":1,"value":"the token"}`))
		}
	}))
	defer s.Close()
	for _, c := range []struct {
		name string
		env  map[string]string
		want string
		err  string
	}{
		{"set by hand", map[string]string{"SIGSTORE_ID_TOKEN": "mine", "ACTIONS_ID_TOKEN_REQUEST_URL": "x"}, "mine", ""},
		{"GitHub Actions", map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": s.URL + "/?v=1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret"}, "the token", ""},
		{"a wrong secret", map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": s.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"}, "", "403"},
		{"nothing", nil, "", "no identity token"},
	} {
		got, err := Token(ctx, func(k string) string { return c.env[k] })
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}
