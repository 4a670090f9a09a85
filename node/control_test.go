// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestServer(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\nunblessed: deny\n")
	state := r.dir + "/state"
	if err := AskConfirm(t.Context(), state); !errors.Is(err, ErrNoAgent) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	s := &Server{Agent: r.Agent, State: state}
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- s.Serve(ctx, l) }()
	if err := AskConfirm(t.Context(), state); err == nil || err.Error() != ErrNothingToConfirm.Error() {
		t.Errorf("%v", err)
	}
	r.write("mode: [audit]")
	if err := AskReload(t.Context(), state, 0); err == nil || !strings.Contains(err.Error(), "policy:1: mode: a list") {
		t.Errorf("%v", err)
	}
	r.write("keys: [k]\nmode: enforce\nunblessed: deny\n# again")
	if err := errors.Join(AskReload(t.Context(), state, time.Hour), AskConfirm(t.Context(), state)); err != nil {
		t.Error(err)
	}
	if err := AskHook(t.Context(), state, &specs.State{ID: "x", Bundle: "/nonexistent"}); err == nil || errors.Is(err, ErrRefused) || errors.Is(err, ErrNoAgent) {
		t.Errorf("%v", err)
	}
	container := &specs.State{ID: "x", Pid: os.Getpid(), Bundle: bundle(t, t.TempDir(), specs.Spec{Annotations: map[string]string{AnnotationImage: "i@sha256:" + strings.Repeat("1", 64)}})}
	if err := AskHook(t.Context(), state, container); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no-attestation") {
		t.Errorf("%v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Storage finds containers by the names of cgroups, and believes none that a user may have given.
func TestStorage(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\n")
	root, top := t.TempDir(), t.TempDir()
	id := strings.Repeat("a", 64)
	for name, text := range map[string]string{
		"overlay-containers/" + id + "/userdata/config.json": `{}`,
		"overlay-containers/containers.json":                 `[{"id":"` + id + `","names":["web"],"image":"cafe","layer":"top"}]`,
		"overlay-images/images.json":                         `[{"id":"cafe","digest":"sha256:1111","names":["blessed/app:1"],"layer":"base"}]`,
		"overlay-layers/layers.json":                         `[{"id":"base"},{"id":"top","parent":"base"}]`,
	} {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	c := r.within("x", "", t.TempDir())
	s := &Storage{Agent: r.Agent, Root: root, Cgroups: top}
	for _, f := range []struct {
		name, above string
		owner       int // of the cgroup above
		found       bool
	}{
		{"libpod-" + id + ".scope", "user@1000.service", 1000, false},
		{"libpod-" + id + ".scope", "machine.slice", 0, true},
		{"libpod-" + id, "libpod_parent", 0, true},
		{"libpod-payload-" + id, "web.service", 0, true},
		{"libpod-conmon-" + id + ".scope", "machine.slice", 0, false},
	} {
		above := filepath.Join(top, f.above)
		dir := filepath.Join(above, f.name)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chown(above, f.owner, -1), os.CopyFS(dir, os.DirFS(c.Cgroup)), s.Scan(t.Context())); err != nil {
			t.Fatal(err)
		}
		if found := r.kernel.state("web") != ""; found != f.found {
			t.Errorf("%s/%s: found %v", f.above, f.name, found)
		}
		clear(r.kernel.domains)
		if err := errors.Join(r.Sweep(t.Context()), os.RemoveAll(above)); err != nil {
			t.Fatal(err)
		}
	}
}

// CRI-O's own word makes a sandbox, never a label or an annotation, which a pod's author writes.
func TestSandboxOfCRIO(t *testing.T) {
	root, id := t.TempDir(), strings.Repeat("a", 64)
	for _, c := range []struct {
		runtime, metadata string
		want              bool
	}{
		{CRIO, `{"pod":true,"pod-id":"` + id + `"}`, true},
		{CRIO, `{"pod":true,"pod-id":"another"}`, false},
		{CRIO, `{"pod-id":"` + id + `"}`, false},
		{CRIO, ``, false},
		{"podman", `{"pod":true,"pod-id":"` + id + `"}`, false},
	} {
		file := root + "/overlay-containers/containers.json"
		err := os.MkdirAll(filepath.Dir(file), 0o700)
		if err = errors.Join(err, writeJSON(file, []storedContainer{{ID: id, Metadata: c.metadata}})); err != nil {
			t.Fatal(err)
		}
		got := Container{Runtime: c.runtime, ID: id, Labels: map[string]string{
			"io.kubernetes.cri-o.ContainerType": "sandbox", labelKind: "sandbox", "io.kubernetes.cri-o.Labels": `{"io.kubernetes.cri-o.ContainerType":"sandbox"}`,
		}}
		if fromPod(root, &got); got.Sandbox != c.want {
			t.Errorf("%s %s: %v", c.runtime, c.metadata, got.Sandbox)
		}
	}
}

// There is one agent to a state directory.
func TestLock(t *testing.T) {
	state := t.TempDir() + "/state"
	first, err := Lock(state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(state); err == nil || !strings.Contains(err.Error(), "agent.lock: an agent runs already\nhint: ") {
		t.Errorf("%v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(state); err != nil {
		t.Error(err)
	}
}

// bundle writes a bundle's config.json.
func bundle(t *testing.T, rootfs string, spec specs.Spec) string {
	t.Helper()
	dir := t.TempDir()
	spec.Root = &specs.Root{Path: rootfs}
	b, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// What an OCI hook is told becomes a container. The files are as podman 4.3 and CRI-O write them.
func TestFromHook(t *testing.T) {
	root := t.TempDir()
	const id = "f00d"
	for name, text := range map[string]string{
		"overlay-containers/containers.json": `[{"id":"f00d","names":["web"],"image":"cafe","layer":"top","metadata":"{\"image-name\":\"registry.example/app:2\",\"name\":\"web\"}"},
			{"id":"strange","names":["strange"],"image":"cafe","layer":"other"},{"id":"built","names":["built"],"image":"local","layer":"top"},
			{"id":"lost","names":["lost"],"image":"removed","layer":"top"}]`,
		"overlay-containers/volatile-containers.json": `[{"id":"brief","names":["brief"],"image":"cafe","layer":"top"}]`,
		"overlay-images/images.json": `[{"id":"cafe","digest":"sha256:1111","names":["registry.example/app:1","registry.example/app:2"],"layer":"base"},
			{"id":"local","names":["localhost/x:1"],"layer":"base"}]`,
		"overlay-layers/layers.json": `[{"id":"base"},{"id":"top","parent":"base"},{"id":"other","parent":"elsewhere"}]`,
	} {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	rootfs := filepath.Join(root, "overlay/top/merged")
	for _, c := range []struct {
		id, rootfs  string
		annotations map[string]string
		want        Container
	}{
		{id, rootfs, nil, Container{Runtime: "podman", Name: "web", Image: "registry.example/app:2", Digest: "sha256:1111"}},
		{"brief", rootfs, nil, Container{Runtime: "podman", Name: "brief", Image: "registry.example/app:1", Digest: "sha256:1111"}},
		{"built", rootfs, nil, Container{Runtime: "podman", Name: "built", Image: "localhost/x:1", Problem: "image localhost/x:1 has no manifest: it was built here"}},
		{"strange", rootfs, nil, Container{
			Runtime: "podman", Name: "strange", Image: "registry.example/app:1",
			Problem: "the layer of container strange does not lie on image cafe",
		}},
		{"lost", rootfs, nil, Container{Runtime: "podman", Name: "lost", Problem: `containers/storage lacks image "removed" of container lost`}},
		{"unknown", rootfs, nil, Container{Runtime: "podman", Name: "unknown", Problem: "containers/storage does not know it"}},
		{id, rootfs, map[string]string{
			"io.container.manager": "cri-o", "io.kubernetes.cri-o.Labels": `{"io.kubernetes.pod.namespace":"shop","io.kubernetes.container.name":"front","team":"red"}`,
		}, Container{Runtime: "cri-o", Name: "front", Namespace: "shop", Image: "registry.example/app:2", Digest: "sha256:1111"}},
		{"plain", "rootfs", map[string]string{AnnotationImage: "r/app@sha256:22"}, Container{Runtime: "oci", Name: "plain", Image: "r/app", Digest: "sha256:22"}},
		{"old", "rootfs", map[string]string{annotationImageOld: "r/app@sha256:22"}, Container{Runtime: "oci", Name: "old", Image: "r/app", Digest: "sha256:22"}},
		{"bare", "rootfs", nil, Container{Runtime: "oci", Name: "bare", Problem: "no image store knows it, and annotation dev.sbom-bless.image does not name NAME@sha256:…"}},
	} {
		state := &specs.State{ID: c.id, Pid: os.Getpid(), Bundle: bundle(t, c.rootfs, specs.Spec{Annotations: c.annotations})}
		got, err := fromHook(t.Context(), state, nil)
		if err != nil {
			t.Errorf("%s: %v", c.id, err)
		}
		c.want.ID, c.want.PID = c.id, os.Getpid()
		if d := cmp.Diff(c.want, got, cmpopts.IgnoreFields(Container{}, "Labels", "Root", "Cgroup"), cmpopts.IgnoreUnexported(Container{})); d != "" {
			t.Errorf("%s: %s", c.id, d)
		}
		if !strings.HasPrefix(got.Cgroup, "/sys/fs/cgroup") || c.annotations["io.kubernetes.cri-o.Labels"] != "" && got.Labels["team"] != "red" {
			t.Errorf("%s: %+v", c.id, got)
		}
	}
}
