// SPDX-License-Identifier: Apache-2.0

package keyless

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/attest/keyless/keylesstest"
	"github.com/sbom-bless/sbom-bless/transport"
)

const (
	subject = keylesstest.Subject
	issuer  = keylesstest.Issuer
)

var token = keylesstest.Token

func sigstore(t *testing.T) *keylesstest.Instance {
	t.Helper()
	return keylesstest.Start(t)
}

func options(i *keylesstest.Instance) Options {
	return Options{Fulcio: i.URL, Rekor: i.URL, Root: i.Material()}
}

func newSigner(t *testing.T, i *keylesstest.Instance) *Signer {
	t.Helper()
	s, err := NewSigner(context.Background(), token, options(i))
	if err != nil {
		t.Fatal(err)
	}
	return s
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
	artifacts, err := attest.Make(ctx, b, newSigner(t, v))
	if err != nil {
		t.Fatal(err)
	}
	dir := transport.NewMemory(nil)
	if err := attest.Push(ctx, dir, artifacts); err != nil {
		t.Fatal(err)
	}
	other := sigstore(t)
	for name, c := range map[string]struct {
		material root.TrustedMaterial
		id       Identity
		want     string
	}{
		"the identity":               {v.Material(), Identity{Subject: subject, Issuer: issuer}, ""},
		"the identity by expression": {v.Material(), Identity{SubjectRegexp: "^builder@", IssuerRegexp: `^https://issuer\.example$`}, ""},
		"another subject":            {v.Material(), Identity{Subject: "other@example.com", Issuer: issuer}, "no matching CertificateIdentity"},
		"another issuer":             {v.Material(), Identity{Subject: subject, Issuer: "https://other.example"}, "no matching CertificateIdentity"},
		"another instance":           {other.Material(), Identity{Subject: subject, Issuer: issuer}, "no blessing"},
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
	raw, err := newSigner(t, v).Bundle(context.Background(), []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"`+subjectDigest.Hex+`"}}],"predicateType":"https://example.com/p","predicate":{"a":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := NewVerifier(v.Material(), Identity{Subject: subject, Issuer: issuer})
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(raw, subjectDigest); err != nil {
		t.Errorf("as made: %v", err)
	}
	if err := verifier.Verify(raw, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("00", 32)}); err == nil || !strings.Contains(err.Error(), "artifact digest does not match") {
		t.Errorf("of another image: %v", err)
	}
	for want, edit := range map[string]func(b map[string]any){
		"does not match envelope payload hash": func(b map[string]any) {
			e := b["dsseEnvelope"].(map[string]any)
			p, _ := base64.StdEncoding.DecodeString(e["payload"].(string))
			e["payload"] = base64.StdEncoding.EncodeToString(bytes.Replace(p, []byte(`"a":1`), []byte(`"a":2`), 1))
		},
		"not enough verified log entries": func(b map[string]any) { delete(b["verificationMaterial"].(map[string]any), "tlogEntries") },
	} {
		var b map[string]any
		if err := json.Unmarshal(raw, &b); err != nil {
			t.Fatal(err)
		}
		edit(b)
		changed, _ := json.Marshal(b)
		if err := verifier.Verify(changed, subjectDigest); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestRootFromFile writes the trust in an instance the way its operators hand it out.
func TestRootFromFile(t *testing.T) {
	v := sigstore(t)
	file := v.RootFile(t)
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
	if _, err := Root(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a root that is not there: %v", err)
	}
}

func TestFulcioRefuses(t *testing.T) {
	v := sigstore(t)
	other := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"1","email":"x@example.com","email_verified":true}`)) + ".c2ln"
	for token, want := range map[string]string{other: "the token is not valid", "": "IDToken", "x": "identity token"} {
		if _, err := NewSigner(context.Background(), token, options(v)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("token %q: error %v, want %s", token, err, want)
		}
	}
}

func TestVerifierWantsBothParts(t *testing.T) {
	v := sigstore(t)
	for id, want := range map[Identity]string{{}: "needs both the subject and the issuer", {Subject: subject}: "needs both the subject and the issuer", {IssuerRegexp: issuer}: "needs both the subject and the issuer", {Subject: subject, IssuerRegexp: "("}: "missing closing )"} {
		if _, err := NewVerifier(v, id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", id, err, want)
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
