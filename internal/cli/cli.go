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
		Commands: []*cli.Command{
			newKeygen(),
			newBless(),
			newVerify(),
			newInspect(),
			newSBOM(),
			newEnforce(),
		},
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
			return usagef("unknown command %q\nhint: %s --help lists the commands", command, name)
		}
		return help(c)
	}
}

func usageError(_ *cli.Context, err error, _ bool) error { return usagef("%v", err) }

func usagef(format string, a ...any) error { return cli.Exit(fmt.Sprintf(format, a...), exitUsage) }
