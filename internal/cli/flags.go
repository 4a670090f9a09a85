// SPDX-License-Identifier: Apache-2.0

package cli

// What every command's flags share: environment variables, and the
// freedom to stand before or after the arguments.

import (
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

const envPrefix = "SBOM_BLESS_"

// variables are the flags with an environment variable: credentials, keys and places. What makes a check weaker or
// stronger, and what the result is, stands on the command line, where a reviewer sees it.
var variables = map[string]bool{
	"key": true, "cert": true, "passphrase-file": true, "trust-root": true,
	"to": true, "out": true, "summary": true, "cache": true, "sbom-out": true, "attestation-out": true, "attestations": true, "digest-file": true,
	"fulcio-url": true, "rekor-url": true, "timestamp-url": true,
	"pins": true, "state": true, "store": true, "policy": true, "containerd": true, "nri": true, "storage": true,
}

// shownOnly are flags that change what is printed or how long it takes, and no result. Other flags
// without a variable are missed if somebody relies on one: then the command says so.
var shownOnly = map[string]bool{"all": true, "output": true, "quiet": true, "verbose": true, "jobs": true, "files": true, "packages": true, "unsigned": true, "portability": true, "unused": true, "denials": true, "help": true, "last": true}

// variable is the environment variable of a flag. The key that signs and those that are trusted
// have one each.
func variable(command, flag string) string {
	if flag == "key" && command != "bless" {
		flag = "trusted-key"
	}
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// prepare gives flags of the commands their environment variables, and each command the usage error
// of the app. A command whose usage names no argument takes none.
func prepare(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		if c.ArgsUsage == "" {
			c.ArgsUsage = " " // or else help says [arguments...]
			c.Before = noArguments
		}
		before := c.Before
		c.Before = func(ctx *cli.Context) error {
			if err := noVariable(c); err != nil || before == nil {
				return err
			}
			return before(ctx)
		}
		for _, f := range c.Flags {
			if category := reflect.ValueOf(f).Elem().FieldByName("Category"); category.String() == "" {
				category.SetString(categoryOf(f.Names()[0]))
			}
			if !variables[f.Names()[0]] {
				continue
			}
			env := reflect.ValueOf(f).Elem().FieldByName("EnvVars")
			name := variable(c.Name, f.Names()[0])
			if vars := env.Interface().([]string); !slices.Contains(vars, name) { // a flag may serve several commands
				env.Set(reflect.ValueOf(append(vars, name)))
			}
		}
		prepare(c.Subcommands)
	}
}

// noVariable refuses variables that look like those of flags that have none: who set one would believe in a check
// that is not made.
func noVariable(c *cli.Command) error {
	for _, f := range c.Flags {
		flag := f.Names()[0]
		name := variable(c.Name, flag)
		if os.Getenv(name) != "" && !variables[flag] && !shownOnly[flag] {
			return usagef("%s is set, and --%s has no variable\nhint: what changes a check or a result is said on the command line", name, flag)
		}
	}
	return nil
}

// categories groups the flags of the help of every command.
var categories = map[string]string{
	"Attestations": "sbom sbom-out attestation attestations attestation-out detached embed buildkit-attestations no-attestations no-verify files-only source not-before format certificate-identity certificate-identity-regexp certificate-oidc-issuer certificate-oidc-issuer-regexp",
	"Container":    "name pid root image files join audit container pod",
	"Images":       "to platform insecure",
	"Keys":         "key cert passphrase-file delegate hash-only keyless type out",
	"Limits":       "max-layer-size max-ratio max-entries max-header-size max-zstd-window max-xattr-size",
	"Node":         "policy pins state store break-glass confirm containerd nri storage canary metrics",
	"Output":       "output quiet verbose all digest-file packages unsigned portability unused denials events last pin signer",
	"Rules":        "trust jit soft interpreters guard-all devices max-size mount",
}

// categoryOf is the heading of a flag; those that few runs need stand apart.
func categoryOf(flag string) string {
	for category, flags := range categories {
		if slices.Contains(strings.Fields(flags), flag) {
			return category
		}
	}
	return "Rarely used"
}

func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("%s takes no arguments, but got %q", c.Command.Name, c.Args().First())
	}
	return nil
}

// flagsFirst reorders args so that flags stand before arguments, because
// urfave/cli stops looking for flags at the first argument. What follows "--"
// stays as it is.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) < 2 || args[len(args)-1] == "--generate-bash-completion" {
		return args
	}
	out := []string{args[0]}
	rest := args[1:]
	commands := app.Commands
	var flags []cli.Flag
	for len(rest) > 0 { // descend to the command that is meant
		c := find(commands, rest[0])
		if c == nil {
			break
		}
		out = append(out, rest[0])
		rest, commands, flags = rest[1:], c.Subcommands, c.Flags
	}
	if len(out) == 1 {
		return args
	}
	var positional []string
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		switch {
		case arg == "--":
			positional = append(append(positional, arg), rest...)
			rest = nil
		case len(arg) > 1 && arg[0] == '-':
			out = append(out, arg)
			if takesValue(flags, arg) && len(rest) > 0 {
				out = append(out, rest[0])
				rest = rest[1:]
			}
		default:
			positional = append(positional, arg)
		}
	}
	return append(out, positional...)
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue tells whether arg is a flag whose value is the next argument.
func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				_, isBool := f.(*cli.BoolFlag)
				return !isBool
			}
		}
	}
	return false
}
