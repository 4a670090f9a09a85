// SPDX-License-Identifier: Apache-2.0

// Command sbom-bless makes the SBOM of a container image enforceable, file by
// file, by the kernel. Package internal/cli holds its verbs.
package main

import (
	"os"

	"github.com/sbom-bless/sbom-bless/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
