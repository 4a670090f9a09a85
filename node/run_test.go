// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"os"
	"testing"
	"time"
)

// TestServe runs an agent as `enforce run` does, on a host without container runtimes.
func TestServe(t *testing.T) {
	r := newRig(t)
	r.start("keys: [k]\nmode: enforce\n")
	if err := r.Admit(t.Context(), r.container("a", "blessed"), Starting); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reload, failures := make(chan struct{}, 1), make(chan error, 100)
	wait, err := r.Serve(ctx, Config{
		Containerd: r.dir + "/containerd.sock", NRI: r.dir + "/nri.sock", Storage: r.dir + "/storage",
		Reload: reload, Failed: func(err error) { failures <- err },
		GlassEvery: 10 * time.Millisecond, SaveEvery: 10 * time.Millisecond, ScanEvery: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: does not happen", what)
			}
		}
	}
	if state := r.kernel.state("a"); state != "enforce 2" {
		t.Fatalf("before: %s", state)
	}
	if err := os.WriteFile(r.dir+"/glass", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until("break-glass", func() bool { return r.kernel.state("a") == "audit 2" })
	if err := os.Remove(r.dir + "/glass"); err != nil {
		t.Fatal(err)
	}
	until("break-glass is over", func() bool { return r.kernel.state("a") == "enforce 2" })
	r.write("keys: [k]\nmode: audit\n")
	reload <- struct{}{}
	until("another policy", func() bool { return r.kernel.state("a") == "audit 2" })
	r.write("keys: [k]\nmode: enforce\n")
	if err := AskReload(t.Context(), r.dir+"/state", 0); err != nil {
		t.Fatal(err)
	}
	until("the policy before", func() bool { return r.kernel.state("a") == "enforce 2" })
	cancel()
	ended := make(chan struct{})
	go func() { wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	close(failures)
	for err := range failures {
		t.Errorf("failed: %v", err)
	}
}
