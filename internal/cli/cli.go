// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of sbom-bless: flags, what is printed, and exit
// codes. Each verb has a file of its own. What the verbs do is in the packages
// that they call: chain, bless, node, enforce, key.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/key"
)

// Exit codes, as docs/output.md documents them.
const (
	exitDone  = 0
	exitError = 1
	exitUsage = 2
	exitWrong = 3 // verified, and found wrong
	exitInt   = 130
)

// errWrong is wrapped by errors that mean "verified, and found wrong".
var errWrong = errors.New("verified and found wrong")

// Main runs the command that args name and gives its exit code. SIGINT and SIGTERM
// end what runs in order; a second one kills.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(60) // most of the heap is buffers in use: collecting them often costs little
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return run(ctx, args, stdin, stdout, stderr)
}

// run is Main without the process: tests call it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp()
	app.Reader, app.Writer, app.ErrWriter = stdin, stdout, stderr
	err := app.RunContext(ctx, flagsFirst(app, args))
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(stderr, "sbom-bless: interrupted")
		return exitInt
	}
	fmt.Fprintln(stderr, "sbom-bless:", key.Hide(err.Error()+hintFor(err)))
	var coder cli.ExitCoder
	switch {
	case errors.Is(err, errWrong):
		return exitWrong
	case errors.As(err, &coder):
		return coder.ExitCode()
	}
	return exitError
}

func newApp() *cli.App {
	app := &cli.App{
		Name:                 "sbom-bless",
		Usage:                "make the SBOM of a container image enforceable, file by file, by the kernel",
		Version:              version(),
		HideHelpCommand:      true,
		EnableBashCompletion: true,
		Flags:                []cli.Flag{cli.HelpFlag}, // the library leaves it out where there is a command help
		Commands: append([]*cli.Command{
			newKeygen(),
			newBless(),
			newVerify(),
			newInspect(),
			newSBOM(),
			newDiff(),
			newEnforce(),
		}, newAbout()...),
		ExitErrHandler: func(*cli.Context, error) {}, // run decides
		OnUsageError:   usageError,
		Action:         oneOf("sbom-bless", cli.ShowAppHelp),
	}
	prepare(app.Commands)
	return app
}

// version is the module's version as the go command recorded it, for a build
// from a checkout the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// oneOf is the action of what has commands: it runs if none of them was named.
func oneOf(name string, help func(*cli.Context) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if command := c.Args().First(); command != "" {
			return unknownCommand(c.Command.Subcommands, command, name)
		}
		return help(c)
	}
}

// unknownCommand is the error about a command that name does not have.
func unknownCommand(commands []*cli.Command, command, name string) error {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return usagef("unknown command %q\nhint: %s%s --help lists the commands", command, didYouMean("", command, names), name)
}

// usageError adds to the error about a flag that there is none of the flag that was probably meant.
func usageError(c *cli.Context, err error, _ bool) error {
	flag, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return usagef("%v", err)
	}
	flag, _, _ = strings.Cut(strings.TrimLeft(flag, "-"), "=")
	var names []string
	for _, f := range c.Command.Flags {
		names = append(names, f.Names()[0])
	}
	path := strings.Join(strings.Fields(c.Command.HelpName), " ")
	return usagef("unknown flag --%s\nhint: %s%s --help lists the flags", flag, didYouMean("--", flag, names), path)
}

// didYouMean asks for the name that is one or two slips of the keyboard from word; empty if none is.
func didYouMean(prefix, word string, names []string) string {
	best, meant := min(2, len(word)/2)+1, ""
	for _, name := range names {
		if d := slips(word, name); d < best {
			best, meant = d, name
		}
	}
	if meant == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %s%s? ", prefix, meant)
}

// slips counts the letters to add, drop, exchange or swap that make a of b.
func slips(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			if i == 0 || j == 0 {
				d[i][j] = i + j
				continue
			}
			other := 0
			if a[i-1] != b[j-1] {
				other = 1
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+other)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

func usagef(format string, a ...any) error { return cli.Exit(fmt.Sprintf(format, a...), exitUsage) }
