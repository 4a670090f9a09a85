// SPDX-License-Identifier: Apache-2.0

package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// vault speaks what Vault's transit engine answers to the two requests that
// signing takes, with a real key: no Vault server comes with Debian.
// https://developer.hashicorp.com/vault/api-docs/secret/transit
type vault struct {
	signer crypto.Signer
	pss    bool // sign as an RSA key of another kind would
	calls  atomic.Int32
	*httptest.Server
}

func newVault(t *testing.T, signer crypto.Signer) *vault {
	t.Helper()
	v := &vault{signer: signer}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/transit/keys/release", v.keys)
	mux.HandleFunc("PUT /v1/transit/sign/release/{hash}", v.sign)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, `{"errors":[]}`, http.StatusNotFound) })
	v.Server = httptest.NewServer(mux)
	t.Cleanup(v.Close)
	t.Setenv("VAULT_ADDR", v.URL)
	t.Setenv("VAULT_TOKEN", "token")
	return v
}

func (v *vault) keys(w http.ResponseWriter, r *http.Request) {
	version := map[string]any{"name": "key"}
	if pub, ok := v.signer.Public().(ed25519.PublicKey); ok {
		version["name"], version["public_key"] = "ed25519", base64.StdEncoding.EncodeToString(pub)
	} else {
		der, err := x509.MarshalPKIXPublicKey(v.signer.Public())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		version["public_key"] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	v.answer(w, map[string]any{"keys": map[string]any{"1": version}, "latest_version": 1})
}

func (v *vault) sign(w http.ResponseWriter, r *http.Request) {
	v.calls.Add(1)
	var request struct {
		Input     []byte `json:"input"`
		Prehashed bool   `json:"prehashed"`
		Algorithm string `json:"signature_algorithm"`
	}
	hash, known := map[string]crypto.Hash{"sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384, "sha2-512": crypto.SHA512}[r.PathValue("hash")]
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || !known || !request.Prehashed ||
		request.Algorithm != "pkcs1v15" || r.Header.Get("X-Vault-Token") != "token" {
		http.Error(w, `{"errors":["bad request"]}`, http.StatusBadRequest)
		return
	}
	var opts crypto.SignerOpts = hash
	if v.pss {
		opts = &rsa.PSSOptions{Hash: hash}
	}
	sig, err := v.signer.Sign(rand.Reader, request.Input, opts)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	v.answer(w, map[string]any{"signature": "vault:v1:" + base64.StdEncoding.EncodeToString(sig)})
}

func (v *vault) answer(w http.ResponseWriter, data map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data}) // a lost answer fails the test elsewhere
}

func TestKMS(t *testing.T) {
	for _, typ := range Types()[:3] {
		t.Run(typ, func(t *testing.T) {
			root, prefix := keyFiles(t, typ, "")
			v := newVault(t, root.Signer)
			k, err := Load(t.Context(), "hashivault://release", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !k.Remote || k.Deterministic != strings.HasPrefix(typ, "rsa") || k.Cert != nil || k.ID() != root.ID() {
				t.Errorf("loaded %+v", k)
			}
			if n := v.calls.Load(); n != 0 {
				t.Errorf("loading signed %d times", n)
			}
			proves(t, k, prefix+".pub")

			if k, err = Load(t.Context(), "hashivault://release", Options{Cert: prefix + ".crt"}); err != nil {
				t.Fatal(err)
			}
			v.calls.Store(0)
			leaf, err := Delegate(t.Context(), k, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			proves(t, leaf, publicFile(t, leaf.Public))
			if n := v.calls.Load(); n != 1 {
				t.Errorf("delegating took %d signatures", n)
			}
			pub, err := LoadPublic(t.Context(), "hashivault://release")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := VerifyDelegation(pub, leaf.Cert.Raw); err != nil {
				t.Error(err)
			}
		})
	}
}

// publicFile writes pub for openssl.
func publicFile(t *testing.T, pub crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "leaf.pub")
	write(t, path, 0o644, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return path
}

func TestKMSRefuses(t *testing.T) {
	wantError := func(ref string, o Options, wants ...string) {
		t.Helper()
		_, err := Load(t.Context(), ref, o)
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v does not say %q", err, want)
			}
		}
	}
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	newVault(t, ed)
	wantError("hashivault://release", Options{}, "key hashivault://release: ed25519: ", "hint: sbom-bless keygen")
	wantError("hashivault://other", Options{}, "key hashivault://other: public key: could not read data from transit key path")

	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	newVault(t, p521)
	wantError("hashivault://release", Options{}, "ecdsa on P-521")

	_, other := keyFiles(t, "ecdsa-p256", "")
	newVault(t, generate(t, "rsa-2048").Signer)
	wantError("hashivault://release", Options{Cert: other + ".crt"}, "certificate "+other+".crt: belongs to another key")

	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	t.Setenv("VAULT_MAX_RETRIES", "0")
	wantError("hashivault://release", Options{}, "connection refused")
}

// A service that answers with what the kernel cannot verify is found out at the
// first signature.
func TestKMSThatSignsInAnotherWay(t *testing.T) {
	digest := sha256.Sum256(nil)
	root := generate(t, "rsa-2048")
	v := newVault(t, root.Signer)
	v.pss = true
	k, err := Load(t.Context(), "hashivault://release", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = k.Signer.Sign(nil, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "hint: a key made for RSA-PSS cannot be used") {
		t.Errorf("RSA-PSS: %v", err)
	}
	if _, err = Delegate(t.Context(), k, time.Now()); err == nil || !strings.Contains(err.Error(), "delegate: remote key: ") {
		t.Errorf("RSA-PSS: %v", err)
	}

	v = newVault(t, generate(t, "ecdsa-p256").Signer)
	if k, err = Load(t.Context(), "hashivault://release", Options{}); err != nil {
		t.Fatal(err)
	}
	v.signer = generate(t, "ecdsa-p256").Signer // the key was rotated meanwhile
	if _, err = k.Signer.Sign(nil, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "does not verify as ECDSA") {
		t.Errorf("rotated: %v", err)
	}
	v.Close()
	t.Setenv("VAULT_MAX_RETRIES", "0")
	if _, err = Load(t.Context(), "hashivault://release", Options{}); err == nil {
		t.Error("loaded from a server that is gone")
	}
}

// That the other providers are wired in shows in errors that are theirs.
func TestKMSProviders(t *testing.T) {
	for ref, want := range map[string]string{
		"awskms://nonsense":           "kms specification should be in the format awskms://[ENDPOINT]/[ID/ALIAS/ARN]",
		"gcpkms://nonsense":           "kms specification should be in the format gcpkms://projects/",
		"azurekms://nonsense":         "kms specification should be in the format azurekms://",
		"hashivault://nonsense/":      "kms specification should be in the format hashivault://<key>",
		"otherkms://nonsense":         "no file of that name, and otherkms:// is not one of env:// awskms:// gcpkms:// azurekms:// hashivault://",
		"pkcs11:nonsense?module-path": "Malformed pkcs11 URI",
	} {
		_, err := Load(t.Context(), ref, Options{})
		_, errPublic := LoadPublic(t.Context(), ref)
		if err = errors.Join(err, errPublic); err == nil || strings.Count(err.Error(), want) != 2 {
			t.Errorf("%s: error %v does not say %q twice", ref, err, want)
		}
	}
}
