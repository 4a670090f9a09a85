// SPDX-License-Identifier: Apache-2.0

package keyless

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
)

const (
	subject = "builder@example.com"
	issuer  = "https://issuer.example"
)

// token is what an issuer would sign: Fulcio's clients read the claims, Fulcio the signature.
var token = "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"1","email":"`+subject+`","email_verified":true,"iss":"`+issuer+`"}`)) + ".c2ln"

// instance is a sigstore instance: Fulcio and Rekor over HTTP, with the authority and
// the log in memory that sigstore-go has for tests.
type instance struct {
	*ca.VirtualSigstore
	authority *root.FulcioCertificateAuthority
	key       crypto.Signer // of the intermediate certificate
	leaf      *x509.Certificate
	url       string
}

func (i *instance) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return []root.CertificateAuthority{i.authority}
}

// withoutCTLogs is the trust in an instance whose certificates have no proof of their log.
type withoutCTLogs struct{ root.TrustedMaterial }

func (withoutCTLogs) CTLogs() map[string]*root.TransparencyLog { return nil }

func sigstore(t *testing.T) *instance {
	t.Helper()
	i := &instance{}
	var err error
	if i.VirtualSigstore, err = ca.NewVirtualSigstore(); err != nil {
		t.Fatal(err)
	}
	top, topKey, err := ca.GenerateRootCa()
	if err != nil {
		t.Fatal(err)
	}
	middle, key, err := ca.GenerateFulcioIntermediate(top, topKey)
	if err != nil {
		t.Fatal(err)
	}
	i.key = key
	i.authority = &root.FulcioCertificateAuthority{Root: top, Intermediates: []*x509.Certificate{middle},
		ValidityPeriodStart: time.Now().Add(-time.Hour), ValidityPeriodEnd: time.Now().Add(time.Hour)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/signingCert", func(w http.ResponseWriter, r *http.Request) { answer(t, w, r, i.certify) })
	mux.HandleFunc("POST /api/v1/log/entries", func(w http.ResponseWriter, r *http.Request) { answer(t, w, r, i.log) })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	i.url = s.URL
	return i
}

func (i *instance) options() Options {
	return Options{Fulcio: i.url, Rekor: i.url, Root: withoutCTLogs{i}}
}

func (i *instance) signer(t *testing.T) *Signer {
	t.Helper()
	s, err := NewSigner(context.Background(), token, i.options())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func answer(t *testing.T, w http.ResponseWriter, r *http.Request, f func(http.ResponseWriter, *http.Request) (any, int, error)) {
	v, status, err := f(w, r)
	if err != nil {
		t.Error(err)
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// certify is Fulcio: who has the token and the key gets a certificate.
func (i *instance) certify(_ http.ResponseWriter, r *http.Request) (any, int, error) {
	if r.Header.Get("Authorization") != "Bearer "+token {
		return map[string]string{"message": "the token is not valid"}, http.StatusUnauthorized, nil
	}
	var request struct {
		PublicKeyRequest struct {
			PublicKey         struct{ Content string }
			ProofOfPossession []byte
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		return nil, 0, err
	}
	block, _ := pem.Decode([]byte(request.PublicKeyRequest.PublicKey.Content))
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, 0, err
	}
	sum := sha256.Sum256([]byte(subject))
	if !ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), sum[:], request.PublicKeyRequest.ProofOfPossession) {
		return nil, 0, errors.New("no proof that the key is the caller's")
	}
	i.leaf, err = ca.GenerateLeafCert(subject, issuer, time.Now(), publicOnly{pub}, i.authority.Intermediates[0], i.key)
	if err != nil {
		return nil, 0, err
	}
	chain := []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.leaf.Raw}))}
	return map[string]any{"signedCertificateEmbeddedSct": map[string]any{"chain": map[string]any{"certificates": chain}}}, http.StatusOK, nil
}

// publicOnly is a key as GenerateLeafCert wants it, which asks for the public part alone.
type publicOnly struct{ public crypto.PublicKey }

func (k publicOnly) Public() crypto.PublicKey { return k.public }
func (k publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// log is Rekor, version 1.
func (i *instance) log(w http.ResponseWriter, r *http.Request) (any, int, error) {
	var entry struct {
		Kind string
		Spec struct {
			ProposedContent struct{ Envelope string }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&entry); err != nil {
		return nil, 0, err
	}
	var envelope dsse.Envelope
	if err := json.Unmarshal([]byte(entry.Spec.ProposedContent.Envelope), &envelope); err != nil {
		return nil, 0, err
	}
	sig, err := base64.StdEncoding.DecodeString(envelope.Signatures[0].Sig)
	if err != nil {
		return nil, 0, err
	}
	at := time.Now().Add(time.Second).Unix() // when the certificate is valid
	logged, err := i.GenerateTlogEntry(i.leaf, &envelope, sig, at, true)
	if err != nil {
		return nil, 0, err
	}
	e := logged.TransparencyLogEntry()
	body, id := base64.StdEncoding.EncodeToString(e.CanonicalizedBody), hex.EncodeToString(e.LogId.KeyId)
	promise, err := i.RekorSignPayload(tlog.RekorPayload{Body: body, IntegratedTime: at, LogIndex: e.LogIndex, LogID: id})
	if err != nil {
		return nil, 0, err
	}
	const uuid = "24296fb24b8ad77a0000000000000000000000000000000000000000000000000000000000000000"
	w.Header().Set("ETag", uuid)
	return map[string]any{uuid: map[string]any{
		"body": body, "integratedTime": at, "logID": id, "logIndex": e.LogIndex,
		"verification": map[string]any{
			"signedEntryTimestamp": promise,
			"inclusionProof": map[string]any{
				"checkpoint": e.InclusionProof.Checkpoint.Envelope, "hashes": []string{}, "logIndex": e.InclusionProof.LogIndex,
				"rootHash": hex.EncodeToString(e.InclusionProof.RootHash), "treeSize": e.InclusionProof.TreeSize,
			},
		},
	}}, http.StatusCreated, nil
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
	v := sigstore(t)
	b := blessing(t)
	artifacts, err := attest.Make(ctx, b, v.signer(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := attest.Dir(t.TempDir())
	if err := attest.Push(ctx, dir, artifacts); err != nil {
		t.Fatal(err)
	}
	other := sigstore(t)
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
	v := sigstore(t)
	subjectDigest := blessing(t).Image.Digest
	raw, err := v.signer(t).Bundle(context.Background(), []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"`+subjectDigest.Hex+`"}}],"predicateType":"https://example.com/p","predicate":{"a":1}}`))
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

// TestRootFromFile writes the trust in an instance the way its operators hand it out.
func TestRootFromFile(t *testing.T) {
	v := sigstore(t)
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, v.FulcioCertificateAuthorities(), nil, nil, v.RekorLogs())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := r.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "root.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	material, err := Root(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewVerifier(material, Identity{Subject: subject, Issuer: issuer}); err != nil {
		t.Error(err)
	}
	if got := material.FulcioCertificateAuthorities(); len(got) != 1 {
		t.Errorf("%d authorities", len(got))
	}
	if _, err := Root(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("a root that is not there was read")
	}
}

func TestFulcioRefuses(t *testing.T) {
	v := sigstore(t)
	other := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"1","email":"x@example.com","email_verified":true}`)) + ".c2ln"
	for token, want := range map[string]string{other: "the token is not valid", "": "IDToken", "x": "identity token"} {
		if _, err := NewSigner(context.Background(), token, v.options()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("token %q: error %v, want %s", token, err, want)
		}
	}
}

func TestVerifierWantsBothParts(t *testing.T) {
	v := sigstore(t)
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
