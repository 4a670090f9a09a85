// SPDX-License-Identifier: Apache-2.0

package cli

// Progress on stderr: bars on a terminal, a line per layer elsewhere; with --verbose a line per stage.

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/urfave/cli/v2"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress is the bless.Progress of the commands.
type progress struct {
	w     io.Writer
	mu    sync.Mutex
	bars  *mpb.Progress // on a terminal
	later []string      // what to say below the bars
	mute  bool
	tell  bool          // when a stage ends
	slow  time.Duration // from which on a stage is shown on a terminal while it lasts

	stages []*mpb.Bar // shown
	closed bool
}

func newProgress(c *cli.Context, quiet bool) *progress {
	p := &progress{w: c.App.ErrWriter, mute: quiet, tell: c.Bool("verbose"), slow: time.Second}
	if f, ok := p.w.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
		p.bars = mpb.New(mpb.WithOutput(f), mpb.WithWidth(40))
	}
	return p
}

// Layer begins the bar of a layer, or its line.
func (p *progress) Layer(desc v1.Descriptor) (add func(int64), done func(string)) {
	name := desc.Digest.Hex[:12]
	if p.bars == nil {
		return func(int64) {}, func(outcome string) {
			p.line("%s  %10s  %s", name, bytesText(desc.Size), outcome)
		}
	}
	bar := p.bars.AddBar(desc.Size,
		mpb.PrependDecorators(decor.Name(name), decor.CountersKiloByte(" % .1f / % .1f", decor.WCSyncSpace)),
		mpb.AppendDecorators(decor.OnComplete(decor.Percentage(decor.WC{W: 5}), " done")))
	return func(n int64) { bar.IncrInt64(n) }, func(outcome string) {
		if outcome == "failed" {
			bar.Abort(false)
			return
		}
		bar.SetTotal(desc.Size, true)
	}
}

// Stage shows on a terminal what takes its time, and with --verbose everywhere what took how long.
func (p *progress) Stage(name string) (end func()) {
	begun := time.Now()
	var bar *mpb.Bar
	ended := false
	show := time.AfterFunc(p.slow, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.bars == nil || p.closed || ended {
			return
		}
		elapsed := decor.Elapsed(decor.ET_STYLE_GO, decor.WCSyncSpace)
		bar = p.bars.AddSpinner(0, mpb.PrependDecorators(decor.Name(name), elapsed))
		p.stages = append(p.stages, bar)
	})
	return func() {
		show.Stop()
		p.mu.Lock()
		ended = true
		if bar != nil {
			bar.Abort(true)
		}
		p.mu.Unlock()
		if p.tell {
			p.line("%-40s %6.1f s", name, time.Since(begun).Seconds())
		}
	}
}

// Notice shows a remark.
func (p *progress) Notice(text string) { p.line("%s", text) }

func (p *progress) line(format string, a ...any) {
	if p.mute {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf(format+"\n", a...)
	if p.bars != nil { // they would be drawn over it
		p.later = append(p.later, text)
		return
	}
	fmt.Fprint(p.w, text)
}

// close leaves the bars as they stand.
func (p *progress) close() {
	if p.bars == nil {
		return
	}
	p.mu.Lock()
	p.closed = true
	for _, bar := range p.stages {
		bar.Abort(true) // a scan that does not end is left behind, and with it its stage
	}
	p.mu.Unlock()
	p.bars.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bars = nil
	for _, text := range p.later {
		fmt.Fprint(p.w, text)
	}
	p.later = nil
}
