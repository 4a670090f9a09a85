// SPDX-License-Identifier: Apache-2.0

package chain

// What becomes of a blessed image where it is unpacked. What the unpackers do was read
// in their sources and tried: containerd 2.4 (pkg/archive), moby/go-archive 0.3, containers/storage 1.65
// (pkg/archive, pkg/chunked), umoci 0.6 (oci/layer).

import (
	"slices"
	"strings"

	"github.com/sbom-bless/sbom-bless/bless"
)

// Portability is what one unpacker does with the image.
type Portability struct {
	Unpacker string `json:"unpacker"`
	// Outcome is "kept", "dropped" (unpacked without the attributes) or "refused" (cannot be unpacked).
	Outcome string `json:"outcome"`
	Note    string `json:"note,omitempty"`
}

// Outcomes of unpacking.
const (
	kept    = "kept"
	dropped = "dropped"
	refused = "refused"
)

// portable tells what unpackers do with an image that carries such attributes.
func portable(img *bless.ImageInspection) []Portability {
	total := img.Total
	rows := []Portability{
		{"containerd, as root (Kubernetes, nerdctl, Docker)", kept, ""},
		{"containerd, rootless (nerdctl, BuildKit)", refused, "only root may set security.*, and containerd takes the kernel's refusal for an error; bless --detached leaves the image as it is"},
		{"Docker with graph drivers, as root", kept, ""},
		{"Docker, rootless", dropped, "with a warning; a list of files in the attestations works all the same"},
		{"Podman, CRI-O, Buildah, as root", kept, ""},
		{"Podman, Buildah, rootless", dropped, "silently; a list of files in the attestations works all the same"},
		{"umoci, as root", kept, ""},
		{"umoci, rootless", dropped, "with a warning"},
	}
	if !img.HasAttributes() {
		for i := range rows {
			rows[i] = Portability{rows[i].Unpacker, kept, "there are no attributes to lose"}
		}
		return rows
	}
	var notes []string
	if total.Broken > 0 {
		notes = append(notes, "kernels with IMA refuse a security.ima that cannot be read, and the image with it")
	}
	if slices.ContainsFunc(total.FormatNames(), func(f string) bool { return strings.Contains(f, "sha384") || strings.Contains(f, "sha512") }) {
		notes = append(notes, "a kernel whose IMA policy demands another hash algorithm refuses the image")
	}
	if total.EVM > 0 {
		notes = append(notes, "security.evm no longer fits where owners are changed: userns-remap, idmapping by chown, SELinux relabelling")
	}
	if slices.ContainsFunc(img.Layers, func(l bless.LayerInspection) bool { return strings.Contains(string(l.Descriptor.MediaType), "zstd") }) {
		notes = append(notes, "layers are packed with zstd, which Docker reads from 23.0 and containerd from 1.5")
	}
	for i := range rows {
		if rows[i].Outcome == kept {
			rows[i].Note = strings.Join(notes, "; ")
		}
	}
	return rows
}
