// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Labels of Kubernetes mean something where its runtime plugin sets them, and nothing where
// an image may bring them.
func TestKubernetesLabels(t *testing.T) {
	for space, want := range map[string][2]string{criNamespace: {"dns", "kube-system"}, "default": {"id", "default"}} {
		c := Container{Name: "id", Namespace: space, Labels: map[string]string{labelContainer: "dns", labelPodNamespace: "kube-system"}}
		c.fromCRI(space)
		if got := [2]string{c.Name, c.Namespace}; got != want {
			t.Errorf("%s: %v", space, got)
		}
	}
}

func TestSandboxOfContainerd(t *testing.T) {
	for _, c := range []struct {
		space, kind string
		want        bool
	}{{criNamespace, "sandbox", true}, {criNamespace, "container", false}, {criNamespace, "", false}, {"default", "sandbox", false}} {
		if got := isSandbox(c.space, map[string]string{labelKind: c.kind}); got != c.want {
			t.Errorf("%s %q: %v", c.space, c.kind, got)
		}
	}
}

type task struct {
	containerd.Task
	pid    uint32
	status containerd.ProcessStatus
}

func (t task) ID() string  { return "x" }
func (t task) Pid() uint32 { return t.pid }
func (t task) Status(context.Context) (containerd.Status, error) {
	return containerd.Status{Status: t.status}, nil
}

// The pid of a task that ended is another process's.
func TestFirstOf(t *testing.T) {
	for _, c := range []struct {
		task task
		ok   bool
	}{
		{task{pid: 7, status: containerd.Running}, true},
		{task{pid: 7, status: containerd.Created}, true},
		{task{pid: 7, status: containerd.Paused}, true},
		{task{pid: 7, status: containerd.Stopped}, false},
		{task{status: containerd.Created}, false},
	} {
		pid, err := firstOf(t.Context(), c.task)
		if (err == nil) != c.ok || !c.ok && !errdefs.IsNotFound(err) || c.ok && pid != 7 {
			t.Errorf("%+v: %d, %v", c.task, pid, err)
		}
	}
}

// strict takes no request without a namespace, as containerd does.
type strict struct {
	content.Store
	t *testing.T
}

func (s strict) ReaderAt(ctx context.Context, _ ocispec.Descriptor) (content.ReaderAt, error) {
	space, err := namespaces.NamespaceRequired(ctx)
	if err != nil || space != "shop" {
		s.t.Errorf("namespace %q: %v", space, err)
	}
	return nil, context.Canceled
}

func TestStoredNamespace(t *testing.T) {
	s := stored{strict{t: t}, "shop"}
	if _, err := s.Blob(t.Context(), v1.Descriptor{}); err == nil {
		t.Error("no error")
	}
	if _, err := s.Manifest(t.Context(), v1.Descriptor{Size: 1}); err == nil {
		t.Error("no error")
	}
}
