// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

var operations = map[blessOp]string{
	blessOpOP_EXEC:        "exec",
	blessOpOP_MMAP:        "mmap",
	blessOpOP_MPROTECT:    "mprotect",
	blessOpOP_READ_CODE:   "read-code",
	blessOpOP_WRITE:       "write",
	blessOpOP_SETATTR:     "setattr",
	blessOpOP_XATTR:       "xattr",
	blessOpOP_UNLINK:      "unlink",
	blessOpOP_RENAME:      "rename",
	blessOpOP_LINK:        "link",
	blessOpOP_IOCTL:       "ioctl",
	blessOpOP_PTRACE:      "ptrace",
	blessOpOP_BPF:         "bpf",
	blessOpOP_MODULE:      "module",
	blessOpOP_SOCKET:      "socket",
	blessOpOP_UMOUNT:      "umount",
	blessOpOP_MOUNT:       "mount",
	blessOpOP_USERFAULTFD: "userfaultfd",
	blessOpOP_CREATE:      "create",
	blessOpOP_SIGNAL:      "signal",
	blessOpOP_LIMIT:       "limit",
}

var reasons = map[blessReason]string{
	blessReasonREASON_ALLOWED:        "",
	blessReasonREASON_NO_DOMAIN:      "no-domain",
	blessReasonREASON_REJECTED_FS:    "rejected-fs",
	blessReasonREASON_FOREIGN_FS:     "foreign-fs",
	blessReasonREASON_WRITABLE_LAYER: "writable-layer",
	blessReasonREASON_WRITER:         "writer",
	blessReasonREASON_TOO_LARGE:      "too-large",
	blessReasonREASON_NO_DIGEST:      "no-digest",
	blessReasonREASON_NO_SET:         "no-set",
	blessReasonREASON_NOT_LISTED:     "not-listed",
	blessReasonREASON_NOT_SIGNED:     "not-signed",
	blessReasonREASON_BAD_SIGNATURE:  "bad-signature",
	blessReasonREASON_ANONYMOUS:      "anonymous",
	blessReasonREASON_WRITE_EXEC:     "write-exec",
	blessReasonREASON_GUARDED:        "guarded",
	blessReasonREASON_HARDENED:       "hardened",
	blessReasonREASON_SELF:           "self",
	blessReasonREASON_TAKEOVER:       "takeover",
	blessReasonREASON_UNANNOUNCED:    "unannounced",
}

// counterNames are the counters beyond the reasons.
var counterNames = map[blessReason]string{
	blessReasonREASON_ALLOWED:  "judged-good",
	blessReasonREASON_LOST:     "lost-events",
	blessReasonREASON_REPEATED: "repeated",
	blessReasonREASON_HASHED:   "hashed",
	blessReasonREASON_UNMARKED: "inodes-full",
	blessReasonREASON_FOREIGN:  "skipped-records",
}

// Events reads reports until the given time, or forever
// when it is the zero time; f gets each. One reader at a time: two would each
// get part of the events. Records of another version are skipped and counted, and
// the first of them gives an event.
func (e *Enforcer) Events(until time.Time, f func(Event) error) error {
	r, err := ringbuf.NewReader(e.maps["events"])
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	defer r.Close()
	r.SetDeadline(until)
	names := names{e: e, domains: map[uint32]*known{}}
	for skipped := false; ; {
		record, err := r.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("events: %w", err)
		}
		event, err := decode(record.RawSample)
		if errors.Is(err, errOtherRecord) {
			if err := e.countSkipped(); err != nil {
				return err
			}
			if skipped {
				continue
			}
			skipped = true
			e := Event{Time: time.Now().UTC(), Action: "skipped", Operation: "events", Message: "skipped: events: " + err.Error()}
			if err := f(e); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := names.fill(&event.Event, event.file); err != nil {
			return err
		}
		if err := f(event.Event); err != nil {
			return err
		}
	}
}

type decoded struct {
	Event
	file uint32
}

// errOtherRecord is wrapped by errors about a record that programs of another version wrote.
var errOtherRecord = errors.New("programs of another version wrote it; `sbom-bless enforce status` counts such records as skipped-records")

// decode reads one record of the ring buffer.
func decode(b []byte) (decoded, error) {
	var r blessEvent
	if len(b) != binary.Size(r) {
		return decoded{}, fmt.Errorf("a record of %d bytes: %w", len(b), errOtherRecord)
	}
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, &r); err != nil {
		return decoded{}, fmt.Errorf("event of %d bytes: %w", len(b), err)
	}
	if r.Version != uint32(blessEventVersionEVENT_VERSION) {
		return decoded{}, fmt.Errorf("a record of version %d: %w", r.Version, errOtherRecord)
	}
	op, ok := operations[blessOp(r.Op)]
	reason, ok2 := reasons[blessReason(r.Reason)]
	if !ok || !ok2 {
		return decoded{}, fmt.Errorf("a record with operation %d, reason %d: %w", r.Op, r.Reason, errOtherRecord)
	}
	ev := Event{
		Time: wall(r.Time), Domain: r.Domain, Cgroup: r.Cgroup, Operation: op, Reason: reason,
		PID: r.Pid, Command: text(r.Comm[:]), UID: r.Uid, Device: r.Dev, Inode: r.Inode, Errno: r.Error, Action: "allowed",
	}
	for _, a := range r.Ancestors {
		if a.Pid == 0 {
			break
		}
		ev.Ancestors = append(ev.Ancestors, Process{a.Pid, text(a.Comm[:])})
	}
	if reason != "" {
		ev.Action = "reported"
		if r.Denied != 0 {
			ev.Action = "denied"
		}
	}
	if r.Digest != [32]byte{} {
		ev.SHA256 = hex.EncodeToString(r.Digest[:])
	}
	path := make([]byte, len(r.Path))
	for i, c := range r.Path {
		path[i] = byte(c)
	}
	if r.Reversed != 0 {
		ev.Path = upwards(path)
	} else {
		ev.Path = cString(path)
	}
	return decoded{ev, r.File}, nil
}

// upwards joins names that go from the file to the root.
func upwards(b []byte) string {
	parts := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	if parts[0] == "" {
		return ""
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/")
}

func text(b []int8) string {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = byte(c)
	}
	return cString(out)
}

func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// wall turns CLOCK_MONOTONIC into the time of day.
func wall(ns uint64) time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(now.Nano() - int64(ns))).UTC()
}

// names gives events the names that the kernel does not know.
type names struct {
	e       *Enforcer
	domains map[uint32]*known
	updates uint32 // of e when they were read
}

type known struct {
	Domain
	files  []File
	byPath map[string]int
}

func (n *names) fill(ev *Event, file uint32) error {
	d, err := n.domain(ev.Domain)
	if err != nil {
		return err
	}
	if d != nil {
		ev.Container, ev.Image = d.Name, d.Image
		i, listed := d.byPath[ev.Path]
		if ev.Action == "allowed" && int(file) < len(d.files) {
			i, listed = int(file), true
		}
		if listed {
			ev.Listed, ev.Package, ev.List = true, d.files[i].Package, d.files[i].Image
			if ev.Reason == "not-listed" {
				ev.Reason = "modified"
			}
		}
	}
	ev.Rule, ev.Message = ev.remedy().rule, ev.message()
	return nil
}

func (n *names) domain(id uint32) (*known, error) {
	if updates := n.e.updates.Load(); updates != n.updates {
		clear(n.domains)
		n.updates = updates
	}
	if d, ok := n.domains[id]; ok || n.e.options.State == "" || id == 0 {
		return d, nil
	}
	domains, err := n.e.Domains()
	if err != nil {
		return nil, err
	}
	for _, d := range domains {
		if d.ID != id {
			continue
		}
		var set Set // without a list there is none
		if d.SetID != 0 {
			set, err = n.e.set(d.SetID, d.Image)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // removed meanwhile
		}
		if err != nil { // events go on without packages
			set = Set{}
		}
		if len(n.domains) >= 64 { // of containers that come and go
			clear(n.domains)
		}
		k := &known{d, set.Files, map[string]int{}}
		for i, f := range slices.Backward(set.Files) { // the image's own before what was joined
			k.byPath[f.Path] = i
		}
		n.domains[id] = k
		return k, nil
	}
	return nil, nil
}

// Listing says what the list of a domain has about a path and a digest; nil: there is no such domain.
func (e *Enforcer) Listing(domain uint32, path, sha256 string) (*Listing, error) {
	domains, err := e.Domains()
	if err != nil {
		return nil, err
	}
	for _, d := range domains {
		if d.ID != domain {
			continue
		}
		var set Set // without a list there is none
		if d.SetID != 0 {
			set, err = e.set(d.SetID, d.Image)
		}
		return set.Listing(path, sha256), err
	}
	return nil, nil
}

// countSkipped counts a record that could not be read, where `enforce status` finds it. Only the
// reader of events writes this counter.
func (e *Enforcer) countSkipped() error {
	key, n := uint32(blessReasonREASON_FOREIGN), uint64(0)
	err := e.maps["counters"].Lookup(key, &n)
	if err == nil {
		err = e.maps["counters"].Put(key, n+1)
	}
	if err != nil {
		return fmt.Errorf("counters: %w", err)
	}
	return nil
}

// Counters tells how often each reason was given since the verifier was loaded.
func (e *Enforcer) Counters() (map[string]uint64, error) {
	out := map[string]uint64{}
	for i, name := range CounterNames() {
		var n uint64
		if err := e.maps["counters"].Lookup(uint32(i), &n); err != nil {
			return nil, fmt.Errorf("counters: %w", err)
		}
		out[name] = n
	}
	return out, nil
}

// CounterNames are the names that Counters uses: the reasons first.
func CounterNames() []string {
	var out []string
	for i := range blessReasonREASONS {
		name := counterNames[i]
		if name == "" {
			name = reasons[i]
		}
		out = append(out, name)
	}
	return out
}
