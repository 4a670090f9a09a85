// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package vm boots Debian's own kernels in QEMU and runs a static program in
// them, so that what only a kernel can judge is judged by real ones.
//
// A test calls [Test]: on the host it compiles its own package statically,
// boots each kernel with that test binary inside and reports every subtest of
// the guest as a subtest of its own; in the guest the same call runs the body.
// [Run] is the layer below: one boot, one program, its output and exit status.
//
// The guest is made of files alone, with no disk and no network: an initrd
// (newc cpio, see the kernel's Documentation/driver-api/early-userspace/
// buffer-format.rst) that holds a small PID 1 (package guest below this one),
// the program and its files. The kernel's console is the first serial port;
// what the program says and how it ended comes as JSON lines over the second.
package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says what to boot and what to run in it.
type Config struct {
	Kernel  Kernel
	Program string            // static executable on the host
	Args    []string          // its arguments, without the program's name
	Env     []string          // beside PATH, HOME, TMPDIR and [EnvGuest]
	Files   map[string]string // guest path to host path; a directory is taken whole, links stay links
	Modules []string          // kernel modules to load beside overlay
	Append  string            // added to the kernel's command line
	Memory  int               // MiB; 1024 when zero
	CPUs    int               // 2 when zero
	Icount  bool              // one CPU whose clock counts instructions: costs repeat, wall time does not matter
	Timeout time.Duration     // 10 minutes when zero
	Output  io.Writer         // also gets the program's output as it comes; may be nil

	// Host, if set, is called by [Test] on the host before each boot, to add
	// what the guest needs: files, arguments of the kernel.
	Host func(t TB, c *Config)
}

// TB is the part of testing.TB that Config.Host needs.
type TB interface {
	Helper()
	TempDir() string
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Result is how the program ended.
type Result struct {
	Exit   int    // exit status; 128 + signal when a signal ended it
	Output []byte // stdout and stderr, in order
	// Time is how long the machine was on, and Processor how long it kept processors busy.
	Time, Processor time.Duration
}

// EnvGuest names the variable that holds the kernel's name inside a guest.
const EnvGuest = "SBOM_BLESS_VM"

// program is what PID 1 finds in the initrd: the only thing it is told.
type program struct {
	Kernel  Kernel
	Argv    []string
	Env     []string
	Modules []string // paths in the initrd, in the order to load them
}

// message is one line over the second serial port.
type message struct {
	Output []byte `json:",omitempty"`
	Exit   *int   `json:",omitempty"` // the last message
	Error  string `json:",omitempty"` // PID 1 could not do its part; the last message
}

const (
	programFile = "/init.json"
	moduleDir   = "/init.modules"
	consoleTail = 60 // lines of the console that an error shows
)

// Run boots c.Kernel, runs c.Program and returns how it ended. A kernel panic,
// a timeout, lost output and a PID 1 that could not set up are errors that
// carry the end of the console; a program that fails is a Result.
func Run(ctx context.Context, c Config) (*Result, error) {
	r, err := run(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", c.Kernel, err)
	}
	return r, nil
}

func run(ctx context.Context, c Config) (*Result, error) {
	image, err := c.Kernel.Fetch(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sbom-bless-vm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initrd")
	if err := writeInitrd(ctx, initrd, image, c); err != nil {
		return nil, fmt.Errorf("initrd: %w", err)
	}
	leave, err := enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("no end after %s", c.Timeout))
	defer cancel()
	return boot(ctx, image, initrd, c)
}

// boot runs QEMU until it ends and listens to both of its serial ports.
func boot(ctx context.Context, image *Image, initrd string, c Config) (*Result, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", qemuArgs(image, initrd, c)...)
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.ExtraFiles = []*os.File{w}
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no guest outlives its test
	// The signal comes when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	on := time.Now()
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("%w (Debian package qemu-system-x86)", err)
	}
	w.Close()
	var result *Result
	var heard error
	var wg sync.WaitGroup
	wg.Go(func() { result, heard = listen(r, c.Output) })
	werr := cmd.Wait()
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		heard = cause
	} else if heard == nil && werr != nil {
		heard = fmt.Errorf("qemu: %w", werr)
	}
	if heard != nil {
		said := "nothing"
		if result != nil && len(result.Output) > 0 {
			said = tail(result.Output)
		}
		return nil, fmt.Errorf("%w\nthe program said: %s\nend of the console:\n%s", heard, said, tail(console.Bytes()))
	}
	result.Time, result.Processor = time.Since(on), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	return result, nil
}

// listen reads messages until the last one, or until the guest is gone. The
// result holds what was said so far even when there is an error.
func listen(r io.Reader, also io.Writer) (*Result, error) {
	result := new(Result)
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return result, errors.New("the guest ended without a result")
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			return result, fmt.Errorf("message %.80q: %w", line, err)
		}
		result.Output = append(result.Output, m.Output...)
		if also != nil {
			if _, err := also.Write(m.Output); err != nil {
				return result, fmt.Errorf("output: %w", err)
			}
		}
		switch {
		case m.Error != "":
			return result, errors.New("guest: " + m.Error)
		case m.Exit != nil:
			result.Exit = *m.Exit
			return result, nil
		}
	}
}

func tail(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-consoleTail):], "\n")
}
