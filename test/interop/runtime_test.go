// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hello is a command that proves that the shell, the loader and libc of the image run.
var hello = []string{"/bin/bash", "-c", "echo hello from $(. /etc/os-release; echo $ID)"}

const greeting = "hello from debian"

// containerd runs a containerd of its own and returns ctr's first arguments.
func containerd(t *testing.T) []string {
	dir := workdir(t)
	socket := filepath.Join(dir, "sock")
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, "unix", socket, "containerd", "--config", config)
	return []string{"--address", socket}
}

func TestContainerdUnpacksEveryAttributeAndRunsTheImage(t *testing.T) {
	im := must[image](t)(ecdsa())
	address := containerd(t)
	ctr := func(args ...string) string {
		t.Helper()
		return run(t, "ctr", append(address[:2:2], args...)...)
	}
	archive := filepath.Join(workdir(t), "image.tar")
	run(t, "tar", "-C", im.layout, "-cf", archive, ".")
	ctr("image", "import", "--base-name", "test.example/debian", archive)
	const ref = "test.example/debian:" + tag

	mounted := filepath.Join(workdir(t), "rootfs")
	if err := os.Mkdir(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	ctr("image", "mount", ref, mounted)
	checkAttributes(t, mounted)
	list := files(t, mounted)
	if n := verified(t, im.prefix+".der", list); n != len(list) {
		t.Errorf("evmctl accepts %d of %d files", n, len(list))
	}

	if out := ctr(append([]string{"run", "--rm", ref, "test"}, hello...)...); out != greeting {
		t.Errorf("the container said %q", out)
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
