// SPDX-License-Identifier: Apache-2.0

package transport

// containerd imports our archives, and exports what Docker saves too when it
// keeps its images in containerd's store.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// containerd gives a function that runs ctr against a containerd of its own.
func containerd(t *testing.T) func(args ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root\nhint: sudo -E go test")
	}
	dir, err := os.MkdirTemp("", "containerd") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "config.toml")
	err = os.WriteFile(config, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	ctr := lookup(t, "containerd", "ctr")
	ready := func() bool { return exec.Command(ctr, "--address", socket, "version").Run() == nil }
	start(t, ready, exec.Command(lookup(t, "containerd", "containerd"), "--config", config, "--root", dir+"/root", "--state", dir+"/state", "--address", socket))
	return func(args ...string) string {
		t.Helper()
		return run(t, "containerd", append([]string{"ctr", "--address", socket}, args...)...)
	}
}

func TestContainerdImportsAndExports(t *testing.T) {
	t.Parallel()
	ctr := containerd(t)
	dir := t.TempDir()
	for i, test := range []struct {
		ref string
		c   *content
	}{
		{"docker-archive:" + dir + "/d.tar:example.test/docker:1", testImage(5000, 10_000)},
		{"oci-archive:" + dir + "/o.tar:example.test/oci:1", testImage(6000, 10_000)},
		{"oci-archive:" + dir + "/x.tar:example.test/index:1", testIndex()},
	} {
		test.c.write(t, test.ref, Options{})
		_, rest, _ := strings.Cut(test.ref, ":")
		file, name, _ := strings.Cut(rest, ":")
		ctr("images", "import", "--all-platforms", "--no-unpack", file)
		if list := ctr("images", "list", "name=="+name); !strings.Contains(list, test.c.root.Digest.String()) {
			t.Errorf("containerd has %s, want %s", list, test.c.root.Digest)
		}
		out := filepath.Join(dir, "out", string(rune('a'+i)))
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			t.Fatal(err)
		}
		ctr("images", "export", "--all-platforms", out, name)
		for _, ref := range []string{"docker-archive:" + out, "docker-archive:" + out + ":" + name, "oci-archive:" + out} {
			same(t, read(t, ref, Options{}), test.c)
		}
	}
}
