// SPDX-License-Identifier: Apache-2.0

package bless_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/bless"
)

// registryHost starts a registry, with the referrers API or without.
func registryHost(t *testing.T, referrers bool) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers)))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func outcomes(r *bless.Result) (s []string) {
	for _, img := range r.Images {
		for _, l := range img.Layers {
			s = append(s, l.Outcome)
		}
	}
	return s
}

func TestLedgerSparesReadingALayerThatTheRegistryHasBlessed(t *testing.T) {
	signer, _ := newSigner(t)
	other, _ := newSigner(t)
	source := lay(t, caseNamed(t, "index"))
	for _, referrers := range []bool{true, false} {
		dest := registryHost(t, referrers) + "/app:1"
		first, err := blessRef(source, dest, signer, bless.Options{Ledger: true})
		if err != nil {
			t.Fatal(err)
		}
		second, err := blessRef(source, dest, signer, bless.Options{Ledger: true})
		if err != nil {
			t.Fatal(err)
		}
		if first.Descriptor.Digest != second.Descriptor.Digest {
			t.Errorf("%s, then %s", first.Descriptor.Digest, second.Descriptor.Digest)
		}
		for _, o := range outcomes(second) {
			if o != bless.OutcomeCached {
				t.Errorf("a layer was %s", o)
			}
		}
		third, err := blessRef(source, dest, other, bless.Options{Ledger: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes(third) {
			if o == bless.OutcomeCached {
				t.Error("a record of another key was used")
			}
		}
	}
}

func TestForgedLedgerIsNotBelieved(t *testing.T) {
	signer, _ := newSigner(t)
	source := lay(t, caseNamed(t, "typical"))
	host := registryHost(t, false)
	first, err := blessRef(source, host+"/app:1", signer, bless.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	// Without the API, the records of a layer are listed in an index tagged sha256-KEY.
	repo, err := name.NewRepository(host + "/app")
	if err != nil {
		t.Fatal(err)
	}
	tags, err := remote.List(repo)
	if err != nil {
		t.Fatal(err)
	}
	forged := 0
	for _, tag := range tags {
		if !strings.HasPrefix(tag, "sha256-") {
			continue
		}
		index, err := remote.Index(repo.Tag(tag))
		if err != nil {
			t.Fatal(err)
		}
		list, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		for i, desc := range list.Manifests {
			record, err := remote.Get(repo.Digest(desc.Digest.String()))
			if err != nil {
				t.Fatal(err)
			}
			var m v1.Manifest
			if err := json.Unmarshal(record.Manifest, &m); err != nil {
				t.Fatal(err)
			}
			sig := []byte(m.Annotations["dev.sbom-bless.signature"])
			sig[len(sig)/2] ^= 1
			m.Annotations["dev.sbom-bless.signature"] = string(sig)
			raw := marshal(t, m)
			digest, size, err := v1.SHA256(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Put(repo.Digest(digest.String()), manifest{raw, m.MediaType}); err != nil {
				t.Fatal(err)
			}
			list.Manifests[i].Digest, list.Manifests[i].Size = digest, size
			forged++
		}
		if err := remote.Put(repo.Tag(tag), manifest{marshal(t, list), list.MediaType}); err != nil {
			t.Fatal(err)
		}
	}
	if forged != 1 {
		t.Fatalf("%d records found", forged)
	}
	again, err := blessRef(source, host+"/app:1", signer, bless.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	if o := outcomes(again); o[0] != bless.OutcomeBlessed {
		t.Errorf("the layer was %s", o[0])
	}
	if again.Descriptor.Digest != first.Descriptor.Digest {
		t.Errorf("%s, then %s", first.Descriptor.Digest, again.Descriptor.Digest)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func unmarshal(t *testing.T, raw []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

// manifest is a remote.Taggable.
type manifest struct {
	raw       []byte
	mediaType types.MediaType
}

func (m manifest) RawManifest() ([]byte, error)        { return m.raw, nil }
func (m manifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }
