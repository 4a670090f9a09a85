// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// dockerRegistry runs Debian's docker-registry and returns its host:port.
func dockerRegistry(t *testing.T) string {
	dir := t.TempDir()
	free := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	address := free.Addr().String()
	free.Close()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n", dir, address)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, "tcp", address, "docker-registry", "serve", config)
	return address
}

// digest is the digest of the image that a layout's tag names.
func digest(t *testing.T, dir string) v1.Hash {
	t.Helper()
	index := must[v1.ImageIndex](t)(layout.ImageIndexFromPath(dir))
	manifest := must[*v1.IndexManifest](t)(index.IndexManifest())
	for _, m := range manifest.Manifests {
		if m.Annotations["org.opencontainers.image.ref.name"] == tag {
			return m.Digest
		}
	}
	t.Fatalf("%s: nothing is tagged %s", dir, tag)
	return v1.Hash{}
}

// validateRemote checks an image in a registry as `crane validate --remote` does.
func validateRemote(t *testing.T, ref string) v1.Image {
	t.Helper()
	img := must[v1.Image](t)(remote.Image(must[name.Reference](t)(name.ParseReference(ref, name.Insecure))))
	if err := validate.Image(img); err != nil {
		t.Errorf("%s: %v", ref, err)
	}
	return img
}

func TestTheLayoutPassesTheChecksOfCrane(t *testing.T) {
	im := must[image](t)(ecdsa())
	path := must[layout.Path](t)(layout.FromPath(im.layout))
	if err := validate.Image(must[v1.Image](t)(path.Image(digest(t, im.layout)))); err != nil {
		t.Error(err)
	}
}

func TestDockersRegistryTakesTheImageWithTheDigestThatTheLayoutHas(t *testing.T) {
	im := must[image](t)(ecdsa())
	ref := dockerRegistry(t) + "/debian:blessed"
	printed := must[string](t)(im.bless("oci:"+im.source+":"+tag, ref))
	want := digest(t, im.layout)
	if !strings.HasSuffix(printed, "/debian@"+want.String()) {
		t.Errorf("bless printed %s; the layout has %s", printed, want)
	}
	if got := must[v1.Hash](t)(validateRemote(t, ref).Digest()); got != want {
		t.Errorf("the registry has %s; the layout has %s", got, want)
	}
	var inspected struct{ Digest string }
	if err := json.Unmarshal([]byte(run(t, "skopeo", "inspect", "--tls-verify=false", "docker://"+ref)), &inspected); err != nil {
		t.Fatal(err)
	}
	if inspected.Digest != want.String() {
		t.Errorf("skopeo says %s; the layout has %s", inspected.Digest, want)
	}
	must[string](t)(sbomBless("verify", ref, "--key", im.prefix+".pub", "--quiet"))
}

func TestGoContainerRegistrysRegistryTakesTheImage(t *testing.T) {
	im := must[image](t)(ecdsa())
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	defer server.Close()
	ref := strings.TrimPrefix(server.URL, "http://") + "/debian:blessed"
	must[string](t)(im.bless("oci:"+im.source+":"+tag, ref))
	if got, want := must[v1.Hash](t)(validateRemote(t, ref).Digest()), digest(t, im.layout); got != want {
		t.Errorf("the registry has %s; the layout has %s", got, want)
	}
}

func TestAnImageThatSkopeoPushedIsBlessedInTheRegistryToTheSameDigest(t *testing.T) {
	im := must[image](t)(ecdsa())
	host := dockerRegistry(t)
	run(t, "skopeo", "copy", "-q", "--dest-tls-verify=false", "oci:"+im.source+":"+tag, "docker://"+host+"/debian:ci")
	must[string](t)(im.bless(host+"/debian:ci", host+"/other/debian:blessed"))
	if got, want := must[v1.Hash](t)(validateRemote(t, host+"/other/debian:blessed").Digest()), digest(t, im.layout); got != want {
		t.Errorf("the registry has %s; the layout has %s", got, want)
	}
}

func TestSkopeoCopiesTheImageByteForByte(t *testing.T) {
	im := must[image](t)(ecdsa())
	ref := "docker://" + dockerRegistry(t) + "/debian:copy"
	back := filepath.Join(t.TempDir(), "back")
	run(t, "skopeo", "copy", "-q", "--dest-tls-verify=false", im.ref(), ref)
	run(t, "skopeo", "copy", "-q", "--src-tls-verify=false", ref, "oci:"+back+":"+tag)
	if got, want := digest(t, back), digest(t, im.layout); got != want {
		t.Errorf("after two copies the digest is %s, not %s", got, want)
	}
}

// layers are the layers of the image that a layout's tag names.
func layers(t *testing.T, dir string) []v1.Descriptor {
	t.Helper()
	path := must[layout.Path](t)(layout.FromPath(dir))
	return must[*v1.Manifest](t)(must[v1.Image](t)(path.Image(digest(t, dir))).Manifest()).Layers
}
