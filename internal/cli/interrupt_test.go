// SPDX-License-Identifier: Apache-2.0

package cli

// Ctrl-C and the SIGTERM of a CI job that is cancelled, while bless waits for a
// registry that has stalled in the middle of a layer.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// stalling is a registry that sends half of a layer and then no more, until it is
// healed.
type stalling struct {
	http.Handler
	layer   string // digest
	size    int
	stalled chan struct{} // told when it stalls
	healed  atomic.Bool
}

func (s *stalling) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.healed.Load() || r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, s.layer) {
		s.Handler.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(s.size))
	w.Write(make([]byte, s.size/2))
	w.(http.Flusher).Flush()
	s.stalled <- struct{}{}
	<-r.Context().Done()
}

func TestInterruptedRunLeavesNothingAndCanBeRepeated(t *testing.T) {
	var typical *testimage.Bundle
	for _, c := range testimage.Cases() {
		if c.Name == "typical" {
			typical = c.Make()
		}
	}
	dir := t.TempDir()
	if err := typical.WriteLayout(filepath.Join(dir, "source"), testimage.Tag); err != nil {
		t.Fatal(err)
	}
	reg := &stalling{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), stalled: make(chan struct{})}
	server := httptest.NewServer(reg)
	defer server.Close()
	ref := strings.TrimPrefix(server.URL, "http://") + "/app:1"
	command := func(args ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.Command("sbom-bless", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+dir+"/cache", "TMPDIR="+dir+"/tmp", "SBOM_BLESS_PASSWORD=")
		out := new(bytes.Buffer)
		cmd.Stdout, cmd.Stderr = out, out
		return cmd, out
	}
	must := func(args ...string) {
		t.Helper()
		if cmd, out := command(args...); cmd.Run() != nil {
			t.Fatalf("%v: %s", args, out)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	must("keygen", "--out", "bless")
	reg.healed.Store(true)
	// As the source is pushed, its layer becomes known.
	must("bless", "oci:source:"+testimage.Tag, "-t", ref, "--hash-only", "--no-attestations", "--no-cache")
	must("bless", "oci:source:"+testimage.Tag, "-t", "oci:pushed", "--hash-only", "--no-attestations", "--no-cache")
	for _, blob := range blobs(t, filepath.Join(dir, "pushed")) {
		if blob.packed {
			reg.layer, reg.size = blob.digest, blob.size
		}
	}
	if reg.layer == "" {
		t.Fatal("no layer to stall in")
	}
	reg.healed.Store(false)

	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		dest := "out-" + signal.String()
		cmd, out := command("bless", ref, "-t", "oci:"+dest, "--key", "bless.key", "--replace-xattrs")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-reg.stalled:
		case err := <-ended:
			t.Fatalf("ended before its time: %v: %s", err, out)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		var err error
		select {
		case err = <-ended:
		case <-time.After(time.Minute):
			cmd.Process.Kill()
			t.Fatalf("%s: still running after a minute", signal)
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitInt || !strings.Contains(out.String(), "sbom-bless: interrupted") {
			t.Errorf("%s: %v: %s", signal, err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, dest)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the destination is there: %v", signal, err)
		}
		for _, place := range []string{"tmp/*", "cache/sbom-bless/*/sbom-bless-*", "cache/sbom-bless/*/*/sbom-bless-*"} {
			if left, _ := filepath.Glob(filepath.Join(dir, place)); len(left) > 0 {
				t.Errorf("%s: left behind: %v", signal, left)
			}
		}
	}
	reg.healed.Store(true)
	must("bless", ref, "-t", "oci:out-interrupt", "--key", "bless.key", "--replace-xattrs")
	must("verify", "oci:out-interrupt", "--key", "bless.crt")
}

type storedBlob struct {
	digest string
	size   int
	packed bool // gzip
}

// blobs lists the content of a layout.
func blobs(t *testing.T, layout string) (list []storedBlob) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(layout, "blobs", "sha256", "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", layout, names, err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, storedBlob{"sha256:" + filepath.Base(name), len(raw), bytes.HasPrefix(raw, []byte{0x1f, 0x8b})})
	}
	return list
}
