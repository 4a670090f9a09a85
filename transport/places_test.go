// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"io"
	"log"
)

var quiet = ggcr.Logger(log.New(io.Discard, "", 0))

// memoryRegistry is go-containerregistry's registry in this process.
func memoryRegistry(t *testing.T, opts ...ggcr.Option) string {
	s := httptest.NewServer(ggcr.New(append(opts, quiet)...))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// dockerRegistry is the registry of Debian's package, distribution's own.
func dockerRegistry(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	err = os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: %s\n  delete:\n    enabled: true\nhttp:\n  addr: %s\n", dir, host), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	start(t, answers("http://"+host+"/v2/"), exec.Command(lookup(t, "docker-registry", "docker-registry"), "serve", config))
	return host
}

func TestEveryPlaceGivesBackWhatWasPut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	memory, docker := memoryRegistry(t), dockerRegistry(t)
	for _, ref := range []string{
		memory + "/app:1",
		docker + "/some/app:1",
		"docker://" + memory + "/b/app",
		"oci:" + dir + "/layout:1",
		"oci:" + dir + "/untagged",
		"oci-archive:" + dir + "/a.tar:v1",
		"oci-archive:" + dir + "/untagged.tar",
	} {
		t.Run(ref, func(t *testing.T) {
			for _, c := range []*content{testImage(5000, 100000), testIndex()} {
				name := c.write(t, ref, Options{})
				same(t, read(t, ref, Options{}), c)
				same(t, read(t, name, Options{}), c)
				if !strings.HasSuffix(name, "@"+c.root.Digest.String()) {
					t.Errorf("canonical name is %s", name)
				}
				s, err := Open(t.Context(), ref, Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if s.Reference() != name {
					t.Errorf("reference is %s, want %s", s.Reference(), name)
				}
			}
		})
	}
	for _, ref := range []string{"docker-archive:" + dir + "/d.tar", "docker-archive:" + dir + "/e.tar:app:1"} {
		t.Run(ref, func(t *testing.T) {
			c := testImage(5000, 100000)
			if name := c.write(t, ref, Options{}); name != ref {
				t.Errorf("canonical name is %s", name)
			}
			same(t, read(t, ref, Options{}), c)
		})
	}
}

func TestArchivesAreDeterministic(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []string{"oci-archive", "docker-archive"} {
		c := testImage(1, 2000, 30000)
		a, b := filepath.Join(dir, "a.tar"), filepath.Join(dir, "b.tar")
		c.write(t, kind+":"+a+":app:1", Options{})
		c.write(t, kind+":"+b+":app:1", Options{})
		x, err := os.ReadFile(a)
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(x) != string(y) {
			t.Errorf("%s: two runs make two archives", kind)
		}
	}
	if left := filesIn(t, dir); len(left) != 2 {
		t.Errorf("left behind: %q", left)
	}
}
