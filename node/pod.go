// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/nri/pkg/api"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/policy"
)

// Pods whose containers the runtime announces one by one (NRI) are closed: what runs in a pod's
// cgroup, in a root filesystem of its own, and in no container that the agent was asked about, may
// execute nothing. So a container for which the runtime waited too long, and which it then starts
// all the same, does not run. A pod is closed when the runtime announces it: its sandbox
// runs by then, and no container of it is made before the agent has answered.

// podCgroup is the cgroup of a pod that has this sandbox. The kubelet gives each pod one of its own
// and names it by the pod's UID (pkg/kubelet/cm/pod_container_manager_linux.go, v1.34); "" is
// another's, which other pods may share.
func podCgroup(sandbox *Container, pod *api.PodSandbox) string {
	dir := filepath.Dir(sandbox.Cgroup)
	name := filepath.Base(dir)
	parent := filepath.Base(pod.GetLinux().GetCgroupParent())
	// systemd's slices have "_" for the "-" of a UID.
	named := strings.Contains(strings.ReplaceAll(name, "_", "-"), "pod"+pod.GetUid())
	if name != parent || !named || pod.GetUid() == "" {
		return ""
	}
	return dir
}

// Close closes a pod, where the policy says that nothing starts without an agent. Its sandbox,
// which runs already, is admitted first.
func (a *Agent) Close(ctx context.Context, sandbox Container, pod *api.PodSandbox) error {
	dir := podCgroup(&sandbox, pod)
	if dir == "" || !a.closed() {
		return nil
	}
	a.mu.Lock()
	if a.pods[dir] != 0 {
		a.mu.Unlock()
		return nil
	}
	a.pods[dir] = 0 // from now on what is left alone there is registered as such
	a.mu.Unlock()
	err := a.Admit(ctx, sandbox, Created)
	a.mu.Lock()
	defer a.mu.Unlock()
	var id uint32
	if err == nil && a.force.rules.WithoutAgent == policy.AnswerDeny { // still
		id, err = a.o.Verifier.Add(enforce.Domain{
			Name: fmt.Sprintf("pod %s/%s", pod.GetNamespace(), pod.GetName()), Cgroup: dir, Closed: true, Rules: enforce.Rules{Enforce: !a.glass},
		}, enforce.Set{})
	}
	if _, wanted := a.pods[dir]; id != 0 && wanted {
		a.pods[dir] = id
		return nil
	}
	delete(a.pods, dir)
	if id != 0 { // the pod ended while it was being closed
		err = a.o.Verifier.Remove(enforce.Domain{ID: id, Cgroup: dir})
	}
	return err
}

// Open takes back Close, for a sandbox that ends: the pod may get another one, which runs before
// the runtime announces it.
func (a *Agent) Open(pod *api.PodSandbox) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for dir, id := range a.pods {
		if filepath.Base(dir) != filepath.Base(pod.GetLinux().GetCgroupParent()) {
			continue
		}
		delete(a.pods, dir)
		if id != 0 {
			errs = append(errs, a.o.Verifier.Remove(enforce.Domain{ID: id, Cgroup: dir}))
		}
	}
	return errors.Join(errs...)
}

// inClosedPod tells whether a container is in a pod that is closed, or about to be.
func (a *Agent) inClosedPod(c *Container) bool {
	_, is := a.pods[filepath.Dir(c.Cgroup)]
	return is
}

// exempt keeps a container that the policy leaves alone from being taken for one that nobody
// announced; the caller has the lock.
func (a *Agent) exempt(c *Container, d *decision, ino uint64) error {
	id, err := a.o.Verifier.Add(enforce.Domain{Name: c.Name, Cgroup: c.Cgroup, Exempt: true}, enforce.Set{Name: c.image()})
	if err != nil {
		return err
	}
	c.RootAt, _ = placeOf(c.Root) // of one that ended there is none
	r := &record{Container: *c, Domain: id, Inode: ino, Exempt: true}
	if d.unblessed != nil {
		r.Reason = d.unblessed.Reason
	}
	return a.keep(r)
}

// unexempt forgets that a container was left alone, once it is registered as what it is now.
func (a *Agent) unexempt(r *record) error {
	return a.o.Verifier.Remove(enforce.Domain{ID: r.Domain, Cgroup: r.Container.Cgroup})
}

// closedPods finds the pods that an agent before this one closed.
func (a *Agent) closedPods() error {
	domains, err := a.o.Verifier.Domains()
	for _, d := range domains {
		if d.Closed {
			a.pods[d.Cgroup] = d.ID
		}
	}
	return err
}

// keepPods does with closed pods what policy and break-glass say, and forgets those that ended. The
// caller has the lock.
func (a *Agent) keepPods() error {
	if len(a.pods) == 0 {
		return nil
	}
	domains, err := a.o.Verifier.Domains()
	if err != nil {
		return err
	}
	known := map[uint32]enforce.Domain{}
	for _, d := range domains {
		known[d.ID] = d
	}
	var errs []error
	for dir, id := range a.pods {
		d, is := known[id]
		switch {
		case id == 0: // being closed
		case !is:
			delete(a.pods, dir)
		case a.force != nil && a.force.rules.WithoutAgent != policy.AnswerDeny:
			err := a.o.Verifier.Remove(d)
			if err == nil {
				delete(a.pods, dir)
			}
			errs = append(errs, err)
		case d.Enforce == a.glass:
			errs = append(errs, a.o.Verifier.SetEnforce(id, !a.glass))
		}
	}
	return errors.Join(errs...)
}
