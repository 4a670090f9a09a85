// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command demo boots a virtual machine as a node that runs a blessed image, and has
// hack/demo-node.sh attack it there: demo SBOM-BLESS LAYOUT ATTESTATIONS CERTIFICATE. The machine
// has the programs of this host that the script uses, and of the image all files.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/sbom-bless/sbom-bless/internal/vm"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: demo SBOM-BLESS LAYOUT ATTESTATIONS CERTIFICATE")
		os.Exit(2)
	}
	if err := demo(os.Stdout, os.Args[1], os.Args[2], os.Args[3], os.Args[4], "hack/demo-node.sh"); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(w io.Writer, product, image, attestations, certificate, script string) (err error) {
	root, err := os.MkdirTemp("", "sbom-bless-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	digest, err := unpack(image, root)
	if err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	files, err := vm.Programs("dash", "mount", "umount", "chroot", "mkdir", "cat", "sed", "grep", "sleep", "tee")
	if err != nil {
		return err
	}
	maps.Copy(files, map[string]string{
		"/usr/bin/sbom-bless": product, "/image": root, "/attestations": attestations, "/bless.crt": certificate,
		"/demo-node.sh": script,
	})
	dash, err := exec.LookPath("dash")
	if err != nil {
		return err
	}
	result, err := vm.Run(context.Background(), vm.Config{
		Kernel: "6.12", Program: dash, Args: []string{"/demo-node.sh", "shop@" + digest}, Files: files, Memory: 2560, Output: w,
	})
	if err == nil && result.Exit != 0 {
		err = fmt.Errorf("the script ends with status %d", result.Exit)
	}
	return err
}

// unpack writes the files of the first image of a layout to a directory, as tar(1) has them, and
// gives its digest.
func unpack(dir, root string) (string, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return "", err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", err
	}
	if len(manifest.Manifests) == 0 {
		return "", errors.New("there is no image in it")
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return "", err
	}
	content := mutate.Extract(image)
	defer content.Close()
	tar := exec.Command("tar", "-x", "-C", root)
	tar.Stdin, tar.Stderr = content, os.Stderr
	return manifest.Manifests[0].Digest.String(), tar.Run()
}
