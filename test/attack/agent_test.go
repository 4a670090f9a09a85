// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

var pinned = enforce.Options{Pins: enforce.DefaultPins, State: enforce.DefaultState}

// early drops a program, says so, and executes it when it is told to.
var early = &attack{name: "early", try: func() error {
	drop("/home/x")
	fmt.Println("ready")
	_, err := os.Stdin.Read(make([]byte, 1))
	must(err)
	return execute("/home/x")
}}

// startEarly starts that in c, and gives its process and what has it go on.
func startEarly(t *testing.T, c *container) (pid int, goOn func() outcome) {
	t.Helper()
	cmd, err := c.command(context.Background(), "attacker", early.name)
	must(err)
	in, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	if _, err := out.Read(make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, func() (o outcome) {
		t.Helper()
		_, err := in.Write([]byte{'\n'})
		must(err)
		if err := json.NewDecoder(out).Decode(&o); err != nil {
			t.Fatal(err)
		}
		must(cmd.Wait())
		return o
	}
}

// blind turns every BPF LSM program off, or would.
var blind = &attack{name: "blind", try: func() error { return open("/proc/sys/kernel/ftrace_enabled", unix.O_WRONLY) }}

// The agent may be killed, started again and replaced, and containers may be
// older than it.
func TestAgent(t *testing.T) {
	vm.Test(t, vm.Some("6.1"), vm.Config{Memory: 1536, Host: func(t vm.TB, c *vm.Config) {
		for in, from := range guestFiles() {
			c.Files[in] = from
		}
	}}, testAgent)
}

// inhabit starts a process of the host's in the container's cgroup, so that no sweep forgets
// the container, however slow the machine is.
func inhabit(t *testing.T, c *container) {
	cgroup, err := os.Open(c.cgroup)
	must(err)
	defer cgroup.Close()
	cmd := exec.Command("/bin/program")
	cmd.Env = []string{"STAGE=child"}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	in, err := cmd.StdinPipe()
	must(err)
	must(cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })
}

func testAgent(t *testing.T, k vm.Kernel) {
	must(makeImage())
	set, err := imageSet()
	must(err)
	denied := func(t *testing.T, c *container) {
		t.Helper()
		o := attacks[0].run(t, c)
		if o.Errno != syscall.EPERM || o.Control != "" {
			t.Fatalf("%+v", o)
		}
	}
	rules := enforce.Rules{Enforce: true}
	c := newContainer(t)
	inhabit(t, c)

	t.Run("killed", func(t *testing.T) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "STAGE=agent", "ROOT="+c.root, "CGROUP="+c.cgroup)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(err)
		must(cmd.Start())
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal("the agent does not load: ", err)
		}
		denied(t, c)
		must(cmd.Process.Kill())
		cmd.Wait()
		denied(t, c)
	})

	t.Run("a directory of other things is left alone", func(t *testing.T) {
		_, err := enforce.Load(enforce.Options{Pins: "/sys/fs/bpf", State: enforce.DefaultState})
		if err == nil || !strings.Contains(err.Error(), "holds other things") {
			t.Error(err)
		}
	})

	var e *enforce.Enforcer
	t.Run("started again", func(t *testing.T) {
		e, err = enforce.Load(pinned)
		if err != nil {
			t.Fatal(err)
		}
		if !e.Adopted {
			t.Error("what is in force was not adopted")
		}
		denied(t, c)
		if err := e.Canary(); err != nil {
			t.Error(err)
		}
		domains, err := e.Domains()
		known := func(d enforce.Domain) bool { return d.Name == "before" }
		if err != nil || !slices.ContainsFunc(domains, known) {
			t.Errorf("containers: %v, %v", domains, err)
		}
	})
	if e == nil {
		t.FailNow()
	}

	t.Run("upgraded", func(t *testing.T) {
		// To the agent, programs under another name are those of another version.
		dirs, err := filepath.Glob(enforce.DefaultPins + "/*/complete")
		must(err)
		must(os.Rename(filepath.Dir(dirs[0]), enforce.DefaultPins+"/older"))
		must(os.Remove(enforce.DefaultPins + "/maps/budgets")) // it had no such map,
		for _, name := range []string{"verdicts", "below"} {   // this one in another shape, and one that is no more
			must(os.RemoveAll(enforce.DefaultPins + "/maps/" + name))
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
			must(err)
			must(m.Pin(enforce.DefaultPins + "/maps/" + name))
			must(m.Close())
		}
		must(e.Close())
		if e, err = enforce.Load(pinned); err != nil {
			t.Fatal(err)
		}
		if !e.Adopted {
			t.Error("the maps were not adopted")
		}
		if _, err := os.Stat(enforce.DefaultPins + "/older"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the older programs are still pinned: %v", err)
		}
		if _, err := os.Stat(enforce.DefaultPins + "/maps/budgets"); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(enforce.DefaultPins + "/maps/below"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a map that is no more is still pinned: %v", err)
		}
		denied(t, c)
	})

	t.Run("container older than the agent", func(t *testing.T) {
		c := newContainer(t)
		_, goOn := startEarly(t, c)
		if _, err := e.Add(enforce.Domain{Name: "early", Cgroup: c.cgroup, Root: c.root, Rules: rules}, set); err != nil {
			t.Fatal(err)
		}
		o := goOn()
		if o.Errno != syscall.EPERM || o.Control != "" {
			t.Errorf("%+v", o)
		}
	})

	t.Run("a container lives as long as a task of it, wherever that went", func(t *testing.T) {
		c := newContainer(t)
		id, err := e.Add(enforce.Domain{Name: "left", Cgroup: c.cgroup, Root: c.root, Rules: rules}, set)
		if err != nil {
			t.Fatal(err)
		}
		pid, goOn := startEarly(t, c)
		must(os.WriteFile("/sys/fs/cgroup/cgroup.procs", fmt.Append(nil, pid), 0))
		sweep := func() bool {
			domains, err := e.Domains()
			must(err)
			i := slices.IndexFunc(domains, func(d enforce.Domain) bool { return d.ID == id })
			domains[i].Added = time.Now().Add(-time.Hour) // only those are swept
			b, err := json.Marshal(domains[i])
			must(err)
			must(os.WriteFile(fmt.Sprintf("%s/domains/%d.json", enforce.DefaultState, id), b, 0o600))
			if err := e.Sweep(); err != nil {
				t.Fatal(err)
			}
			domains, err = e.Domains()
			must(err)
			return !slices.ContainsFunc(domains, func(d enforce.Domain) bool { return d.ID == id })
		}
		if sweep() {
			t.Error("forgotten while a task of it lives")
		}
		if err := e.Remove(enforce.Domain{ID: id, Cgroup: c.cgroup}); !errors.Is(err, enforce.ErrInUse) {
			t.Errorf("removed while a task of it lives: %v", err)
		}
		o := goOn()
		if o.Errno != syscall.EPERM || o.Control != "" {
			t.Errorf("%+v", o)
		}
		if !sweep() {
			t.Error("not forgotten when the last task of it was gone")
		}
	})

	t.Run("audit", func(t *testing.T) {
		c := newContainer(t)
		if _, err := e.Add(enforce.Domain{Name: "audited", Cgroup: c.cgroup, Root: c.root}, set); err != nil {
			t.Fatal(err)
		}
		if o := attacks[0].run(t, c); o.Error != "" {
			t.Errorf("denied: %s", o.Error)
		}
		// The verifier itself is no container's to change, audited or not.
		if o := blind.run(t, c); o.Errno != syscall.EPERM || o.Control != "" {
			t.Errorf("kernel.ftrace_enabled: %+v", o)
		}
		found := errors.New("found")
		err := e.Events(time.Now().Add(10*time.Second), func(ev enforce.Event) error {
			if ev.Container == "audited" && ev.Action == "reported" && ev.Reason == "writable-layer" && ev.Path == "/home/x" {
				return found
			}
			return nil
		})
		if err != found {
			t.Errorf("no report: %v", err)
		}
	})

	testRules(t, e, set)
	testHost(t, e, set)
	testEvents(t, e, set)

	t.Run("tampering by the host's root", func(t *testing.T) {
		// The same program in another file is not the agent.
		b, err := os.ReadFile("/bin/program")
		must(err)
		must(os.WriteFile("/bin/other", b, 0o755))
		cmd := exec.Command("/bin/other")
		cmd.Env = append(os.Environ(), "STAGE=tamper")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		denied(t, c)
	})

	t.Run("another executable becomes the agent, and not unseen", func(t *testing.T) {
		cmd := exec.Command("/bin/other")
		cmd.Env = append(os.Environ(), "STAGE=agent", "ROOT="+c.root, "CGROUP="+c.cgroup)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(err)
		must(cmd.Start())
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal("it does not load: ", err)
		}
		must(cmd.Process.Kill())
		cmd.Wait()
		if err := openFails(); !errors.Is(err, syscall.EPERM) {
			t.Errorf("the former agent may still change the maps: %v", err)
		}
		denied(t, c)
		must(e.Close())
		if e, err = enforce.Load(pinned); err != nil {
			t.Fatal(err)
		}
		takeovers := 0
		found := errors.New("found")
		err = e.Events(time.Now().Add(10*time.Second), func(ev enforce.Event) error {
			if ev.Action == "reported" && ev.Reason == "takeover" && len(ev.Ancestors) > 0 {
				if takeovers++; takeovers == 2 {
					return found
				}
			}
			return nil
		})
		if err != found {
			t.Errorf("%d takeovers were reported, not 2: %v", takeovers, err)
		}
	})

	t.Run("a takeover that cannot go on is given back", func(t *testing.T) {
		name := enforce.DefaultPins + "/maps/domains"
		must(os.Rename(name, name+"-kept"))
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		must(err)
		must(m.Pin(name))
		must(m.Close())
		cmd := exec.Command("/bin/other")
		cmd.Env = append(os.Environ(), "STAGE=agent", "ROOT="+c.root, "CGROUP="+c.cgroup)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "map domains is of another version") {
			t.Errorf("%v %s", err, out)
		}
		must(os.Remove(name)) // as only the agent can
		must(os.Rename(name+"-kept", name))
		if err := openFails(); err != nil {
			t.Errorf("the agent is not the agent any more: %v", err)
		}
		denied(t, c)
	})

	t.Run("tampering by a container's root", func(t *testing.T) {
		if out, err := c.start("tamper", ""); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		denied(t, c)
	})

	t.Run("removed", func(t *testing.T) {
		domains, err := e.Domains()
		must(err)
		for _, d := range domains {
			if d.Image == enforce.CanarySet {
				continue // the enforcer's own
			}
			if err := e.Remove(d); err != nil {
				t.Error(err)
			}
		}
		if o := attacks[0].run(t, newContainer(t)); o.Error != "" {
			t.Errorf("no container is registered, but: %s", o.Error)
		}
	})

	t.Run("unloaded", func(t *testing.T) {
		const others = enforce.DefaultState + "/others"
		must(os.WriteFile(others, nil, 0o600))
		if err := e.Unload(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(enforce.DefaultState); err != nil || len(left) != 1 || left[0].Name() != "others" {
			t.Errorf("left in the state directory: %v %v", left, err)
		}
		must(e.Close())
		if _, err := enforce.Open(pinned); !errors.Is(err, enforce.ErrNotLoaded) {
			t.Errorf("still there: %v", err)
		}
		if o := attacks[0].run(t, c); o.Error != "" {
			t.Errorf("still in force: %s", o.Error)
		}
	})

	// Last, for the kernel has it until it ends.
	t.Run("under a loaded IMA policy, the agent hashes", func(t *testing.T) {
		f, err := os.OpenFile(imaPolicy, os.O_WRONLY, 0)
		for end := time.Now().Add(20 * time.Second); errors.Is(err, os.ErrPermission) && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			f, err = os.OpenFile(imaPolicy, os.O_WRONLY, 0) // the kernel detaches what is unpinned some time later
		}
		must(err)
		_, err = f.WriteString("measure func=BPRM_CHECK mask=MAY_EXEC\n")
		must(err)
		must(f.Close())
		e, err := enforce.Load(pinned)
		must(err)
		if ahead, err := e.HashedAhead(); err != nil || !ahead {
			t.Errorf("the kernel does: %v", err)
		}
		if err := errors.Join(e.Canary(), e.Unload(), e.Close()); err != nil {
			t.Error(err)
		}
	})
}

const imaPolicy = "/sys/kernel/security/ima/policy"

// agent loads the verifier, adds a container, says so, and stays.
func agent() int {
	set, err := imageSet()
	must(err)
	e, err := enforce.Load(pinned)
	must(err)
	_, err = e.Add(enforce.Domain{
		Name: "before", Cgroup: os.Getenv("CGROUP"), Root: os.Getenv("ROOT"), Rules: enforce.Rules{Enforce: true},
	}, set)
	must(err)
	fmt.Println("loaded")
	time.Sleep(time.Hour)
	return 0
}

// tamper tries to take the verifier away, and exits with status 0 if all of it
// got EPERM.
func tamper() int {
	pins, err := filepath.Glob(enforce.DefaultPins + "/*/*")
	must(err)
	if len(pins) < 20 {
		must(fmt.Errorf("pins: %v", pins))
	}
	tries := map[string]error{
		"rename":                       os.Rename(enforce.DefaultPins+"/maps", enforce.DefaultPins+"/gone"),
		"dir":                          os.Rename(enforce.DefaultPins, "/sys/fs/bpf/gone"),
		"open":                         openFails(),
		"maps":                         mapsByID(),
		"programs":                     programsByID(),
		"program that writes to a map": writeByProgram(),
	}
	if os.Getenv("ROOT") == "" { // in its own namespace a container may do so, which touches nothing of the host's
		tries["bpffs"] = unix.Unmount("/sys/fs/bpf", 0)
		tries["detach"] = unix.Unmount("/sys/fs/bpf", unix.MNT_DETACH)
		tries["mount"] = mountOverPins()
	}
	if _, err := os.Stat(imaPolicy); err == nil { // containers do not see it
		tries["IMA's policy"] = open(imaPolicy, unix.O_WRONLY)
	}
	for _, name := range pins {
		if !strings.HasSuffix(name, "/complete") {
			tries[name] = os.Remove(name)
		}
	}
	status := 0
	for name, err := range tries {
		if !errors.Is(err, syscall.EPERM) {
			fmt.Printf("%s: %v\n", name, err)
			status = 1
		}
	}
	return status
}

// programsByID opens every program by its id, as freplace would need; EPERM if
// all refused, but for the one that labels tasks and is harmless.
func programsByID() error {
	return refuseAll(ebpf.ProgramGetNextID, func(id ebpf.ProgramID) (string, error) {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			return "", err
		}
		defer p.Close()
		info, err := p.Info()
		return info.Name, err
	}, "bless_label_tasks")
}

// refuseAll opens every object by its id; EPERM if all refused but those of a name.
func refuseAll[ID ~uint32](next func(ID) (ID, error), open func(ID) (name string, err error), but ...string) error {
	refused := 0
	for id := ID(0); ; {
		var err error
		if id, err = next(id); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		switch name, err := open(id); {
		case errors.Is(err, syscall.EPERM):
			refused++
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return err
		case err == nil && !slices.Contains(but, name):
			return fmt.Errorf("%s opens", name)
		}
	}
	if refused < 10 {
		return fmt.Errorf("only %d refused", refused)
	}
	return syscall.EPERM
}

// writeByProgram opens the map that names the agent for reading, which a BPF
// program may write to all the same, and has one do it.
func writeByProgram() error {
	for id := ebpf.MapID(0); ; {
		var err error
		if id, err = ebpf.MapGetNextID(id); err != nil {
			return err
		}
		attr := make([]byte, 64)
		binary.LittleEndian.PutUint32(attr, uint32(id))
		binary.LittleEndian.PutUint32(attr[8:], unix.BPF_F_RDONLY)
		fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_GET_FD_BY_ID, pointer(attr), uintptr(len(attr)))
		if errno != 0 {
			return errno
		}
		m, err := ebpf.NewMapFromFD(int(fd))
		if err != nil {
			return err
		}
		defer m.Close()
		if info, err := m.Info(); err != nil || info.Name != "bless_agents" {
			if err != nil {
				return err
			}
			continue
		}
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.SocketFilter, License: "GPL",
			Instructions: asm.Instructions{
				asm.Mov.Imm(asm.R0, 0),
				asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),   // key 0
				asm.StoreMem(asm.RFP, -24, asm.R0, asm.DWord), // struct agent, not armed
				asm.StoreMem(asm.RFP, -16, asm.R0, asm.DWord),
				asm.LoadMapPtr(asm.R1, m.FD()),
				asm.Mov.Reg(asm.R2, asm.RFP),
				asm.Add.Imm(asm.R2, -4),
				asm.Mov.Reg(asm.R3, asm.RFP),
				asm.Add.Imm(asm.R3, -24),
				asm.Mov.Imm(asm.R4, 0),
				asm.FnMapUpdateElem.Call(),
				asm.Return(),
			},
		})
		if err != nil {
			return err
		}
		defer p.Close()
		_, err = p.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
		return err
	}
}

// mountOverPins hides the pins.
func mountOverPins() error {
	if err := unix.Mount("tmpfs", enforce.DefaultPins, "tmpfs", 0, ""); err != nil {
		return err
	}
	return unix.Unmount(enforce.DefaultPins, 0)
}

func openFails() error {
	e, err := enforce.Open(pinned)
	if err == nil {
		err = e.Close()
	}
	return err
}

// mapsByID opens every map by its id; EPERM if all refused, but for constants and the
// one that says who the agent is, which others may take, and not unseen.
func mapsByID() error {
	return refuseAll(ebpf.MapGetNextID, func(id ebpf.MapID) (string, error) {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return "", err
		}
		defer m.Close()
		info, err := m.Info()
		return info.Name, err
	}, "bless_agents", ".rodata", ".rodata.str1.1")
}
