// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
)

const podUID = "0d1c6c8e-9d0f-4b8e-8f6b-6a0a6d3f2b11"

func podOf(parent string) *api.PodSandbox {
	return &api.PodSandbox{Uid: podUID, Name: "web", Namespace: "default", Linux: &api.LinuxPodSandbox{CgroupParent: parent}}
}

// Only a cgroup that is one pod's alone can be closed.
func TestPodCgroup(t *testing.T) {
	slice := "kubepods-besteffort-pod" + strings.ReplaceAll(podUID, "-", "_") + ".slice"
	for _, c := range []struct{ cgroup, parent, want string }{
		{"/c/kubepods.slice/" + slice + "/cri-containerd-1.scope", slice, "/c/kubepods.slice/" + slice},
		{"/c/kubepods/pod" + podUID + "/1", "/kubepods/pod" + podUID, "/c/kubepods/pod" + podUID},
		{"/c/k8s.io/1", "", ""},
		{"/c/k8s.io/1", "/k8s.io", ""},
		{"/c/pods/1", "/kubepods/pod" + podUID, ""},
	} {
		if got := podCgroup(&Container{Cgroup: c.cgroup}, podOf(c.parent)); got != c.want {
			t.Errorf("%s below %s: %q", c.cgroup, c.parent, got)
		}
	}
	if got := podCgroup(&Container{Cgroup: "/c/pod/1"}, &api.PodSandbox{Linux: &api.LinuxPodSandbox{CgroupParent: "/pod"}}); got != "" {
		t.Errorf("without a UID: %q", got)
	}
}

// A closed pod has each of its containers registered, those too that the policy leaves alone, and
// is open again when policy, break-glass or the end of its sandbox say so.
func TestClosedPod(t *testing.T) {
	const closed = "keys: [k]\nmode: enforce\nunblessed: deny\nwithout-agent: deny\n"
	const ignoring = closed + "matches: [{container: left, mode: ignore}]\n"
	r := newRig(t)
	r.start(ignoring)
	of := func(name string) (kinds []string) {
		domains, _ := r.kernel.Domains()
		for _, d := range domains {
			if d.Name != name {
				continue
			}
			kind := "audit"
			switch {
			case d.Closed && d.Enforce:
				kind = "closed"
			case d.Closed:
				kind = "closed, reports"
			case d.Exempt:
				kind = "exempt"
			case d.Enforce:
				kind = "enforce"
			}
			kinds = append(kinds, kind)
		}
		return kinds
	}
	is := func(name string, want ...string) {
		t.Helper()
		if got := of(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	dir := filepath.Join("pod"+podUID, "sandbox")
	sandbox := r.container(dir, "pause")
	sandbox.ID, sandbox.Name, sandbox.Sandbox = "sandbox", "sandbox", true
	pod := podOf("/kubepods/pod" + podUID)
	inPod := func(name, image string) Container {
		c := r.container(filepath.Join("pod"+podUID, name), image)
		c.ID, c.Name = name, name
		return c
	}
	// Its event may come first.
	if err := r.Admit(t.Context(), sandbox, Created); err != nil || !r.said("container", "allowed", ReasonNoAttestation) {
		t.Errorf("%v %+v", err, r.notices)
	}
	is("sandbox")
	if err := r.Close(t.Context(), sandbox, pod); err != nil {
		t.Fatal(err)
	}
	is("sandbox", "exempt")
	is("pod default/web", "closed")
	left, blessed := inPod("left", "other"), inPod("app", "blessed")
	for _, c := range []Container{left, blessed} {
		if err := r.Admit(t.Context(), c, Starting); err != nil {
			t.Fatal(err)
		}
	}
	is("left", "exempt")
	is("app", "enforce")
	if !r.Known(&left) {
		t.Error("each look for containers would admit it again")
	}
	// Another agent knows all that.
	r.start(ignoring)
	is("left", "exempt")
	r.write(closed)
	if err := r.Reload(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	is("left", "enforce")
	if err := os.WriteFile(r.dir+"/glass", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Glass(); err != nil {
		t.Fatal(err)
	}
	is("pod default/web", "closed, reports")
	if err := os.Remove(r.dir + "/glass"); err != nil {
		t.Fatal(err)
	}
	if err := r.Glass(); err != nil {
		t.Fatal(err)
	}
	is("pod default/web", "closed")
	if err := r.Open(pod); err != nil {
		t.Fatal(err)
	}
	is("pod default/web")
	if err := r.Close(t.Context(), sandbox, pod); err != nil {
		t.Fatal(err)
	}
	is("pod default/web", "closed")
	r.write(strings.Replace(closed, "without-agent: deny", "without-agent: allow", 1))
	if err := r.Reload(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	is("pod default/web")
	if err := r.Close(t.Context(), sandbox, pod); err != nil {
		t.Fatal(err)
	}
	is("pod default/web")
}
