// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package runtime runs a blessed image under containerd and runc, as Debian
// ships them, in a virtual machine with the verifier in force: the image works
// as before, what it did not bring does not run, and the agent can be exchanged
// in between.
package runtime

import (
	"archive/tar"
	"bytes"
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

const (
	imageFile  = "/blessed.tar"
	imageFiles = "/image" // its content, for the file list
)

func TestContainerd(t *testing.T) {
	config := vm.Config{Memory: 2048, Timeout: 10 * time.Minute, Host: prepare}
	vm.Test(t, nil, config, underContainerd)
}

// prepare makes an image, blesses it with the product, and brings it together
// with the runtime.
func prepare(t vm.TB, c *vm.Config) {
	t.Helper()
	dir := t.TempDir()
	product, layout, archive := filepath.Join(dir, "sbom-bless"), filepath.Join(dir, "layout"), filepath.Join(dir, "blessed.tar")
	root := filepath.Join(dir, "root")
	for _, d := range []string{"tmp", "proc", "dev", "sys", "run"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files, err := vm.Programs(imagePrograms...)
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range files {
		if err := copyFile(filepath.Join(root, name), from); err != nil {
			t.Fatal(err)
		}
	}
	layer := filepath.Join(dir, "layer.tar")
	if err := writeLayer(layer, root); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key")
	for _, args := range [][]string{
		{"go", "build", "-o", product, "github.com/sbom-bless/sbom-bless"},
		{"umoci", "init", "--layout", layout},
		{"umoci", "new", "--image", layout + ":source"},
		{"umoci", "raw", "add-layer", "--image", layout + ":source", layer},
		{product, "keygen", "--type", "rsa-2048", "--out", key},
		{product, "bless", "oci:" + layout + ":source", "-t", "oci-archive:" + archive + ":app", "--key", key + ".key", "--no-cache"},
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
	c.Files[imageFile] = archive
	c.Files[imageFiles] = root
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
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		h := &tar.Header{Name: name[len(root)+1:], Mode: 0o755, Typeflag: tar.TypeDir}
		var content []byte
		if !d.IsDir() {
			h.Typeflag = tar.TypeReg
			if content, err = os.ReadFile(name); err != nil {
				return err
			}
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// containers runs containers in the guest.
type containers struct{ log bytes.Buffer }

// start starts containerd and imports the image.
func start(t *testing.T) *containers {
	t.Helper()
	c := new(containers)
	cmd := exec.Command("containerd", "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = &c.log, &c.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
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
	c.ctr(t, "images", "import", "--base-name", "app", imageFile)
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
	images := strings.Fields(c.ctr(t, "images", "ls", "-q"))
	i := slices.IndexFunc(images, func(s string) bool { return strings.HasPrefix(s, "app") })
	if i < 0 {
		t.Fatalf("images %v", images)
	}
	c.ctr(t, "run", "-d", images[i], name, "/usr/bin/sleep", "1000000")
}

// exec runs a shell command in a running container.
func (c *containers) exec(name, command string) (string, error) {
	id := strings.ReplaceAll(time.Now().Format("150405.000000000"), ".", "-")
	out, err := exec.Command("ctr", "tasks", "exec", "--exec-id", "e"+id, name, "/usr/bin/dash", "-c", command).CombinedOutput()
	return string(out), err
}

func cgroupOf(name string) string { return "/sys/fs/cgroup/default/" + name }

func rootOf(name string) string {
	return "/run/containerd/io.containerd.runtime.v2.task/default/" + name + "/rootfs"
}
