// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/code"
)

func record(r blessEvent) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, r); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func put(to []int8, text string) {
	for i := range text {
		to[i] = int8(text[i])
	}
}

// A record says the same as the event made of it.
func TestDecode(t *testing.T) {
	r := blessEvent{Version: uint32(blessEventVersionEVENT_VERSION), Op: uint8(blessOpOP_UNLINK), Reason: uint8(blessReasonREASON_GUARDED), Denied: 1, Reversed: 1, Pid: 7, File: 3}
	put(r.Path[:], "sh\x00bin\x00usr\x00")
	put(r.Comm[:], "rm")
	e, err := decode(record(r))
	if err != nil {
		t.Fatal(err)
	}
	if e.Path != "/usr/bin/sh" || e.Operation != "unlink" || e.Reason != "guarded" || e.Action != "denied" ||
		e.Command != "rm" || e.PID != 7 || e.file != 3 || e.SHA256 != "" {
		t.Errorf("%+v", e)
	}
	e.Image = "app@sha256:1"
	if want := "denied: unlink: /usr/bin/sh is code of app@sha256:1 and may not be changed"; e.message() != want {
		t.Errorf("%s\nwant %s", e.message(), want)
	}
}

// A message says what happened in the words of the reason, whose list the file is on, and
// which rule would allow it.
func TestMessages(t *testing.T) {
	for _, c := range []struct {
		event      Event
		rule, want string
	}{
		{Event{Reason: "anonymous", Operation: "mmap"}, "jit", "denied: mmap: mmap requests anonymous executable memory; rule jit allows it"},
		{Event{Reason: "write-exec", Operation: "mprotect", Path: "/usr/bin/node"}, "jit", "denied: mprotect: /usr/bin/node would make writable memory executable; rule jit allows it"},
		{Event{Reason: "foreign-fs", Operation: "exec", Path: "/vol/x", Image: "app"}, "mounts", "denied: exec: /vol/x is not on the root filesystem of app; rule mounts allows listed files there"},
		{Event{Reason: "foreign-fs", Operation: "mmap", Path: "/memfd:doublemapper"}, "jit", "denied: mmap: /memfd:doublemapper is not on the root filesystem of this container's image; rule jit allows it"},
		{Event{Reason: "writable-layer", Operation: "exec", Path: "/x", Image: "app"}, "soft", "denied: exec: /x is in the writable layer, not in app; rule soft allows listed files there"},
		{Event{Reason: "guarded", Operation: "setattr", Path: "/x", Image: "app"}, "soft", "denied: setattr: /x is code of app and may not be changed; rule soft allows another owner or mode"},
		{Event{Reason: "guarded", Operation: "write", Path: "/x", Image: "app"}, "", "denied: write: /x is code of app and may not be changed"},
		{Event{Reason: "hardened", Operation: "userfaultfd"}, "jit", "denied: userfaultfd: userfaultfd is closed to enforced containers; rule jit allows it"},
		{Event{Reason: "hardened", Operation: "write", Path: "/dev/sdb"}, "devices", "denied: write: /dev/sdb is closed to enforced containers; rule devices allows block devices"},
		{Event{Reason: "hardened", Operation: "write", Path: "/dev/mem"}, "", "denied: write: /dev/mem is closed to enforced containers"},
		{Event{Reason: "hardened", Operation: "write", Path: "/proc/sys/kernel/core_pattern"}, "", "denied: write: /proc/sys/kernel/core_pattern is closed to enforced containers"},
		{Event{Reason: "hardened", Operation: "bpf"}, "", "denied: bpf: bpf is closed to enforced containers"},
		{Event{Reason: "too-large", Operation: "exec", Path: "/x"}, "max-size", "denied: exec: /x is larger than the policy allows; rule max-size sets the limit"},
		{Event{Reason: "modified", Operation: "exec", Path: "/x", Image: "app", List: "tool", Package: "deb t 1"}, "", "denied: exec: /x was modified since it was listed for tool (deb t 1)"},
		{Event{Operation: "exec", Path: "/x", Package: "deb t 1", Image: "app"}, "", "denied: exec: /x was judged good (deb t 1)"},
	} {
		c.event.Action = "denied"
		if got := c.event.message(); got != c.want || c.event.remedy().rule != c.rule {
			t.Errorf("%s, rule %q\nwant %s, %q", got, c.event.remedy().rule, c.want, c.rule)
		}
	}
	for key := range remedies {
		reason, operation, _ := strings.Cut(key, " ")
		known := operation == ""
		for _, op := range operations {
			known = known || op == operation
		}
		if sentences[reason].text == "" || !known {
			t.Errorf("remedy of %q, which no event has", key)
		}
	}
}

// What programs of another version wrote is told from what is broken, whatever differs.
func TestDecodeOtherVersion(t *testing.T) {
	good := blessEvent{Version: uint32(blessEventVersionEVENT_VERSION), Op: uint8(blessOpOP_EXEC)}
	if _, err := decode(record(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*blessEvent){
		"version":   func(r *blessEvent) { r.Version++ },
		"operation": func(r *blessEvent) { r.Op = 200 },
		"reason":    func(r *blessEvent) { r.Reason = uint8(blessReasonREASON_LOST) },
	} {
		r := good
		change(&r)
		if _, err := decode(record(r)); !errors.Is(err, errOtherRecord) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for _, b := range [][]byte{nil, []byte("short"), record(good)[:504], append(record(good), 0)} {
		if _, err := decode(b); !errors.Is(err, errOtherRecord) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// Every operation and reason of the programs has a name and a sentence.
func TestNames(t *testing.T) {
	for op := blessOpOP_EXEC; op <= blessOpOP_USERFAULTFD; op++ {
		if operations[op] == "" {
			t.Errorf("operation %d has no name", op)
		}
	}
	for r := blessReasonREASON_NO_DOMAIN; r < blessReasonREASON_LOST; r++ {
		if sentences[reasons[r]].text == "" {
			t.Errorf("reason %d has no sentence", r)
		}
	}
	for i, name := range CounterNames() {
		if name == "" {
			t.Errorf("counter %d has no name", i)
		}
	}
	for _, s := range code.Suffixes() {
		if len(s) > len(blessNameKey{}.Text) || s[0] != '.' {
			t.Errorf("suffix %q does not fit", s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(record(blessEvent{Version: uint32(blessEventVersionEVENT_VERSION), Op: 1}))
	f.Add(record(blessEvent{Version: uint32(blessEventVersionEVENT_VERSION), Op: 200}))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decode(b); err == nil && e.message() == "" {
			t.Error("no message")
		}
	})
}
