// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8"
)

// screen is a terminal that keeps what was on it.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A stage that takes its time is shown on a terminal while it lasts; one that never ends holds nothing up.
func TestSlowStagesAreShown(t *testing.T) {
	out := &screen{}
	p := &progress{w: out, slow: 10 * time.Millisecond, bars: mpb.New(mpb.WithOutput(out), mpb.WithAutoRefresh(), mpb.WithRefreshRate(5*time.Millisecond))}
	p.Stage("quick")()
	end := p.Stage("pushing")
	p.Stage("endless")
	for begun := time.Now(); !strings.Contains(out.String(), "pushing") || !strings.Contains(out.String(), "endless"); time.Sleep(time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("not shown: %q", out)
		}
	}
	end()
	p.close()
	if strings.Contains(out.String(), "quick") {
		t.Errorf("shown: %q", out)
	}
	p.Stage("later")()
}
