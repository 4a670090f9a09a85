// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ima

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/testima"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// The whole way: the product makes a key and blesses an image, the layer is
// unpacked as it came out, and the kernel judges it.
func TestBlessedImage(t *testing.T) {
	config := vm.Config{Append: "ima_appraise=enforce", Host: blessOnHost}
	vm.Test(t, vm.Some("6.1", "7.3"), config, func(t *testing.T, k vm.Kernel) {
		var list []*signer
		for _, kind := range imageKinds(k) {
			der, err := os.ReadFile(filepath.Join(imageDir, kind+".der"))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, &signer{&testima.Signer{Kind: kind, DER: der}})
		}
		trust(t, "_ima", list...)
		trust(t, "_evm", list...)
		enableEVM(t)
		rules := []string{"appraise func=BPRM_CHECK fowner=7777 appraise_type=imasig"}
		if hasSigV3(k) {
			rules = append(rules, "appraise func=BPRM_CHECK fowner=7779 appraise_type=sigv3")
		}
		policy(t, rules...)
		for _, kind := range imageKinds(k) {
			t.Run(kind, func(t *testing.T) { judgeImage(t, k, kind) })
		}
	})
}

const imageDir = "/blessed"

func imageKinds(k vm.Kernel) []string {
	if k == "6.1" {
		return []string{"rsa-2048"}
	}
	return []string{"ecdsa-p256", "rsa-2048"}
}

func judgeImage(t *testing.T, k vm.Kernel, kind string) {
	versions := []string{"v2"}
	if hasSigV3(k) {
		versions = append(versions, "v3")
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			layer, err := os.ReadFile(filepath.Join(imageDir, kind+"-"+version+".tar"))
			if err != nil {
				t.Fatal(err)
			}
			dir := unpacked(t, layer)
			for _, name := range []string{"first", "second", "linked"} {
				runs(t, filepath.Join(dir, "bin", name))
			}
			add(t, filepath.Join(dir, "bin", "first"))
			refused(t, filepath.Join(dir, "bin", "first"))
			refused(t, filepath.Join(dir, "bin", "linked"))
			runs(t, filepath.Join(dir, "bin", "second"))
			if err := unix.Chmod(filepath.Join(dir, "bin", "second"), 0o4755); !errors.Is(err, unix.EPERM) {
				t.Errorf("chmod of a file with a portable EVM signature: %v, want EPERM", err)
			}
			dir = unpacked(t, bytes.Replace(layer, program("second"), program("SECOND"), 1))
			refused(t, filepath.Join(dir, "bin", "second"))
			runs(t, filepath.Join(dir, "bin", "first"))
		})
	}
}

// blessOnHost makes images of one layer, blesses them with fresh keys of each
// kind and signatures of both versions, and brings layers and certificates.
func blessOnHost(t vm.TB, c *vm.Config) {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	product := filepath.Join(dir, "sbom-bless")
	do(t, "env", "CGO_ENABLED=0", "go", "build", "-o", product, "github.com/sbom-bless/sbom-bless")
	layout := filepath.Join(dir, "layout")
	do(t, "umoci", "init", "--layout", layout)
	for version, owner := range map[string]int{"2": wantsSignature, "3": wantsV3} {
		file := filepath.Join(dir, "layer.tar")
		if err := os.WriteFile(file, imageLayer(t, owner), 0o644); err != nil {
			t.Fatal(err)
		}
		do(t, "umoci", "new", "--image", layout+":v"+version)
		do(t, "umoci", "raw", "add-layer", "--image", layout+":v"+version, file)
	}
	for _, kind := range imageKinds(c.Kernel) {
		prefix := filepath.Join(out, kind)
		do(t, product, "keygen", "--type", kind, "--out", prefix)
		for _, version := range []string{"2", "3"} {
			tag := kind + "-v" + version
			do(t, product, "bless", "oci:"+layout+":v"+version, "-t", "oci:"+layout+":"+tag,
				"--key", prefix+".key", "--evm", "--ima-version", version, "--no-cache")
			layer, err := onlyLayer(layout, tag)
			if err != nil {
				t.Fatalf("%s: %v", tag, err)
			}
			if err := os.WriteFile(filepath.Join(out, tag+".tar"), layer, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Files[imageDir] = out
}

func do(t vm.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func imageLayer(t vm.TB, owner int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/first", Typeflag: tar.TypeReg, Mode: 0o755, Uid: owner, Gid: 50},
		{Name: "bin/second", Typeflag: tar.TypeReg, Mode: 0o755, Uid: owner, Gid: 50,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}},
		{Name: "bin/linked", Typeflag: tar.TypeLink, Linkname: "bin/first", Mode: 0o755, Uid: owner, Gid: 50},
	} {
		var content []byte
		if h.Typeflag == tar.TypeReg {
			content = program(filepath.Base(h.Name))
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// onlyLayer gives the uncompressed layer of an image in an OCI layout.
func onlyLayer(layout, tag string) ([]byte, error) {
	type descriptor struct {
		Digest      string
		Annotations map[string]string
	}
	read := func(name string, into any) error {
		data, err := os.ReadFile(filepath.Join(layout, name))
		if err != nil {
			return err
		}
		return json.Unmarshal(data, into)
	}
	blob := func(digest string) string {
		return filepath.Join("blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
	}
	var index struct{ Manifests []descriptor }
	if err := read("index.json", &index); err != nil {
		return nil, err
	}
	for _, d := range index.Manifests {
		if d.Annotations["org.opencontainers.image.ref.name"] != tag {
			continue
		}
		var manifest struct{ Layers []descriptor }
		if err := read(blob(d.Digest), &manifest); err != nil {
			return nil, err
		}
		if len(manifest.Layers) != 1 {
			return nil, fmt.Errorf("%d layers, want 1", len(manifest.Layers))
		}
		f, err := os.Open(filepath.Join(layout, blob(manifest.Layers[0].Digest)))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	}
	return nil, errors.New("no such tag")
}
