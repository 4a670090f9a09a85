// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"
	"github.com/containerd/nri/pkg/stub"
)

// NRI is a plugin of a container runtime by the Node Resource Interface (containerd
// 1.7 and later with its CRI, CRI-O): a container starts when its list is loaded, or
// does not start if the policy forbids it.
type NRI struct {
	// Runtimes has each runtime that may serve the socket, by the name that it reports. An unknown
	// name means containerd.
	Runtimes map[string]Runtime
	// Socket is the runtime's.
	Socket string
	Agent  *Agent

	name atomic.Pointer[string] // the runtime's
	// timeout is how long the runtime waits for an answer; 0: it does not say.
	timeout func() time.Duration
}

// Run serves the runtime until ctx is done. It waits for one that is not
// there, or goes.
func (n *NRI) Run(ctx context.Context) error {
	for {
		if _, err := os.Stat(n.Socket); err == nil {
			if err := n.serve(ctx); err != nil && ctx.Err() == nil {
				n.Agent.notify(Notice{Operation: "runtime", Action: "lost", Message: fmt.Sprintf("NRI at %s: %v", n.Socket, err)})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Second):
		}
	}
}

func (n *NRI) serve(ctx context.Context) error {
	closed := n.Agent.closed()
	s, err := stub.New(n, stub.WithPluginName("sbom-bless"), stub.WithPluginIdx("90"), stub.WithSocketPath(n.Socket),
		stub.WithLogger(quiet{}), stub.WithFailurePolicy(&api.FailurePolicy{FailRequest: closed, KeepConnected: closed}))
	if err != nil {
		return err
	}
	defer s.Stop()
	n.timeout = s.RequestTimeout
	return s.Run(ctx)
}

// Configure learns which runtime it is.
func (n *NRI) Configure(_ context.Context, _, runtime, _ string) (api.EventMask, error) {
	n.name.Store(&runtime)
	return 0, nil // of what is asked, what this type has methods for
}

func (n *NRI) runtime() Runtime {
	if r, ok := n.Runtimes[*n.name.Load()]; ok {
		return r
	}
	return n.Runtimes[containerdName]
}

// Synchronize learns of containers that are there already. Containerd tells of them too, and
// of those outside of Kubernetes, and those of CRI-O are in its storage, so this has nothing to add.
func (n *NRI) Synchronize(context.Context, []*api.PodSandbox, []*api.Container) ([]*api.ContainerUpdate, error) {
	n.Agent.notify(Notice{Operation: "runtime", Action: "found", Message: "NRI at " + n.Socket})
	return nil, nil
}

// inTime runs f, and waits for it no longer than the runtime does: it drops a plugin that is late,
// and asks it no more.
func (n *NRI) inTime(ctx context.Context, f func(ctx context.Context) error) error {
	limit := n.timeout()
	if limit == 0 {
		limit = api.DefaultPluginRequestTimeout
	}
	spare := min(250*time.Millisecond, limit/8) // to tell the verifier in when a list did not come, and then the runtime
	ctx, cancel := context.WithTimeout(ctx, limit-spare)
	defer cancel()
	end, _ := ctx.Deadline()
	in, stop := context.WithDeadline(ctx, end.Add(-spare))
	defer stop()
	done := make(chan error, 1)
	go func() { done <- f(in) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done(): // it was no list that it waited for
		return ctx.Err()
	}
}

// RunPodSandbox is asked when a pod's sandbox runs, before any container of it is made.
func (n *NRI) RunPodSandbox(ctx context.Context, pod *api.PodSandbox) error {
	err := n.inTime(ctx, func(ctx context.Context) error {
		c, err := n.runtime().Sandbox(ctx, pod.GetId())
		if err != nil || c == nil {
			return err
		}
		return n.Agent.Close(ctx, *c, pod)
	})
	if err != nil { // it is as open as without this
		n.Agent.problem(pod.GetName(), fmt.Errorf("pod %s/%s is not closed: %w", pod.GetNamespace(), pod.GetName(), err))
	}
	return nil
}

// StopPodSandbox is asked before a pod's sandbox is stopped, for good or for another one.
func (n *NRI) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	if err := n.Agent.Open(pod); err != nil {
		n.Agent.problem(pod.GetName(), fmt.Errorf("pod %s/%s stays closed: %w", pod.GetNamespace(), pod.GetName(), err))
	}
	return nil
}

// StartContainer is asked between the container's making and its first instruction.
func (n *NRI) StartContainer(ctx context.Context, _ *api.PodSandbox, c *api.Container) error {
	begun := time.Now()
	err := n.inTime(ctx, func(ctx context.Context) error { return n.runtime().AdmitStarting(ctx, c.GetId()) })
	n.Agent.o.Metrics.waited(askedByNRI, begun)
	var refused *Refused
	if err == nil || errors.As(err, &refused) || n.Agent.closed() {
		return err
	}
	// It starts, and is put under its list when that comes: containerd tells of the start.
	n.Agent.problem(c.GetName(), err)
	return nil
}

// quiet drops what the library has to say: what matters comes as an error.
type quiet struct{}

func (quiet) Debugf(context.Context, string, ...any) {}
func (quiet) Infof(context.Context, string, ...any)  {}
func (quiet) Warnf(context.Context, string, ...any)  {}
func (quiet) Errorf(context.Context, string, ...any) {}

var _ nrilog.Logger = quiet{}
