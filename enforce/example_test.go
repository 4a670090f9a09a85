// SPDX-License-Identifier: Apache-2.0

package enforce_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/sbom-bless/sbom-bless/enforce"
)

// A set is the list of files that a container may run, for example as sha256sum prints it.
func ExampleParseSet() {
	set, err := enforce.ParseSet("app", strings.NewReader(
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  /usr/bin/empty\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Name, len(set.Files), set.Files[0].Path)
	// Output: app 1 /usr/bin/empty
}

// What a node's agent does: ask what the kernel can do, then load the programs, which stay in force
// when this process ends.
func Example() {
	if err := enforce.Supports(enforce.Probe(), enforce.TrustSBOM); err != nil {
		log.Fatal(err) // what is missing, and how to get it
	}
	e, err := enforce.Load(enforce.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
}
