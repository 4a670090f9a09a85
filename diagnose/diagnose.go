// SPDX-License-Identifier: Apache-2.0

// Package diagnose makes sense of what a node reports: [Explain] says in plain words why something was
// denied and what would allow it, and [Learner] finds the least policy under which what audit saw would
// pass. Both take a [Record], as a line of a node's events has it, so they work on any machine.
//
// It knows reports, not kernels: whoever has a verifier at hand can add what the list of the
// container says.
package diagnose

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/policy"
)

// Record is an event of the verifier with what the agent knows of the container, or a notice of the agent.
type Record struct {
	enforce.Event
	// Namespace is what a policy matches by that name, Pod the name of the pod.
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	// Rules are those that a container was put under, where a notice tells that.
	Rules *policy.Rules `json:"rules,omitempty"`
}

// refused tells whether something was denied, or would have been.
func (r *Record) refused() bool {
	return r.Reason != "" && (r.Action == "denied" || r.Action == "reported")
}

// ErrNoRecord is wrapped by errors about a line that is none.
var ErrNoRecord = errors.New("no event")

const maxLine = 1 << 20

// Read gives the records of r, one a line. What stands before the first brace of a line is passed over,
// as `kubectl logs --prefix` puts it there. Lines that are no records give an error each, and reading goes on.
func Read(r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxLine)
		for number := 1; lines.Scan(); number++ {
			var rec Record
			line := lines.Bytes()
			brace := bytes.IndexByte(line, '{')
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			err := fmt.Errorf("line %d: %w", number, ErrNoRecord)
			if brace >= 0 && json.Unmarshal(line[brace:], &rec) == nil && rec.Operation != "" && rec.Action != "" {
				err = nil
			}
			if !yield(rec, err) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Record{}, err)
		}
	}
}

// Denial is something that was denied, or would have been, and how often.
type Denial struct {
	Record           // the last time
	Times  int       `json:"times"`
	First  time.Time `json:"first"`
}

// Query says which denials are meant. Empty fields mean any.
type Query struct {
	Container, Namespace, Pod, Path string
}

func (q Query) fits(r *Record) bool {
	return (q.Container == "" || q.Container == r.Container) && (q.Namespace == "" || q.Namespace == r.Namespace) &&
		(q.Pod == "" || q.Pod == r.Pod) && (q.Path == "" || q.Path == r.Path)
}

// Bounds of Recent. One container that fills it drives out no other's.
const (
	maxDenials      = 1024
	maxPerContainer = 32
)

// Recent remembers the last denials: the same one once, with the times it came. Its zero value is ready.
type Recent struct {
	mu    sync.Mutex
	known map[denialKey]*Denial
}

type denialKey struct {
	domain                             uint32
	container, operation, reason, path string
}

// Add takes in a record, if it is about a denial.
func (r *Recent) Add(rec Record) {
	if !rec.refused() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := denialKey{rec.Domain, rec.Container, rec.Operation, rec.Reason, rec.Path}
	if d := r.known[key]; d != nil {
		d.Record, d.Times = rec, d.Times+1
		return
	}
	if r.known == nil {
		r.known = map[denialKey]*Denial{}
	}
	var oldest, own denialKey
	count := 0
	for k, d := range r.known {
		if o := r.known[oldest]; o == nil || d.Time.Before(o.Time) {
			oldest = k
		}
		if k.domain != key.domain || k.container != key.container {
			continue
		}
		count++
		if o := r.known[own]; o == nil || d.Time.Before(o.Time) {
			own = k
		}
	}
	switch {
	case count >= maxPerContainer:
		delete(r.known, own)
	case len(r.known) >= maxDenials:
		delete(r.known, oldest)
	}
	r.known[key] = &Denial{Record: rec, Times: 1, First: rec.Time}
}

// Last gives those that are asked for, the last one first, and no more than a number of them.
func (r *Recent) Last(q Query, limit int) []Denial {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Denial
	for d := range maps.Values(r.known) {
		if q.fits(&d.Record) {
			list = append(list, *d)
		}
	}
	slices.SortFunc(list, func(a, b Denial) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Operation, b.Operation))
	})
	return list[:min(len(list), limit)]
}
