// SPDX-License-Identifier: Apache-2.0

package bless

import "sync"

// workers make and check signatures. They are few and stay, because that takes a
// deep stack, which each new goroutine would have to grow first.
type workers struct {
	work chan func() // taken as soon as one is free
	wait sync.WaitGroup
}

func newWorkers(n int) *workers {
	w := &workers{work: make(chan func())}
	for range n {
		w.wait.Go(func() {
			for f := range w.work {
				f()
			}
		})
	}
	return w
}

// stop ends them; nobody may send work any more.
func (w *workers) stop() {
	close(w.work)
	w.wait.Wait()
}
