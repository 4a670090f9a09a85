// SPDX-License-Identifier: Apache-2.0

package cli

// Commands about the program itself. Manual page and completions are made from the commands and flags
// that there are: no second list can be out of date.

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

const bashCompletion = `# bash completion for sbom-bless: eval "$(sbom-bless completion bash)"
_sbom_bless() {
	COMPREPLY=()
	local cur=${COMP_WORDS[COMP_CWORD]} words
	if [[ $cur == -* ]]; then
		words=$("${COMP_WORDS[@]:0:COMP_CWORD}" "$cur" --generate-bash-completion 2>/dev/null)
	else
		words=$("${COMP_WORDS[@]:0:COMP_CWORD}" --generate-bash-completion 2>/dev/null)
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _sbom_bless sbom-bless
`

const zshCompletion = `#compdef sbom-bless
# zsh completion for sbom-bless: eval "$(sbom-bless completion zsh)"
autoload -U +X bashcompinit && bashcompinit
` + bashCompletion

func newAbout() []*cli.Command {
	return []*cli.Command{
		{
			Name:      "help",
			Usage:     "show the help of a command",
			ArgsUsage: "[COMMAND...]",
			Action: func(c *cli.Context) error {
				commands := c.App.Commands
				for _, name := range c.Args().Slice() {
					command := find(commands, name)
					if command == nil {
						return unknownCommand(commands, name, "sbom-bless")
					}
					commands = command.Subcommands
				}
				return c.App.RunContext(c.Context, append(append([]string{c.App.Name}, c.Args().Slice()...), "--help"))
			},
		},
		{
			Name:  "version",
			Usage: "print the version",
			Action: func(c *cli.Context) error {
				_, err := fmt.Fprintln(c.App.Writer, "sbom-bless", c.App.Version)
				return err
			},
		},
		{
			Name:        "completion",
			Usage:       "print what completes commands and flags in a shell",
			ArgsUsage:   "bash|zsh|fish",
			Description: `   eval "$(sbom-bless completion bash)"`,
			Action: func(c *cli.Context) error {
				script := ""
				var err error
				switch shell := c.Args().First(); shell {
				case "bash":
					script = bashCompletion
				case "zsh":
					script = zshCompletion
				case "fish":
					script, err = c.App.ToFishCompletion()
				default:
					return usagef("completion %s: choose bash, zsh or fish", shell)
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(c.App.Writer, script)
				return err
			},
		},
		{
			Name:   "man",
			Usage:  "print the manual page",
			Hidden: true,
			Action: func(c *cli.Context) error {
				page, err := c.App.ToManWithSection(1)
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(c.App.Writer, page)
				return err
			},
		},
	}
}
