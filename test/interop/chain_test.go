// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sbom-bless/sbom-bless/internal/gotool"
)

// TestCosignVerifiesWhatBlessPushed has a stranger with the public key ask cosign about a
// real image, by tag as he would, in Debian's docker-registry: about the index and about the platform's manifest.
func TestCosignVerifiesWhatBlessPushed(t *testing.T) {
	im := must[image](t)(ecdsa())
	cosign := must[string](t)(gotool.Path(t.Context(), gotool.Cosign))
	address := dockerRegistry(t)
	// An index with the image as its only platform.
	source := filepath.Join(workdir(t), "index")
	path := must[layout.Path](t)(layout.FromPath(im.source))
	img := must[v1.Image](t)(path.Image(digest(t, im.source)))
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	at := must[layout.Path](t)(layout.Write(source, empty.Index))
	if err := at.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})); err != nil {
		t.Fatal(err)
	}
	ref := address + "/debian:blessed"
	printed := must[string](t)(sbomBless("bless", "oci:"+source+":"+tag, "-t", ref, "--key", im.prefix+".key", "--no-cache", "--quiet"))
	must[string](t)(sbomBless("keygen", "--out", filepath.Join(filepath.Dir(source), "other")))

	verify := func(key, predicate, ref string) error {
		cmd := exec.CommandContext(t.Context(), cosign, "verify-attestation", "--key", key, "--insecure-ignore-tlog", "--type", predicate, ref)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%w: %s", err, errs.String())
		}
		return nil
	}
	blessed := must[v1.ImageIndex](t)(remote.Index(must[name.Reference](t)(name.ParseReference(printed, name.Insecure))))
	platform := address + "/debian@" + must[*v1.IndexManifest](t)(blessed.IndexManifest()).Manifests[0].Digest.String()
	for _, ref := range []string{ref, platform} {
		for _, predicate := range []string{"spdxjson", "cyclonedx", "slsaprovenance1", "https://github.com/sbom-bless/sbom-bless/blessing/v1"} {
			if err := verify(im.prefix+".pub", predicate, ref); err != nil {
				t.Errorf("%s of %s: %v", predicate, ref, err)
			}
		}
		if verify(filepath.Join(filepath.Dir(source), "other.pub"), "spdxjson", ref) == nil {
			t.Errorf("%s: cosign accepts another key", ref)
		}
	}
}

// TestEmbeddedAttestationsSurviveLoadAndSave takes a blessed image through podman's store as an archive, where nothing
// can be beside it.
func TestEmbeddedAttestationsSurviveLoadAndSave(t *testing.T) {
	im := must[image](t)(ecdsa())
	dir := workdir(t)
	blessed, saved := filepath.Join(dir, "blessed.tar"), filepath.Join(dir, "saved.tar")
	must[string](t)(sbomBless("bless", "oci:"+im.source+":"+tag, "-t", "docker-archive:"+blessed+":test.example/debian:blessed", "--key", im.prefix+".key", "--embed", "--no-cache", "--quiet"))
	args := append(store(t), "--cgroup-manager", "cgroupfs", "--events-backend", "none")
	podman := func(more ...string) string {
		t.Helper()
		return run(t, "podman", append(args[:len(args):len(args)], more...)...)
	}
	podman("load", "--quiet", "--input", blessed)
	podman("save", "--quiet", "--format", "docker-archive", "--output", saved, "test.example/debian:blessed")
	must[string](t)(sbomBless("verify", "docker-archive:"+saved, "--key", im.prefix+".pub", "--quiet"))
	document := must[string](t)(sbomBless("sbom", "docker-archive:"+saved, "--key", im.prefix+".pub"))
	if len(document) < 1<<20 {
		t.Errorf("an SBOM of %d bytes is not that of a Debian system", len(document))
	}
	checkAttributes(t, podman("image", "mount", "test.example/debian:blessed"))
}
