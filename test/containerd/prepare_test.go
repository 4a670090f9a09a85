// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package containerd runs a blessed image under containerd and podman, as Debian
// ships them, and as a pod of newer containerd and of CRI-O, in a virtual machine
// with the verifier in force: the image works as before, what it did not bring does
// not run, and the agent can be exchanged in between.
package containerd

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/vm"
)

// Debian packages: containerd, runc, umoci.
var runtimePrograms = []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc"}

// What the image has: a shell and some tools, with their libraries.
var imagePrograms = []string{"dash", "cp", "cat", "sleep", "chmod"}

// imagePackages are the Debian packages that they are from.
var imagePackages = []string{"dash", "coreutils", "libc6"}

const (
	imageFile    = "/blessed.tar"
	plainFile    = "/plain.tar"    // the image before
	attestations = "/attestations" // that bless made
	digestFile   = "/digest"       // of the blessed image
	keyFile      = "/key.crt"
	otherKey     = "/other.crt" // that signed nothing
	product      = "/usr/bin/sbom-bless"
)

func TestContainerd(t *testing.T) {
	config := vm.Config{Memory: 3072, Timeout: 20 * time.Minute, Host: prepare}
	vm.Test(t, vm.Some("6.1"), config, underContainerd)
}

// prepare makes an image, blesses it with the product, and brings it together
// with the runtime.
func prepare(t vm.TB, c *vm.Config) {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := makeRoot(in("root")); err != nil {
		t.Fatal(err)
	}
	if err := writeLayer(in("layer.tar"), in("root")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"env", "CGO_ENABLED=0", "go", "build", "-o", in("sbom-bless"), "github.com/sbom-bless/sbom-bless"},
		{"umoci", "init", "--layout", in("layout")},
		{"umoci", "new", "--image", in("layout") + ":source"},
		{"umoci", "raw", "add-layer", "--image", in("layout") + ":source", in("layer.tar")},
		{"skopeo", "copy", "--quiet", "oci:" + in("layout") + ":source", "oci-archive:" + in("plain.tar") + ":app"},
		{in("sbom-bless"), "keygen", "--type", "rsa-2048", "--out", in("key")},
		{in("sbom-bless"), "keygen", "--out", in("other")},
		{in("sbom-bless"), "bless", "oci:" + in("layout") + ":source", "-t", "oci-archive:" + in("blessed.tar") + ":app",
			"--key", in("key.key"), "--attestation-out", in("attestations"), "--digest-file", in("digest"), "--no-cache"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	programs, err := vm.Programs(runtimePrograms...)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(c.Files, programs)
	c.Files[imageFile] = in("blessed.tar")
	if err := bringAttestations(c, in("attestations")); err != nil {
		t.Fatal(err)
	}
	c.Files[digestFile] = in("digest")
	c.Files[keyFile] = in("key.crt")
	c.Files[otherKey] = in("other.crt")
	c.Files[plainFile] = in("plain.tar")
	c.Files[product] = in("sbom-bless")
}

// makeRoot makes a root filesystem like a Debian image's, with the database
// that tells whose each file is.
func makeRoot(root string) error {
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "etc", "var/lib/dpkg/info", "tmp", "proc", "dev", "sys", "run"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	files, err := vm.Programs(imagePrograms...)
	if err != nil {
		return err
	}
	files["/etc/os-release"] = "/etc/os-release"
	for _, name := range imagePackages {
		lists, err := filepath.Glob("/var/lib/dpkg/info/" + name + "*.md5sums")
		if err != nil {
			return err
		}
		for _, list := range lists {
			files[list] = list
		}
	}
	for name, from := range files {
		if err := copyFile(filepath.Join(root, name), from); err != nil {
			return err
		}
	}
	status, err := exec.Command("dpkg-query", append([]string{"-s"}, imagePackages...)...).Output()
	if err != nil {
		return fmt.Errorf("dpkg-query: %w", err)
	}
	return os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), status, 0o644)
}

func copyFile(to, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

// writeLayer makes a layer of a directory.
func writeLayer(file, root string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(root)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

// bringAttestations puts the directory of attestations into the guest.
func bringAttestations(c *vm.Config, dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		c.Files[filepath.Join(attestations, strings.TrimPrefix(name, dir))] = name
		return nil
	})
}

// containers runs containers in the guest.
type containers struct{ log bytes.Buffer }

// start starts containerd and imports the image, as it is blessed and as it was before.
func start(t *testing.T) *containers {
	t.Helper()
	c := startContainerd(t)
	c.ctr(t, "images", "import", "--base-name", "app", imageFile)
	c.ctr(t, "images", "import", "--base-name", "plain", plainFile)
	return c
}

func startContainerd(t *testing.T) *containers {
	t.Helper()
	c := new(containers)
	cmd := exec.Command("containerd", "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = &c.log, &c.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // says that it was killed
		if t.Failed() {
			t.Logf("containerd:\n%s", c.log.Bytes())
		}
	})
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if err := exec.Command("ctr", "version").Run(); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("containerd does not answer")
		}
	}
	return c
}

func (c *containers) ctr(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ctr", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// run starts a container that does nothing until it is killed.
func (c *containers) run(t *testing.T, name string) {
	t.Helper()
	c.runOf(t, "app", name)
}

// runOf starts one of the image whose name begins so.
func (c *containers) runOf(t *testing.T, image, name string) {
	t.Helper()
	c.ctr(t, "run", "-d", c.image(t, image), name, "/usr/bin/sleep", "1000000")
}

func (c *containers) image(t *testing.T, prefix string) string {
	t.Helper()
	images := strings.Fields(c.ctr(t, "images", "ls", "-q"))
	i := slices.IndexFunc(images, func(s string) bool { return strings.HasPrefix(s, prefix) })
	if i < 0 {
		t.Fatalf("images %v", images)
	}
	return images[i]
}

// exec runs a shell command in a running container.
func (c *containers) exec(name, command string) (string, error) {
	id := strings.ReplaceAll(time.Now().Format("150405.000000000"), ".", "-")
	out, err := exec.Command("ctr", "tasks", "exec", "--exec-id", "e"+id, name, "/usr/bin/dash", "-c", command).CombinedOutput()
	return string(out), err
}

// pid gives the first process of a container.
func (c *containers) pid(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(c.ctr(t, "tasks", "ls")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			return f[1]
		}
	}
	t.Fatalf("no task of container %s", name)
	return ""
}
