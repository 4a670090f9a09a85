// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

// The agent's life: what runs beside what, and how often.

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"
)

// Config is what Run needs.
type Config struct {
	Options
	// Containerd and NRI are sockets, Storage is the graph root of podman and CRI-O.
	Containerd, NRI, Storage string
	// Reload carries requests to read the policy file again; may be nil.
	Reload <-chan struct{}
	// Follow has the policy file read again when it changed, looked for when statistics are saved.
	Follow bool
	// Failed gets errors of parts that go on.
	Failed func(error)

	// How often the break-glass file is looked for, statistics are saved, and containers are looked
	// for that no runtime announced; zero: each second, ten seconds, minute.
	GlassEvery, SaveEvery, ScanEvery time.Duration
}

// Run has an agent put each container of this host under the policy, until ctx is done: then it returns nil,
// and what is in force stays so. Hold a [Lock] on the state before the verifier is loaded. Whoever
// hands the verifier's events to [Agent.Event] calls New, Start and Serve instead.
func Run(ctx context.Context, c Config) error {
	a, err := New(c.Options)
	if err == nil {
		err = a.Start(ctx)
	}
	if err != nil {
		return err
	}
	wait, err := a.Serve(ctx, c)
	if err != nil {
		return err
	}
	wait()
	return nil
}

// every calls f at each tick until it fails or ctx is done.
func every(ctx context.Context, interval time.Duration, f func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := f(); err != nil {
				return err
			}
		}
	}
}

// Serve brings containers to an agent that was started, until ctx is done. What it gives waits for the end.
func (a *Agent) Serve(ctx context.Context, c Config) (wait func(), err error) {
	containerd := &Containerd{Agent: a, Address: c.Containerd}
	server := &Server{Agent: a, Containerd: containerd, State: a.o.State}
	socket, err := server.Listen()
	if err != nil {
		return nil, err
	}
	storage := &Storage{Agent: a, Root: c.Storage, Cgroups: "/sys/fs/cgroup"}
	parts := []func(context.Context) error{
		func(ctx context.Context) error { return server.Serve(ctx, socket) },
		containerd.Run,
		(&NRI{Agent: a, Runtimes: map[string]Runtime{containerdName: containerd, CRIO: storage}, Socket: c.NRI}).Run,
		func(ctx context.Context) error { // waits for nothing that tend waits for
			return every(ctx, cmp.Or(c.GlassEvery, time.Second), func() error {
				if err := errors.Join(a.Glass(), a.Begin()); err != nil {
					c.Failed(err)
				}
				return nil
			})
		},
		func(ctx context.Context) error { return c.tend(ctx, a, containerd, storage) },
	}
	var running sync.WaitGroup
	for _, part := range parts {
		running.Go(func() {
			if err := part(ctx); err != nil {
				c.Failed(err)
			}
		})
	}
	return running.Wait, nil
}

// tend looks for containers that no runtime announced, reloads the policy when asked to or when it changed, and saves
// statistics, at the end too.
func (c *Config) tend(ctx context.Context, a *Agent, runtimes ...Runtime) error {
	save, scan := time.NewTicker(cmp.Or(c.SaveEvery, 10*time.Second)), time.NewTicker(cmp.Or(c.ScanEvery, time.Minute))
	defer save.Stop()
	defer scan.Stop()
	scanAll := func() (err error) {
		for _, r := range runtimes {
			err = errors.Join(err, r.Scan(ctx))
		}
		return err
	}
	err := scanAll()
	for {
		if err != nil && ctx.Err() == nil {
			c.Failed(err)
		}
		select {
		case <-ctx.Done():
			return a.Save()
		case <-c.Reload:
			err = a.Reload(ctx, 0)
		case <-save.C:
			err = a.Save()
			if c.Follow {
				err = errors.Join(err, a.Follow(ctx))
			}
		case <-scan.C:
			err = errors.Join(scanAll(), a.Sweep(ctx))
		}
	}
}
