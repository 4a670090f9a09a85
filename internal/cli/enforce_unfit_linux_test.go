// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// A node that cannot enforce keeps its agent, if that is wanted, and says why: a kubelet that
// started it again and again would say no more.
func TestWaitWhenUnfit(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root only: needs a mount namespace")
	}
	dir := t.TempDir()
	agent := func(flags ...string) *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", append([]string{"-test.run=^TestUnfitAgent$", "--",
			"enforce", "run", "--pins", filepath.Join(dir, "pins"), "--state", filepath.Join(dir, "state")}, flags...)...)
		cmd.Env = append(os.Environ(), "SBOM_BLESS_UNFIT=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		return cmd
	}
	out, err := agent().CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sbom-bless: ") || !strings.Contains(string(out), "\nhint: ") {
		t.Fatalf("without the flag: %v\n%s", err, out)
	}

	cmd := agent("--wait-when-unfit")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	line, err := bufio.NewReader(events).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no event: %v\n%s", err, stderr.String())
	}
	var e struct{ Operation, Action, Message string }
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if e.Operation != "verifier" || e.Action != "unfit" || !strings.Contains(e.Message, "; hint: ") {
		t.Errorf("%+v", e)
	}
	time.Sleep(100 * time.Millisecond)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("it did not wait: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, stderr.String())
	}
	if !strings.Contains(stderr.String(), "\nhint: ") {
		t.Errorf("said to people: %s", stderr.String())
	}
}

// TestUnfitAgent is that agent, on a kernel whose programs are switched off, or on an older one: it
// is refused before any program is loaded.
func TestUnfitAgent(t *testing.T) {
	if os.Getenv("SBOM_BLESS_UNFIT") == "" {
		t.Skip("a process of TestWaitWhenUnfit")
	}
	const sysctls = "/proc/sys/kernel"
	for _, err := range []error{
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", sysctls, "tmpfs", 0, ""),
		os.WriteFile(sysctls+"/ftrace_enabled", []byte("0\n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	args := os.Args
	for i, a := range args {
		if a == "--" {
			args = args[i:]
			break
		}
	}
	args[0] = "sbom-bless"
	os.Exit(Main(args, os.Stdin, os.Stdout, os.Stderr))
}

// The chart gives the agent flags that it has.
func TestChartsFlags(t *testing.T) {
	template, err := os.ReadFile("../../charts/sbom-bless/templates/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	run := newEnforce().Subcommands[slices.IndexFunc(newEnforce().Subcommands, func(c *cli.Command) bool { return c.Name == "run" })]
	given := regexp.MustCompile(`(?m)^ +- "?--([-a-z]+)`).FindAllStringSubmatch(string(template), -1)
	if len(given) == 0 {
		t.Fatal("none is found")
	}
	for _, flag := range given {
		if !slices.ContainsFunc(run.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), flag[1]) }) {
			t.Errorf("enforce run has no --%s", flag[1])
		}
	}
}
