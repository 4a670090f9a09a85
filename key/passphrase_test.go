// SPDX-License-Identifier: Apache-2.0

package key

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv names the part that the test binary plays in a process of its own.
const childEnv = "SBOM_BLESS_TEST_CHILD"

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	role := os.Getenv(childEnv)
	switch role {
	case "load", "load as nobody":
		if role != "load" {
			if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(65534, 65534, 65534), syscall.Setresuid(65534, 65534, 65534)); err != nil {
				panic(err)
			}
		}
		k, err := Load(ctx, os.Getenv("KEY"), Options{})
		if err != nil {
			fmt.Println("error:", err)
			return
		}
		fmt.Println("loaded", k.ID())
	case "new":
		passphrase, err := NewPassphrase(ctx, "new.key", "")
		fmt.Printf("passphrase %q, error %v\n", passphrase, err)
	case "write":
		k, err := Generate("ecdsa-p256", strings.Repeat("long name ", 100), time.Now())
		if err == nil {
			err = k.WriteFiles(os.Getenv("PREFIX"), nil)
		}
		fmt.Println(err)
	default:
		for _, name := range []string{envPassphrase, envCosign, envPIN} {
			os.Unsetenv(name)
		}
		os.Exit(m.Run())
	}
}

// terminal is the master side of a terminal that a child sits at.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	output strings.Builder
	done   chan error
}

// atTerminal starts this test binary in the role, with a terminal of its own.
func atTerminal(t *testing.T, role string, env ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close(); master.Close() })
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childEnv+"="+role), env...)
	cmd.Stdin, cmd.Stdout = slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, done: make(chan error, 1)}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // in case the test gave up
	go func() { term.done <- cmd.Wait() }()
	return term
}

// expect reads until the child has shown text. It shows nothing that the test
// types, for then the text after it would not follow.
func (term *terminal) expect(text string) {
	term.t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(term.output.String(), text) {
		n, err := term.master.Read(buf)
		if err != nil {
			term.t.Fatalf("waiting for %q, got %q: %v", text, term.output.String(), err)
		}
		term.output.Write(buf[:n])
	}
}

func (term *terminal) typeKeys(keys string) {
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// waitHidden waits until the terminal does not show what is typed.
func (term *terminal) waitHidden() {
	for term.echoes() {
		time.Sleep(time.Millisecond)
	}
}

func (term *terminal) echoes() bool {
	state, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func TestTerminalAsksForThePassphrase(t *testing.T) {
	k, prefix := keyFiles(t, "ecdsa-p256", "secret")
	for typed, want := range map[string]string{
		"secret\n": "loaded " + k.ID(),
		"guess\n":  "error: key " + prefix + ".key: wrong passphrase",
	} {
		term := atTerminal(t, "load", "KEY="+prefix+".key")
		term.expect("passphrase of " + prefix + ".key: ")
		term.waitHidden()
		term.typeKeys(typed)
		term.expect(want)
		if strings.Contains(term.output.String(), strings.TrimSpace(typed)) {
			t.Errorf("the terminal showed what was typed: %q", term.output.String())
		}
	}
}

func TestTerminalAsksTwiceForANewPassphrase(t *testing.T) {
	for _, test := range []struct{ name, first, second, want string }{
		{"the same twice", "secret\n", "secret\n", `passphrase "secret", error <nil>`},
		{"a slip", "secret\n", "sceret\n", `passphrase "", error passphrase: not the same twice`},
	} {
		t.Run(test.name, func(t *testing.T) {
			term := atTerminal(t, "new")
			term.expect("passphrase for new.key (empty for none): ")
			term.waitHidden()
			term.typeKeys(test.first)
			term.expect("the same again: ")
			term.waitHidden()
			term.typeKeys(test.second)
			term.expect(test.want)
		})
	}
	t.Run("none", func(t *testing.T) {
		term := atTerminal(t, "new")
		term.expect("(empty for none): ")
		term.waitHidden()
		term.typeKeys("\n")
		term.expect(`passphrase "", error <nil>`)
	})
}

func TestTerminalShowsAgainAfterCtrlC(t *testing.T) {
	_, prefix := keyFiles(t, "ecdsa-p256", "secret")
	term := atTerminal(t, "load", "KEY="+prefix+".key")
	term.expect("passphrase of ")
	term.waitHidden()
	term.typeKeys("\x03")
	term.expect("context canceled")
	if err := <-term.done; err != nil {
		t.Fatal(err)
	}
	if !term.echoes() {
		t.Error("the terminal is left without echo")
	}
}

// noTerminal has the test run without a controlling terminal, as in CI.
func noTerminal(t *testing.T, env ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestWithoutTerminal(t *testing.T) {
	_, prefix := keyFiles(t, "ecdsa-p256", "secret")
	got := noTerminal(t, childEnv+"=load", "KEY="+prefix+".key")
	if !strings.Contains(got, "is encrypted") || !strings.Contains(got, "there is no terminal to ask for the passphrase") {
		t.Errorf("load: %s", got)
	}
	if got := noTerminal(t, childEnv+"=new"); got != "passphrase \"\", error <nil>\n" {
		t.Errorf("new: %s", got)
	}
}

func TestPassphraseSources(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		write(t, path, 0o600, []byte(content))
		return path
	}
	t.Setenv(envPassphrase, "from the environment")
	for _, test := range []struct{ name, file, want, wantErr string }{
		{name: "the environment", want: "from the environment"},
		{name: "a file goes first", file: file("line", "from the file\n"), want: "from the file"},
		{name: "a file of Windows", file: file("crlf", "from the file\r\n"), want: "from the file"},
		{name: "a file without a newline", file: file("bare", " spaces count "), want: " spaces count "},
		{name: "an empty file", file: file("empty", "\n"), wantErr: "empty: one line is expected"},
		{name: "a file of two lines", file: file("two", "a\nb\n"), wantErr: "two: one line is expected"},
		{name: "no file", file: filepath.Join(dir, "none"), wantErr: "none: no such file or directory"},
	} {
		got, err := NewPassphrase(t.Context(), "bless.key", test.file)
		if test.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%s: error %v", test.name, err)
			}
		} else if err != nil || string(got) != test.want {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
}
