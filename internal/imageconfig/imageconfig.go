// SPDX-License-Identifier: Apache-2.0

// Package imageconfig holds the marks that sbom-bless leaves in an image config: the history
// entry of a layer with embedded attestations, and the label with the certificate of a delegated
// key. Package bless writes them; package attest/embedded, which runs on nodes, reads them without
// linking bless.
package imageconfig

import (
	"encoding/base64"
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/internal/jsonedit"
)

// EmbeddedRoot is the directory that embedded layers fill, and all that they touch.
const EmbeddedRoot = ".sbom-bless"

// embeddedBy is what the history says of an embedded layer. It is a hint: the content of the
// layer decides.
const embeddedBy = "sbom-bless bless --embed"

// HasEmbedded reports whether the last layer claims to be an embedded one.
func HasEmbedded(f *v1.ConfigFile) bool {
	n := len(f.History)
	return n > 0 && f.History[n-1].CreatedBy == embeddedBy && len(f.RootFS.DiffIDs) > 0
}

// layers are the parts of a config that grow with each layer, byte for byte.
type layers struct {
	History []json.RawMessage `json:"history"`
	RootFS  struct {
		DiffIDs []json.RawMessage `json:"diff_ids"`
	} `json:"rootfs"`
	Created json.RawMessage `json:"created"`
}

func (l *layers) edits() []jsonedit.Edit {
	return []jsonedit.Edit{
		jsonedit.Set(jsonedit.List(l.RootFS.DiffIDs), "rootfs", "diff_ids"),
		jsonedit.Set(jsonedit.List(l.History), "history"),
	}
}

// AddEmbedded returns config with an embedded layer on top of the others, every other byte as it was.
func AddEmbedded(config []byte, diffID v1.Hash) ([]byte, error) {
	var l layers
	if err := json.Unmarshal(config, &l); err != nil {
		return nil, err
	}
	entry, err := json.Marshal(struct {
		Created   json.RawMessage `json:"created,omitempty"` // that of the image, never the clock's
		CreatedBy string          `json:"created_by"`
	}{l.Created, embeddedBy})
	if err != nil {
		return nil, err
	}
	id, err := json.Marshal(diffID)
	if err != nil {
		return nil, err
	}
	l.History, l.RootFS.DiffIDs = append(l.History, entry), append(l.RootFS.DiffIDs, id)
	return jsonedit.Apply(config, l.edits()...)
}

// DropEmbedded is the inverse of AddEmbedded. HasEmbedded must hold for config.
func DropEmbedded(config []byte) ([]byte, error) {
	var l layers
	if err := json.Unmarshal(config, &l); err != nil {
		return nil, err
	}
	l.History, l.RootFS.DiffIDs = l.History[:len(l.History)-1], l.RootFS.DiffIDs[:len(l.RootFS.DiffIDs)-1]
	return jsonedit.Apply(config, l.edits()...)
}

// certificateLabel holds the certificate of a delegated key, DER in base64.
const certificateLabel = "dev.sbom-bless.certificate"

// SetCertificate gives the edits that record the certificate of a delegated key in the config f.
func SetCertificate(f *v1.ConfigFile, der []byte) []jsonedit.Edit {
	value := base64.StdEncoding.EncodeToString(der)
	if f.Config.Labels == nil {
		return []jsonedit.Edit{jsonedit.Set(map[string]string{certificateLabel: value}, "config", "Labels")}
	}
	return []jsonedit.Edit{jsonedit.Set(value, "config", "Labels", certificateLabel)}
}

// Certificate is the certificate of a delegated key that the config records, nil if there is none.
func Certificate(f *v1.ConfigFile) []byte {
	der, err := base64.StdEncoding.DecodeString(f.Config.Labels[certificateLabel])
	if err != nil || len(der) == 0 {
		return nil
	}
	return der
}
