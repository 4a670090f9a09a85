// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// attack is one row of the table.
type attack struct {
	name       string
	op, reason string // of the event
	// try attacks from inside the container; nil means that what must not
	// run, ran.
	try func() error
	// host attacks from outside, as the host's root.
	host func(c *container) error
	// refused tells on which kernels the attack fails without us, and why.
	refused map[vm.Kernel]string
	rules   func(*enforce.Rules)
	// errno is what the attacker gets where it is not EPERM.
	errno syscall.Errno
	// layout is what the container has beside the usual.
	layout layout
	// prepare is done on the host, before.
	prepare func(c *container)
	// audited: a task of another container, which is only audited, attacks
	// this one, whose root it has at /data.
	audited bool
	// copies: it has overlayfs copy a program of the image, and executes that.
	copies bool
	// anyDomain: the event is about the host, not about a container.
	anyDomain bool
	// ours: means something to our verifier only.
	ours bool
}

func (a *attack) slug() string { return strings.ReplaceAll(a.name, "/", "_") }

// untried is an error in the preparation of an attack.
type untried struct{ error }

func must(err error) {
	if err != nil {
		panic(untried{err})
	}
}

// executing and a path are the name of the attack that executes a file of the image.
const executing = "execute "

// attacks are the rows of the table, by theme.
var attacks = slices.Concat(
	execAttacks, interpreterAttacks,
	memoryAttacks, pinAttacks, imageAttacks,
	guardAttacks, truncateAttacks, linkAttacks, belowAttacks, openerAttacks,
	escapeAttacks, hostAttacks, auditedAttacks,
	selfAttacks)

// attacker tries one attack and tells the observer how it went.
func attacker(name string) int {
	// Mounts, namespaces and personality are of the thread.
	runtime.LockOSThread()
	o := outcome{Untried: "no such attack"}
	if path, ok := strings.CutPrefix(name, executing); ok {
		o = outcomeOf(tryIt(func() error { return execute(path) }))
	}
	for _, a := range slices.Concat(attacks, permitted, []*attack{ownTmpfs, ownOverlay, decoy, mapMany, early, blind, writeAndExecute, fromMemfd, flood}) {
		if a.name == name {
			o = outcomeOf(tryIt(a.try))
		}
	}
	// In another thread, which the attack left as it was.
	control := make(chan error)
	go func() { control <- exec.Command("/bin/control").Run() }()
	if err := <-control; err != nil {
		o.Control = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		return 1
	}
	return 0
}

func tryIt(try func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = untried{fmt.Errorf("%v", r)}
		}
	}()
	return try()
}

func outcomeOf(err error) (o outcome) {
	if err == nil {
		return o
	}
	var u untried
	if errors.As(err, &u) {
		return outcome{Untried: err.Error()}
	}
	o.Error = err.Error()
	errors.As(err, &o.Errno)
	return o
}

// err is the inverse of outcomeOf.
func (o outcome) err() error {
	switch {
	case o.Untried != "":
		return untried{errors.New(o.Untried)}
	case o.Control != "":
		return untried{fmt.Errorf("control: %s", o.Control)}
	case o.Error == errExitedWell.Error():
		return errExitedWell
	case o.Errno != 0:
		return fmt.Errorf("%s: %w", o.Error, o.Errno)
	case o.Error != "":
		return errors.New(o.Error)
	}
	return nil
}

var evmRefused = map[vm.Kernel]string{
	"6.12": "the kernel gives EPERM on an overlay", "6.18": "the kernel gives EPERM on an overlay", "7.3": "the kernel gives EPERM on an overlay",
}

// drop writes a file that exits with status evil.
func drop(name string) string {
	must(os.WriteFile(name, tiny(evil), 0o755))
	return name
}

// ran tells whether the command ended with status evil. A program that
// reports EPERM in words counts as EPERM, and so does ld.so, which keeps the
// errno of a failed mmap to itself, and a program that the kernel ended because
// execve could not go back: the event tells whose denial it was.
func ran(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return err
	}
	if cmd.ProcessState.ExitCode() == evil {
		return nil
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() && (status.Signal() == unix.SIGKILL || status.Signal() == unix.SIGSEGV) {
		return fmt.Errorf("%v: %w", status.Signal(), syscall.EPERM)
	}
	for _, words := range []string{"Operation not permitted", "operation not permitted", "failed to map segment", "cannot be preloaded"} {
		if strings.Contains(string(out), words) {
			return fmt.Errorf("%s: %w", strings.TrimSpace(string(out)), syscall.EPERM)
		}
	}
	if cmd.ProcessState.ExitCode() == 0 {
		return errExitedWell
	}
	return fmt.Errorf("exit status %d: %s", cmd.ProcessState.ExitCode(), out)
}

// errExitedWell says that a program ran which does no harm.
var errExitedWell = errors.New("exit status 0")

func execute(name string, args ...string) error { return ran(exec.Command(name, args...)) }

// executeFD executes an open file.
func executeFD(f *os.File) error {
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	return ran(cmd)
}

// apart has f done by a thread of its own, which is not used afterwards.
func apart(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		done <- tryIt(f)
	}()
	return <-done
}

// asUser has f done by another user, who has no capability.
func asUser(id uintptr, f func() error) error {
	return apart(func() error {
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} { // of this thread alone
			_, _, errno := unix.RawSyscall(call, id, id, id)
			must(errnoError(errno))
		}
		return f()
	})
}

// onHost has f done where the host's files are, as nsenter does.
func onHost(f func() error) error {
	return apart(func() error {
		must(unix.Unshare(unix.CLONE_FS)) // setns asks for it
		must(unix.Setns(hostMounts, unix.CLONE_NEWNS))
		return f()
	})
}

// create makes a file and gives it open for reading only.
func create(name string) *os.File {
	f, err := os.Open(drop(name))
	must(err)
	return f
}

// mapExec maps a dropped file executable.
func mapExec(name string, prot int) ([]byte, error) {
	f := create(name)
	return unix.Mmap(int(f.Fd()), 0, 4096, prot, unix.MAP_PRIVATE)
}

func open(name string, flags int) error {
	fd, err := unix.Open(name, flags, 0)
	if err == nil {
		must(unix.Close(fd))
	}
	return err
}

// libraries of the image, and a changed copy of one.
const (
	loader = "/lib64/ld-linux-x86-64.so.2"
	libc   = "/lib/x86_64-linux-gnu/libc.so.6"
	libm   = "/usr/lib/x86_64-linux-gnu/libm.so.6"
)

const readImpliesExec = 0x0400000 // include/uapi/linux/personality.h

func personality(p uintptr) {
	if _, _, errno := unix.Syscall(unix.SYS_PERSONALITY, p, 0, 0); errno != 0 {
		must(errno)
	}
}

// child is a process for others to attack: it says that it runs, and waits for
// the end of its input.
func child() int {
	var b [1]byte
	os.Stdout.Write(b[:])
	os.Stdin.Read(b[:])
	return 0
}

// victim starts a process to attack and gives its id.
func victim() int {
	cmd := exec.Command("/bin/program")
	cmd.Env = []string{"STAGE=child"}
	_, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	_, err = out.Read(make([]byte, 1))
	must(err)
	return cmd.Process.Pid
}

var target [8]byte

func errnoError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// containerName tells containers apart in names that are the host's.
func containerName() string { return filepath.Base(filepath.Dir(os.Getenv("ROOT"))) }
