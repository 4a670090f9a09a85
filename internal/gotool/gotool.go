// SPDX-License-Identifier: Apache-2.0

// Package gotool builds programs of other projects from their Go modules, for
// tests and benchmarks that hold ours against them.
package gotool

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Programs, and their versions. Of Syft and containerd these are what is linked into ours.
const (
	Cosign = "github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3"
	Buildx = "github.com/docker/buildx/cmd/buildx@v0.38.2"
	Syft   = "github.com/anchore/syft/cmd/syft@v1.57.0"

	Containerd     = "github.com/containerd/containerd/v2/cmd/containerd@v2.4.2"
	ContainerdShim = "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@v2.4.2"
	Ctr            = "github.com/containerd/containerd/v2/cmd/ctr@v2.4.2"
)

// Path gives the path of a program, which is built the first time, static, and then stays in
// the user's cache directory.
func Path(ctx context.Context, module string) (string, error) {
	pkg, version, _ := strings.Cut(module, "@")
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, "sbom-bless", "bin", version)
	path := filepath.Join(bin, filepath.Base(pkg))
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
