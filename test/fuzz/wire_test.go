// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fuzz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Calls of the player that are no system calls (player.c).
const (
	callSpawn = 10000 + iota // actor, clone's flags
	callRun                  // directory, path, execveat's flags, how
	callJump                 // address
	callRing                 // opcode, fd, addr, len, off, flags: done by io_uring
	callPin                  // addr, len: io_uring holds the pages
	callGrow                 // bytes: the heap by so many

	runVfork = 1 // how: with vfork
	runOn    = 2 // how: without waiting for the program's end

	pipeOut, pipeIn, source = 40, 41, 42 // descriptors that every player has

	mostActors = 4
)

// call is a system call: its arguments are numbers, or what the kernel gets
// the address of.
type call struct {
	nr  uint32
	arg []any // int, flags; or string (with a NUL), []byte
	fd  int   // where a descriptor that it gives goes; 0: nowhere
}

// flags is a number with the name that a reader knows it by.
type flags struct {
	value int
	name  string
}

// encode gives a step's calls as the player reads them.
func encode(calls []call) []byte {
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(calls)))
	var body, data []byte
	known := map[*byte]uint64{} // what two calls share, as a file handle
	for _, c := range calls {
		var pointers uint32
		var arg [6]uint64
		for i, a := range c.arg {
			switch a := a.(type) {
			case int:
				arg[i] = uint64(a)
			case flags:
				arg[i] = uint64(a.value)
			case string:
				pointers |= 1 << i
				arg[i] = uint64(len(data))
				data = append(append(data, a...), 0)
			case []byte:
				pointers |= 1 << i
				at, ok := known[&a[0]]
				if !ok {
					data = append(data, make([]byte, -len(data)&7)...)
					at = uint64(len(data))
					known[&a[0]] = at
					data = append(data, a...)
				}
				arg[i] = at
			default:
				panic(fmt.Sprintf("argument %T", a))
			}
		}
		body = binary.LittleEndian.AppendUint32(body, c.nr)
		body = binary.LittleEndian.AppendUint32(body, pointers)
		body = binary.LittleEndian.AppendUint64(body, uint64(c.fd))
		for _, a := range arg {
			body = binary.LittleEndian.AppendUint64(body, a)
		}
	}
	head = binary.LittleEndian.AppendUint32(head, uint32(len(data)))
	return append(append(head, body...), data...)
}

// line is the call as strace would print it.
func (c call) line() string {
	var args []string
	for _, a := range c.arg {
		switch a := a.(type) {
		case int:
			if a > 0xffff {
				args = append(args, fmt.Sprintf("%#x", a))
			} else {
				args = append(args, fmt.Sprint(a))
			}
		case flags:
			args = append(args, a.name)
		case string:
			args = append(args, fmt.Sprintf("%q", a))
		case []byte:
			args = append(args, contentName(a))
		}
	}
	name := callNames[c.nr]
	if name == "" {
		name = fmt.Sprintf("syscall_%d", c.nr)
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}

// player is the first process of a container.
type player struct {
	cmd    *exec.Cmd
	pid    int
	to     []*os.File // of each actor
	from   []*os.File
	exited chan struct{}
}

// errPlayer says that a step did not come back: that is a fault of the fuzzer
// or of the kernel, never a finding about the verifier.
var errPlayer = errors.New("player")

// startPlayer starts the player in the container, for so many actors.
func startPlayer(root, cgroup string, actors int) (*player, error) {
	dir, err := os.Open(cgroup)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	p := &player{exited: make(chan struct{})}
	var theirs []*os.File
	for range actors {
		r, to, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		from, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		p.to, p.from = append(p.to, to), append(p.from, from)
		theirs = append(theirs, r, w)
	}
	p.cmd = exec.Command("/bin/player")
	p.cmd.ExtraFiles = theirs
	p.cmd.Dir = "/"
	p.cmd.Env = []string{}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: root, UseCgroupFD: true, CgroupFD: int(dir.Fd()), Cloneflags: syscall.CLONE_NEWNS, Setsid: true,
	}
	err = p.cmd.Start()
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		return nil, err
	}
	p.pid = p.cmd.Process.Pid
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// play has an actor do a step and gives the results of its calls.
func (p *player) play(actor int, calls []call) ([]int64, error) {
	if _, err := p.to[actor].Write(encode(calls)); err != nil {
		return nil, p.gone(err)
	}
	b := make([]byte, 8*len(calls))
	if err := p.from[actor].SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(p.from[actor], b); err != nil {
		return nil, p.gone(err)
	}
	out := make([]int64, len(calls))
	for i := range out {
		out[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return out, nil
}

// gone says why there is no answer.
func (p *player) gone(err error) error {
	select {
	case <-p.exited:
		return fmt.Errorf("%w: %w: %s", errPlayer, err, p.cmd.ProcessState)
	case <-time.After(100 * time.Millisecond):
		return fmt.Errorf("%w: %w", errPlayer, err)
	}
}

// end ends the player and all that it started.
func (p *player) end() {
	for _, pid := range processes(p.pid) {
		unix.Kill(pid, unix.SIGKILL)
	}
	<-p.exited
	for i := range p.to {
		p.to[i].Close()
		p.from[i].Close()
	}
}

// processes gives pid and the processes that descend from it.
func processes(pid int) []int {
	out := []int{pid}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil // gone
	}
	for _, t := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue
		}
		for _, child := range strings.Fields(string(b)) {
			var n int
			if _, err := fmt.Sscan(child, &n); err == nil {
				out = append(out, processes(n)...)
			}
		}
	}
	return out
}
