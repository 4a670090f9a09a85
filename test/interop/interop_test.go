// SPDX-License-Identifier: Apache-2.0

// Package interop holds what sbom-bless writes against the tools that users
// have: evmctl judges the signatures, and umoci, containerd, podman, buildah,
// skopeo and Docker's registry read, serve, unpack and run the images.
//
// The tests need root and the packages of hack/install-tools.sh test.
package interop

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// tag names the image in every layout here.
const tag = testimage.Tag

// packages tells where Debian has the tools.
var packages = map[string]string{
	"umoci": "umoci", "evmctl": "ima-evm-utils", "skopeo": "skopeo", "buildah": "buildah", "podman": "podman",
	"containerd": "containerd", "ctr": "containerd", "runc": "runc", "docker-registry": "docker-registry",
	"openssl": "openssl", "tar": "tar", "bsdtar": "libarchive-tools",
}

// shared is the directory of what several tests use.
var shared string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("test/interop: two minutes of other tools are not short")
		os.Exit(0)
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "test/interop: root is needed: unpackers set security.* attributes and mount")
		os.Exit(1)
	}
	var err error
	if shared, err = os.MkdirTemp("", "interop-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(shared)
	os.Exit(code)
}

// program builds the command once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(shared, "sbom-bless")
	build := exec.Command("go", "build", "-tags=netgo,osusergo", "-o", path, ".")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// image is a blessed image in an OCI layout, and its key: prefix.key, .pub, .crt, .der.
type image struct {
	source, layout, prefix string
	options                []string
}

func (im image) ref() string { return "oci:" + im.layout + ":" + tag }

// ecdsa and rsa are the small Debian image, blessed once with each kind of key;
// the second has portable EVM signatures too.
var (
	ecdsa = sync.OnceValues(func() (image, error) { return makeImage("ecdsa-p256") })
	rsa   = sync.OnceValues(func() (image, error) { return makeImage("rsa-2048", "--evm") })
)

func makeImage(keyType string, options ...string) (image, error) {
	dir := filepath.Join(shared, keyType)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return image{}, err
	}
	im := image{layout: filepath.Join(dir, "blessed"), prefix: filepath.Join(dir, "bless"), options: options}
	var err error
	if im.source, err = debian(); err != nil {
		return im, err
	}
	if _, err := sbomBless("keygen", "--type", keyType, "--out", im.prefix); err != nil {
		return im, err
	}
	_, err = im.bless("oci:"+im.source+":"+tag, im.ref())
	return im, err
}

// bless blesses another image, or to another place, with the key and options of this one.
func (im image) bless(from, to string) (string, error) {
	args := []string{"bless", from, "-t", to, "--key", im.prefix + ".key", "--no-cache", "--quiet"}
	return sbomBless(append(args, im.options...)...)
}

// debian is the image to bless.
func debian() (string, error) { return testimage.Real(context.Background(), "small") }

// sbomBless runs the command under test and returns its standard output.
func sbomBless(args ...string) (string, error) {
	path, err := program()
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("sbom-bless %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(stdout.String()), nil
}

// must returns what worked.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// run runs a tool, which must succeed, and returns its standard output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	stdout, stderr, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// try runs a tool, which may fail; it fails the test when the tool is missing.
func try(t *testing.T, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	need(t, name)
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%s is missing: apt-get install %s", tool, packages[tool])
	}
}

// start runs a server until the test ends. It is up when address takes connections.
func start(t *testing.T, network, address, name string, args ...string) {
	t.Helper()
	need(t, name)
	var log bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, &log)
		}
	})
	for range 200 {
		if conn, err := net.Dial(network, address); err == nil {
			conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s does not listen on %s", name, address)
}

// workdir is a temporary directory in which tools may mount.
func workdir(t *testing.T) string {
	dir := must[string](t)(os.MkdirTemp("", "interop-"))
	t.Cleanup(func() {
		table, _ := os.ReadFile("/proc/self/mountinfo")
		var points []string
		for _, line := range strings.Split(string(table), "\n") {
			if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
				points = append(points, f[4])
			}
		}
		slices.Reverse(points)
		for _, p := range points {
			syscall.Unmount(p, syscall.MNT_DETACH)
		}
		os.RemoveAll(dir)
	})
	return dir
}

// files lists the regular files below root.
func files(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// attribute reads an extended attribute; nil when the file has none.
func attribute(t *testing.T, path, name string) []byte {
	t.Helper()
	value := make([]byte, 4096)
	n, err := syscall.Getxattr(path, name, value)
	if err == syscall.ENODATA {
		return nil
	}
	if err != nil {
		t.Fatalf("%s: %s: %v", path, name, err)
	}
	return value[:n]
}

// checkAttributes demands security.ima of every file below root and
// security.bpf.bless of programs, and that a runtime's view is that of umoci.
func checkAttributes(t *testing.T, root string) {
	t.Helper()
	list := files(t, root)
	if len(list) < 4000 {
		t.Errorf("%s: %d files are not a Debian system", root, len(list))
	}
	for _, path := range list {
		if len(attribute(t, path, "security.ima")) == 0 {
			t.Errorf("%s: no security.ima", path)
		}
	}
	for _, name := range []string{"usr/bin/bash", "usr/bin/ldd", "usr/lib/x86_64-linux-gnu/libc.so.6"} {
		if len(attribute(t, filepath.Join(root, name), "security.bpf.bless")) == 0 {
			t.Errorf("%s: no security.bpf.bless", name)
		}
	}
}
