// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
)

const statementType = "https://in-toto.io/Statement/v1"

// Statement is an in-toto Statement v1. The predicate keeps its bytes.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Resource      `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Resource is an in-toto ResourceDescriptor v1, with the fields in use here.
type Resource struct {
	Name             string            `json:"name,omitempty"`
	URI              string            `json:"uri,omitempty"`
	Digest           map[string]string `json:"digest"`
	DownloadLocation string            `json:"downloadLocation,omitempty"`
	MediaType        string            `json:"mediaType,omitempty"`
	// Annotations holds "size" where the size is known: a decimal number of bytes.
	Annotations map[string]string `json:"annotations,omitempty"`
}

func newResource(name, mediaType string, h v1.Hash, size int64) Resource {
	r := Resource{Name: name, MediaType: mediaType, Digest: map[string]string{h.Algorithm: h.Hex}}
	if size > 0 {
		r.Annotations = map[string]string{"size": fmt.Sprint(size)}
	}
	return r
}

// descriptor is the inverse of newResource.
func (r Resource) descriptor() (v1.Descriptor, error) {
	d := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: r.Digest["sha256"]}}
	if b, err := hex.DecodeString(d.Digest.Hex); err != nil || len(b) != sha256.Size {
		return d, fmt.Errorf("%s: no SHA-256 digest", r.Name)
	}
	if _, err := fmt.Sscan(r.Annotations["size"], &d.Size); err != nil || d.Size < 0 {
		return d, fmt.Errorf("%s: no size", r.Name)
	}
	return d, nil
}

// Predicate is the predicate of PredicateBlessing, see docs/attestation.md.
type Predicate struct {
	Image       Resource      `json:"image"`
	Source      Resource      `json:"source"`
	SourceIndex *Resource     `json:"sourceIndex,omitempty"`
	Platform    string        `json:"platform,omitempty"`
	Detached    bool          `json:"detached,omitempty"`
	Layers      []Layer       `json:"layers"`
	Embedded    *LayerDigests `json:"embedded,omitempty"`
	Attributes  []Attribute   `json:"attributes"`
	Key         Key           `json:"key"`
	Counts      Counts        `json:"counts"`
	FileList    Resource      `json:"fileList"`
	SBOMs       []Resource    `json:"sboms"`
	Version     string        `json:"version"`
	// Created is the time of the blessing, RFC 3339, as far as it has one.
	Created string `json:"created,omitempty"`
}

// statement writes a statement about the image, and its index if there is one. The
// bytes of the predicate are copied as they are, so that the digest of an SBOM can be checked
// in its attestation.
func (b *Blessing) statement(predicateType string, predicate []byte) ([]byte, error) {
	subjects := []Resource{b.subject(b.Image.Digest)}
	if b.Index != nil {
		subjects = append(subjects, b.subject(b.Index.Digest))
	}
	head, err := jsonedit.Marshal(Statement{Type: statementType, Subject: subjects, PredicateType: predicateType, Predicate: json.RawMessage("0")})
	if err != nil {
		return nil, err
	}
	if !json.Valid(predicate) {
		return nil, fmt.Errorf("the predicate is no JSON")
	}
	head = bytes.TrimSuffix(head, []byte("0}"))
	return append(append(head, predicate...), '}'), nil
}

// subject names a manifest in the way that registries do, which makes the names of subjects unique.
func (b *Blessing) subject(h v1.Hash) Resource {
	name := h.String()
	if b.Name != "" {
		name = b.Name + "@" + name
	}
	return newResource(name, "", h, 0)
}

type provenance struct {
	BuildDefinition struct {
		BuildType            string         `json:"buildType"`
		ExternalParameters   map[string]any `json:"externalParameters"`
		ResolvedDependencies []Resource     `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID      string            `json:"id"`
			Version map[string]string `json:"version"`
		} `json:"builder"`
		Metadata struct {
			FinishedOn string `json:"finishedOn,omitempty"`
		} `json:"metadata"`
		Byproducts []Resource `json:"byproducts"`
	} `json:"runDetails"`
}

// provenance writes the predicate of SLSA provenance v1.
func (b *Blessing) provenance(p *Predicate) ([]byte, error) {
	var v provenance
	d := &v.BuildDefinition
	d.BuildType = BuildType
	d.ExternalParameters = map[string]any{"source": b.Source.Name, "options": b.Parameters}
	if b.Parameters == nil {
		d.ExternalParameters["options"] = map[string]any{}
	}
	d.ResolvedDependencies = []Resource{p.Source}
	if p.SourceIndex != nil {
		d.ResolvedDependencies = append(d.ResolvedDependencies, *p.SourceIndex)
	}
	v.RunDetails.Builder.ID = BuilderID
	v.RunDetails.Builder.Version = map[string]string{"sbom-bless": b.Version}
	v.RunDetails.Metadata.FinishedOn = b.created()
	v.RunDetails.Byproducts = append([]Resource{p.FileList}, p.SBOMs...)
	return jsonedit.Marshal(v)
}

// reference writes the predicate of reference/v0.1 for a raw SBOM.
func (b *Blessing) reference(blob v1.Descriptor) ([]byte, error) {
	r := newResource(sbomFormats[string(blob.MediaType)].file, string(blob.MediaType), blob.Digest, blob.Size)
	r.DownloadLocation = b.location(blob.Digest)
	var v struct {
		Attester struct {
			ID string `json:"id"`
		} `json:"attester"`
		References []Resource `json:"references"`
	}
	v.Attester.ID = BuilderID
	v.References = []Resource{r}
	return jsonedit.Marshal(v)
}

// location is where a blob can be had: from the registry's API, or, for images without one,
// the name of the content (RFC 6920).
func (b *Blessing) location(h v1.Hash) string {
	if repo, err := name.NewRepository(b.Name, name.StrictValidation); err == nil {
		return fmt.Sprintf("%s://%s/v2/%s/blobs/%s", repo.Scheme(), repo.RegistryStr(), repo.RepositoryStr(), h)
	}
	sum, _ := hex.DecodeString(h.Hex)
	return "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(sum)
}

func (b *Blessing) created() string {
	if b.Created.IsZero() {
		return ""
	}
	return b.Created.UTC().Format(time.RFC3339)
}
