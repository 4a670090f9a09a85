// SPDX-License-Identifier: Apache-2.0

// Command mkimage makes a test image and prints the path of its OCI layout.
package main

import (
	"os"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

func main() { os.Exit(testimage.Main(os.Args[1:], os.Stdout, os.Stderr)) }
