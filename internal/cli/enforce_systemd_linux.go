// SPDX-License-Identifier: Apache-2.0

package cli

// What the agent says to systemd, and leaves with it: sd_notify(3), and the file
// descriptor store of sd_pid_notify_with_fds(3).

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/sbom-bless/sbom-bless/enforce"
)

// Names of what systemd keeps from one agent to the next.
const (
	storedBPFFS = "bpffs"
	storedLinks = "links"
)

// notifySystemd sends lines of sd_notify(3), where systemd asked for them.
func notifySystemd(lines string, files ...*os.File) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] == '@' {
		name = "\x00" + name[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("systemd: %w", err)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = syscall.UnixRights(fds...)
	}
	// Go's own WriteMsgUnix refuses a datagram socket that is connected.
	raw, err := conn.SyscallConn()
	if err != nil {
		return errors.Join(fmt.Errorf("systemd: %w", err), conn.Close())
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = syscall.Sendmsg(int(fd), []byte(lines), rights, nil, 0)
		return !errors.Is(sent, syscall.EAGAIN)
	})
	if err = errors.Join(err, sent); err != nil {
		err = fmt.Errorf("systemd: %w", err)
	}
	return errors.Join(err, conn.Close())
}

// takeFromSystemd gives what the agent before this one left with systemd.
func takeFromSystemd() (kept enforce.Kept, err error) {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			err = errors.Join(err, os.Unsetenv(name))
		}
	}()
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return kept, nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil {
		return kept, fmt.Errorf("LISTEN_FDS: %w", err)
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	if len(names) != n {
		return kept, fmt.Errorf("LISTEN_FDNAMES has %d names for %d descriptors", len(names), n)
	}
	for i, name := range names {
		fd := 3 + i // SD_LISTEN_FDS_START
		syscall.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), name)
		switch {
		case name == storedLinks:
			kept.Links = append(kept.Links, f)
		case name == storedBPFFS && kept.BPFFS == nil:
			kept.BPFFS = f
		default:
			err = errors.Join(err, f.Close())
		}
	}
	return kept, err
}

// leaveWithSystemd has systemd keep what keeps the verifier in force, in the place
// of what it kept.
func leaveWithSystemd(e *enforce.Enforcer) error {
	kept, err := e.Keep()
	if err != nil {
		return err
	}
	err = dropFromSystemd()
	if kept.BPFFS != nil {
		// Without poll: it is open as a path alone, which cannot be polled.
		err = errors.Join(err, notifySystemd("FDSTORE=1\nFDPOLL=0\nFDNAME="+storedBPFFS, kept.BPFFS),
			notifySystemd("FDSTORE=1\nFDPOLL=0\nFDNAME="+storedLinks, kept.Links...))
	}
	return errors.Join(err, kept.Close())
}

// dropFromSystemd has systemd keep nothing.
func dropFromSystemd() error {
	return errors.Join(
		notifySystemd("FDSTOREREMOVE=1\nFDNAME="+storedBPFFS),
		notifySystemd("FDSTOREREMOVE=1\nFDNAME="+storedLinks))
}
