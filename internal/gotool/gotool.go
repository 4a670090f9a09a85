// SPDX-License-Identifier: Apache-2.0

// Package gotool builds programs of other projects from their Go modules, for
// tests and benchmarks that hold ours against them.
package gotool

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Programs, and their versions. Of Syft and containerd these are what is linked into ours.
const (
	Cosign = "github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3"
	Buildx = "github.com/docker/buildx/cmd/buildx@v0.38.2"
	Syft   = "github.com/anchore/syft/cmd/syft@v1.57.0"
	Helm   = "helm.sh/helm/v4/cmd/helm@v4.3.1"

	Goreleaser = "github.com/goreleaser/goreleaser/v2@v2.15.1"
	Actionlint = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"

	Containerd     = "github.com/containerd/containerd/v2/cmd/containerd@v2.4.2"
	ContainerdShim = "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@v2.4.2"
	Ctr            = "github.com/containerd/containerd/v2/cmd/ctr@v2.4.2"

	crio = "github.com/cri-o/cri-o@v1.34.0"
)

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// Path gives the path of a program, which is built the first time, static, and then stays in
// the user's cache directory.
func Path(ctx context.Context, module string) (string, error) {
	pkg, version, _ := strings.Cut(module, "@")
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, "sbom-bless", "bin", version)
	name := filepath.Base(pkg)
	if majorVersion.MatchString(name) { // of the module: the program has the name before it
		name = filepath.Base(filepath.Dir(pkg))
	}
	path := filepath.Join(bin, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "sbom-bless-tool-") // outside of our module
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "go", "install", module)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", module, err, out)
	}
	return path, nil
}

// CRIO gives the paths of CRI-O and of its helper that holds namespaces, which is in C and
// makes it another build than those of Path: of the module's own source.
func CRIO(ctx context.Context) (daemon, pinns string, err error) {
	module, version, _ := strings.Cut(crio, "@")
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	bin := filepath.Join(cache, "sbom-bless", "bin", filepath.Base(module)+"-"+version)
	daemon, pinns = filepath.Join(bin, "crio"), filepath.Join(bin, "pinns")
	if _, err := os.Stat(bin); err == nil {
		return daemon, pinns, nil
	}
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return "", "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(bin), "building-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(dir)
	run := func(name string, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("building %s: %s: %w\n%s", crio, name, err, said.String())
		}
		return out, err
	}
	var source struct{ Dir string }
	out, err := run("go", "mod", "download", "-json", crio)
	if err == nil {
		err = json.Unmarshal(out, &source)
	}
	if err != nil {
		return "", "", err
	}
	made := filepath.Join(dir, "bin")
	if err := os.Mkdir(made, 0o755); err != nil {
		return "", "", err
	}
	tags := "containers_image_openpgp exclude_graphdriver_btrfs"
	if _, err := run("go", "build", "-C", source.Dir, "-tags", tags, "-o", filepath.Join(made, "crio"), "./cmd/crio"); err != nil {
		return "", "", err
	}
	c, err := filepath.Glob(filepath.Join(source.Dir, "pinns", "src", "*.c"))
	if err != nil {
		return "", "", err
	}
	if _, err := run("gcc", append([]string{"-static", "-O2", "-o", filepath.Join(made, "pinns")}, c...)...); err != nil {
		return "", "", err
	}
	return daemon, pinns, os.Rename(made, bin)
}
