// SPDX-License-Identifier: Apache-2.0

// Package keylesstest runs a sigstore instance for tests: Fulcio and Rekor over HTTP, in front of the
// authority and the log in memory that sigstore-go has.
package keylesstest

import (
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
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
)

// Who is certified, to whoever has the Token.
const (
	Subject = "builder@example.com"
	Issuer  = "https://issuer.example"
)

// Token is what an issuer would sign: Fulcio's clients read the claims, Fulcio the signature.
var Token = "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"1","email":"`+Subject+`","email_verified":true,"iss":"`+Issuer+`"}`)) + ".c2ln"

// Instance is a sigstore instance: Fulcio and Rekor over HTTP, with the authority and
// the log in memory that sigstore-go has for tests.
type Instance struct {
	*ca.VirtualSigstore
	authority *root.FulcioCertificateAuthority
	key       crypto.Signer // of the intermediate certificate
	leaf      *x509.Certificate
	// URL is where Fulcio and Rekor are.
	URL string
}

// FulcioCertificateAuthorities is that of root.TrustedMaterial.
func (i *Instance) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return []root.CertificateAuthority{i.authority}
}

// Material is the trust in the instance.
func (i *Instance) Material() root.TrustedMaterial { return withoutCTLogs{i} }

// RootFile is the same in a file, as operators of an instance hand it out.
func (i *Instance) RootFile(t *testing.T) string {
	t.Helper()
	logs := map[string]*root.TransparencyLog{}
	for id, l := range i.RekorLogs() {
		whole := *l
		sum, err := hex.DecodeString(id) // sigstore-go's own has the text as ID
		if err != nil {
			t.Fatal(err)
		}
		whole.ID = sum
		logs[id] = &whole
	}
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, i.FulcioCertificateAuthorities(), nil, nil, logs)
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
	return file
}

// withoutCTLogs is the trust in an instance whose certificates have no proof of their log.
type withoutCTLogs struct{ root.TrustedMaterial }

func (withoutCTLogs) CTLogs() map[string]*root.TransparencyLog { return nil }

// Start starts an instance, which lasts until the test ends.
func Start(t *testing.T) *Instance {
	t.Helper()
	i := &Instance{}
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
	i.URL = s.URL
	return i
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
func (i *Instance) certify(_ http.ResponseWriter, r *http.Request) (any, int, error) {
	if r.Header.Get("Authorization") != "Bearer "+Token {
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
	sum := sha256.Sum256([]byte(Subject))
	if !ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), sum[:], request.PublicKeyRequest.ProofOfPossession) {
		return nil, 0, errors.New("no proof that the key is the caller's")
	}
	i.leaf, err = ca.GenerateLeafCert(Subject, Issuer, time.Now(), publicOnly{pub}, i.authority.Intermediates[0], i.key)
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
func (i *Instance) log(w http.ResponseWriter, r *http.Request) (any, int, error) {
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
