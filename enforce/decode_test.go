// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
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
		if sentences[reasons[r]] == "" {
			t.Errorf("reason %d has no sentence", r)
		}
	}
	for i, name := range CounterNames() {
		if name == "" {
			t.Errorf("counter %d has no name", i)
		}
	}
	for _, s := range Suffixes {
		if len(s) > len(blessSuffixKey{}.Text) || s[0] != '.' {
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
