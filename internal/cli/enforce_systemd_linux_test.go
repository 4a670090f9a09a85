// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Descriptors reach who listens at $NOTIFY_SOCKET, with the lines they belong to.
func TestNotifySystemd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	kept, err := os.Open(name[:len(name)-len("notify")])
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	for _, files := range [][]*os.File{nil, {kept, kept}} {
		if err := notifySystemd("FDSTORE=1\nFDNAME=x", files...); err != nil {
			t.Fatal(err)
		}
		lines, rights := make([]byte, 100), make([]byte, 100)
		n, r, _, _, err := l.ReadMsgUnix(lines, rights)
		if err != nil {
			t.Fatal(err)
		}
		if string(lines[:n]) != "FDSTORE=1\nFDNAME=x" {
			t.Errorf("%q", lines[:n])
		}
		var got []int
		messages, err := syscall.ParseSocketControlMessage(rights[:r])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			fds, err := syscall.ParseUnixRights(&m)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fds...)
		}
		if len(got) != len(files) {
			t.Errorf("%d descriptors of %d", len(got), len(files))
		}
		for _, fd := range got {
			if err := syscall.Close(fd); err != nil {
				t.Error(err)
			}
		}
	}
}
