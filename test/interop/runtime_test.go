// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// hello is a command that proves that the shell, the loader and libc of the image run.
var hello = []string{"/bin/bash", "-c", "echo hello from $(. /etc/os-release; echo $ID)"}

const greeting = "hello from debian"

// containerd runs a containerd of its own and returns ctr's first arguments.
func containerd(t *testing.T) []string {
	dir := workdir(t)
	socket := filepath.Join(dir, "sock")
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n[debug]\nlevel = \"warn\"\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, "unix", socket, "containerd", "--config", config)
	return []string{"--address", socket}
}

// ctrMount has containerd import the image of a layout, unpack and mount it.
func ctrMount(t *testing.T, ctr []string, layout, name string) (ref, rootfs string) {
	t.Helper()
	dir := workdir(t)
	archive, rootfs := filepath.Join(dir, "image.tar"), filepath.Join(dir, "rootfs")
	run(t, "tar", "-C", layout, "-cf", archive, ".")
	run(t, "ctr", append(ctr[:2:2], "image", "import", "--base-name", name, archive)...)
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	ref = name + ":" + tag
	run(t, "ctr", append(ctr[:2:2], "image", "mount", ref, rootfs)...)
	return ref, rootfs
}

func TestContainerdUnpacksEveryAttributeAndRunsTheImage(t *testing.T) {
	im, ctr := must[image](t)(ecdsa()), containerd(t)
	ref, rootfs := ctrMount(t, ctr, im.layout, "test.example/debian")
	checkAttributes(t, rootfs)
	list := files(t, rootfs)
	if n := verified(t, im.prefix+".der", list); n != len(list) {
		t.Errorf("evmctl accepts %d of %d files", n, len(list))
	}
	if out := run(t, "ctr", slices.Concat(ctr, []string{"run", "--rm", ref, "test"}, hello)...); out != greeting {
		t.Errorf("the container said %q", out)
	}
}

// tarUnpack has GNU tar unpack the layers of a layout, one over the other.
func tarUnpack(t *testing.T, dir string) (rootfs string) {
	t.Helper()
	rootfs = workdir(t)
	for _, l := range layers(t, dir) {
		run(t, "tar", "-C", rootfs, "--xattrs", "--xattrs-include=*", "-xpf", filepath.Join(dir, "blobs", "sha256", l.Digest.Hex))
	}
	return rootfs
}

func TestEvmctlAcceptsEveryFileUnpackedFromOddLayers(t *testing.T) {
	im, ctr := must[image](t)(ecdsa()), containerd(t)
	im.options = []string{"--no-attestations"}
	// containerd's overlayfs snapshotter cannot link to lower layers, and it knows no GNU sparse files.
	notForContainerd := map[string]bool{"hardlinks": true, "sparse-gnu": true}
	for _, c := range testimage.Cases() {
		if c.Refused {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			dir := t.TempDir()
			source, blessed := filepath.Join(dir, "source"), filepath.Join(dir, "blessed")
			if err := c.Make().WriteLayout(source, tag); err != nil {
				t.Fatal(err)
			}
			must[string](t)(im.bless("oci:"+source+":"+tag, "oci:"+blessed+":"+tag))
			var rootfs string
			if notForContainerd[c.Name] {
				rootfs = tarUnpack(t, blessed)
			} else {
				_, rootfs = ctrMount(t, ctr, blessed, "test.example/"+c.Name)
			}
			list := files(t, rootfs)
			if len(list) == 0 && c.Name != "no-layers" {
				t.Error("no files")
			}
			if n := verified(t, im.prefix+".der", list); n != len(list) {
				t.Errorf("evmctl accepts %d of %d files", n, len(list))
			}
		})
	}
}

// store returns the arguments that keep podman and buildah to a store of their own.
func store(t *testing.T) []string {
	dir := workdir(t)
	return []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "overlay"}
}

func TestPodmanPullsFromARegistryKeepsEveryAttributeAndRunsTheImage(t *testing.T) {
	im := must[image](t)(rsa())
	ref := dockerRegistry(t) + "/debian:blessed"
	must[string](t)(im.bless("oci:"+im.source+":"+tag, ref))
	args := append(store(t), "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc")
	podman := func(more ...string) string {
		t.Helper()
		return run(t, "podman", append(args[:len(args):len(args)], more...)...)
	}
	podman("pull", "--quiet", "--tls-verify=false", ref)
	checkAttributes(t, podman("image", "mount", ref))
	out := podman(append([]string{"run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", ref}, hello...)...)
	if out != greeting {
		t.Errorf("the container said %q", out)
	}
}

func TestAnImageBuiltOnABlessedOneKeepsItsLayerAndAttributes(t *testing.T) {
	im := must[image](t)(ecdsa())
	args := store(t)
	buildah := func(more ...string) string {
		t.Helper()
		return run(t, "buildah", append(args[:len(args):len(args)], more...)...)
	}
	container := buildah("from", im.ref())
	root := buildah("mount", container)
	checkAttributes(t, root)
	if err := os.WriteFile(filepath.Join(root, "new"), []byte("new\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	built := filepath.Join(workdir(t), "built")
	buildah("commit", "--quiet", container, "oci:"+built+":"+tag)
	// The same diffID: the same tar, with every attribute. (buildah may compress it anew.)
	before, after := diffIDs(t, im.layout), diffIDs(t, built)
	if len(after) != len(before)+1 || after[0] != before[0] {
		t.Errorf("diffIDs were %v, are %v", before, after)
	}
}

func diffIDs(t *testing.T, dir string) []string {
	t.Helper()
	return strings.Fields(run(t, "skopeo", "inspect", "--config", "--format", "{{range .RootFS.DiffIDs}}{{.}} {{end}}", "oci:"+dir+":"+tag))
}
