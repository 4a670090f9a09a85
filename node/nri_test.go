// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"

	"github.com/sbom-bless/sbom-bless/enforce"
)

// The other side is the library that containerd and CRI-O have NRI from, with a
// socket between. What they ask is answered as the policy says.
func TestNRI(t *testing.T) {
	r := newRig(t)
	lists, slow := r.lists, stalled(t)
	r.lists = func(ctx context.Context, c *Container) (List, error) {
		if c.Name == "slow" {
			return slow(ctx, c)
		}
		return lists(ctx, c)
	}
	r.start("keys: [k]\nmode: enforce\nunblessed: deny\n")
	dir := t.TempDir()
	socket := filepath.Join(dir, "nri.sock")
	runtime, err := adaptation.New("containerd", "2.0", func(ctx context.Context, sync adaptation.SyncCB) error {
		_, err := sync(ctx, nil, nil)
		return err
	}, func(context.Context, []*adaptation.ContainerUpdate) ([]*adaptation.ContainerUpdate, error) {
		return nil, nil
	},
		adaptation.WithSocketPath(socket), adaptation.WithPluginPath(filepath.Join(dir, "plugins")), adaptation.WithPluginConfigPath(filepath.Join(dir, "conf")))
	if err != nil {
		t.Fatal(err)
	}
	if err := runtime.Start(); err != nil {
		t.Fatal(err)
	}
	defer runtime.Stop()
	n := &NRI{Agent: r.Agent, Socket: socket, Runtimes: map[string]Runtime{"containerd": fakeRuntime{Runtime: &Containerd{}, r: r}}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	for end := time.Now().Add(20 * time.Second); !r.said("runtime", "found", ""); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the plugin does not register")
		}
	}
	ask := func(id string) error {
		defer runtime.BlockPluginSync().Unblock()
		return runtime.StartContainer(t.Context(), &api.StartContainerRequest{Pod: &api.PodSandbox{Id: "pod"}, Container: &api.Container{Id: id, Name: id}})
	}
	if err := ask("good"); err != nil || r.kernel.state("good") != "enforce 2" {
		t.Errorf("%v, %q", err, r.kernel.state("good"))
	}
	if err := ask("bad"); err == nil || !strings.Contains(err.Error(), "container bad of other@sha256:1111") || !strings.Contains(err.Error(), "may not start: no-attestation") {
		t.Errorf("%v", err)
	}
	if err := ask("slow"); err == nil || !strings.Contains(err.Error(), "may not start: unreachable") {
		t.Errorf("its list does not come, and the policy wants nothing unblessed: %v", err)
	}
	if err := ask("bad"); err == nil {
		t.Error("the plugin is dropped, for it was late")
	}
	start := func(id string) error { // sooner than the runtime wants it
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		return n.StartContainer(ctx, nil, &api.Container{Id: id, Name: id})
	}
	r.write("keys: [k]\nwithout-agent: deny\n")
	if err := r.Reload(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := start("stuck"); err == nil {
		t.Error("a container starts that nobody could judge, where the policy says deny")
	}
	r.write("keys: [k]\nwithout-agent: allow\n")
	if err := r.Reload(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := start("stuck"); err != nil || !r.said("container", "failed", "") {
		t.Errorf("a container must wait, where the policy says allow: %v", err)
	}
	if err := start("slow"); err != nil || r.kernel.state("slow") != "audit 0" {
		t.Errorf("%v, %q", err, r.kernel.state("slow"))
	}
	r.lists = func(context.Context, *Container) (List, error) {
		return List{Set: enforce.Set{Files: make([]enforce.File, 2)}}, nil
	}
	if err := r.Sweep(t.Context()); err != nil || r.kernel.state("slow") != "audit 2" {
		t.Errorf("its list has come: %v, %q", err, r.kernel.state("slow"))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// fakeRuntime has whatever container it is asked for.
type fakeRuntime struct {
	Runtime
	r *rig
}

func (f fakeRuntime) AdmitStarting(ctx context.Context, id string) error {
	image := "other"
	switch id {
	case "good":
		image = "blessed"
	case "stuck":
		select {} // whatever its context says
	}
	return f.r.Admit(ctx, f.r.container(id, image), Starting)
}
