// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package systemd runs the agent as the unit of packaging/ has it, under Debian's
// systemd in a virtual machine.
package systemd

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbom-bless/sbom-bless/internal/vm"
)

const (
	manager    = "/lib/systemd/systemd"
	product    = "/usr/bin/sbom-bless"
	unit       = "sbom-bless.service"
	units      = "/etc/systemd/system/"
	policyFile = "/etc/sbom-bless/policy.yaml"
	key        = "/etc/sbom-bless/bless.crt"
	eventLog   = "/events"
	errorLog   = "/errors"  // what the agent says
	console    = "/console" // what systemd says
)

// TestUnit is about systemd and the agent; the kernel has no part in it.
func TestUnit(t *testing.T) {
	vm.Test(t, []vm.Kernel{"6.12"}, vm.Config{Memory: 3072, Timeout: 15 * time.Minute, Host: prepare}, underSystemd)
}

// prepare brings systemd and the product.
func prepare(t vm.TB, c *vm.Config) {
	t.Helper()
	names := []string{manager, "systemctl", "dash", "mount", "nsenter"}
	// From version 254 on systemd starts services by another program.
	if executor := "/usr/lib/systemd/systemd-executor"; exec.Command("test", "-x", executor).Run() == nil {
		names = append(names, executor)
	}
	programs, err := vm.Programs(names...)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(c.Files, programs)
	dir := t.TempDir()
	binary, keys := filepath.Join(dir, "sbom-bless"), filepath.Join(dir, "bless")
	for _, args := range [][]string{
		{"env", "CGO_ENABLED=0", "go", "build", "-o", binary, "../.."},
		{binary, "keygen", "--out", keys},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	packaged, err := filepath.Abs("../../packaging/" + unit)
	if err != nil {
		t.Fatal(err)
	}
	c.Files[product], c.Files[key], c.Files[units+unit] = binary, keys+".crt", packaged
}

func underSystemd(t *testing.T, _ vm.Kernel) {
	// No journal runs here; and of the targets only those that every service needs.
	files := map[string]string{units + unit + ".d/log.conf": "[Service]\nStandardOutput=append:" + eventLog + "\nStandardError=append:" + errorLog + "\n"}
	const quick = "[Service]\nExecStart=\nExecStart=" + product + " enforce run --policy " + policyFile + " --canary 2s\nWatchdogSec=20s\n"
	files[units+unit+".d/quick.conf"] = quick
	for _, target := range []string{"sysinit", "basic", "multi-user", "shutdown"} {
		files[units+target+".target"] = "[Unit]\nDefaultDependencies=no\n"
	}
	for name, content := range files {
		write(t, name, content)
	}
	s := boot(t)

	t.Run("without a policy it does not start", func(t *testing.T) {
		s.do(t, "systemctl", "enable", "--now", unit)
		if state := s.property(t, "ActiveState"); state != "inactive" {
			t.Errorf("it is %s", state)
		}
		if s.property(t, "ConditionResult") != "no" {
			t.Error("but not for want of a policy")
		}
	})
	write(t, policyFile, "keys: ["+key+"]\nmode: enforce\n")
	t.Run("started means in force", func(t *testing.T) {
		s.do(t, "systemctl", "start", unit)
		if out := s.do(t, product, "enforce", "status"); !strings.Contains(out, ": in force") {
			t.Errorf("%s", out)
		}
	})
	t.Run("reload", func(t *testing.T) {
		write(t, policyFile, "keys: ["+key+"]\nmode: audit\n")
		s.do(t, "systemctl", "reload", unit)
		if said := read(t, eventLog); !strings.Contains(said, "for the rest audit") {
			t.Errorf("no event tells of it: %s", said)
		}
		write(t, policyFile, "keys: nonsense\n")
		if out, err := s.command("systemctl", "reload", unit).CombinedOutput(); err == nil {
			t.Errorf("a policy that cannot be read is reloaded: %s", out)
		}
		if state := s.property(t, "ActiveState"); state != "active" {
			t.Errorf("the agent is %s after that", state)
		}
		write(t, policyFile, "keys: ["+key+"]\nmode: enforce\n")
	})
	restarted := func(t *testing.T, why func()) {
		t.Helper()
		before := s.property(t, "MainPID")
		why()
		for end := time.Now().Add(2 * time.Minute); s.property(t, "MainPID") == before || s.property(t, "ActiveState") != "active"; time.Sleep(200 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("it does not come back")
			}
		}
		if said := read(t, errorLog); !strings.Contains(said, "verifier adopted") {
			t.Errorf("%s", said)
		}
	}
	t.Run("killed, it comes back and takes up what is in force", func(t *testing.T) {
		restarted(t, func() { s.do(t, "systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit) })
	})
	t.Run("stopped by a signal, it is replaced", func(t *testing.T) {
		restarted(t, func() { s.do(t, "systemctl", "kill", "--signal=STOP", "--kill-whom=main", unit) })
	})
	t.Run("systemd keeps what is in force", func(t *testing.T) {
		if n := s.property(t, "NFileDescriptorStore"); len(n) < 2 { // a link for each program, and the bpffs
			t.Errorf("it keeps %s descriptors", n)
		}
		// As if somebody had unmounted it while there was no agent: the agent's own /sys/fs/bpf is empty.
		hide := units + unit + ".d/hide.conf"
		write(t, hide, "[Service]\nTemporaryFileSystem=/sys/fs/bpf\n")
		s.do(t, "systemctl", "daemon-reload")
		restarted(t, func() { s.do(t, "systemctl", "restart", unit) })
		if said := read(t, eventLog); !strings.Contains(said, `"operation":"pins","action":"restored"`) {
			t.Errorf("no event tells of it: %s", said)
		}
		if err := os.Remove(hide); err != nil {
			t.Fatal(err)
		}
		s.do(t, "systemctl", "daemon-reload")
		restarted(t, func() { s.do(t, "systemctl", "restart", unit) })
	})
	t.Run("stopped, what is in force stays", func(t *testing.T) {
		s.do(t, "systemctl", "stop", unit)
		if out := s.do(t, product, "enforce", "status"); !strings.Contains(out, ": in force") {
			t.Errorf("%s", out)
		}
	})
	t.Run("unloaded, it ends", func(t *testing.T) {
		// One look at the verifier after the other, so that the unloading falls into one.
		write(t, units+unit+".d/quick.conf", strings.Replace(quick, "--canary 2s", "--canary 1ms", 1))
		s.do(t, "systemctl", "daemon-reload")
		s.do(t, "systemctl", "start", unit)
		s.do(t, product, "enforce", "unload")
		for end := time.Now().Add(5 * time.Minute); s.property(t, "ActiveState") != "inactive"; time.Sleep(200 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it is %s", s.property(t, "ActiveState"))
			}
		}
		if n := s.property(t, "NFileDescriptorStore"); n != "0" {
			t.Errorf("systemd keeps %s descriptors", n)
		}
		if said := read(t, errorLog); !strings.Contains(said, "the verifier was unloaded") {
			t.Errorf("%s", said)
		}
	})
}

// system is a running systemd, the first process of a namespace.
type system struct{ pid string }

func boot(t *testing.T) system {
	t.Helper()
	log, err := os.Create(console)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("dash", "-c", "mount -t proc proc /proc && mount --bind "+console+" /dev/console && exec "+manager+" --unit=multi-user.target --log-target=console")
	cmd.Env = append(os.Environ(), "container=test")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // says that it was killed
		if t.Failed() {
			t.Logf("systemd:\n%s\nthe agent:\n%s", read(t, console), read(t, errorLog))
		}
	})
	s := system{strconv.Itoa(cmd.Process.Pid)}
	for end := time.Now().Add(time.Minute); s.command("systemctl", "is-active", "multi-user.target").Run() != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("systemd does not answer")
		}
	}
	return s
}

// command is one that runs in the namespace: systemd talks to nobody else.
func (s system) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", s.pid, "--pid", "--mount", "--"}, args...)...)
}

func (s system) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// property gives what systemd knows of the unit.
func (s system) property(t *testing.T, name string) string {
	t.Helper()
	return s.do(t, "systemctl", "show", "--value", "--property", name, unit)
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	return string(content)
}
