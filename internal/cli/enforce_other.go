// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cli

import (
	"errors"
	"runtime"

	"github.com/urfave/cli/v2"
)

func newEnforce() *cli.Command {
	return &cli.Command{
		Name:      "enforce",
		Usage:     "let the kernel execute only what an image lists (Linux only)",
		ArgsUsage: "COMMAND",
		// What reads a node's events runs anywhere.
		Subcommands: []*cli.Command{newRecommend()},
		Action: func(*cli.Context) error {
			return errors.New("enforce: not supported on " + runtime.GOOS)
		},
	}
}
