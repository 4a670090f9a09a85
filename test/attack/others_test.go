// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/testfapolicyd"
	"github.com/sbom-bless/sbom-bless/internal/testima"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

// The same attacks in the same containers, while something else judges the same
// files. The image itself must still work: what denies everything denies
// nothing. What came of it goes to the second table of docs/attacks.md.
func TestOthers(t *testing.T) {
	vm.OnlyInAll(t)
	outputs := newOutputs()
	if vm.Guest() == "" {
		t.Cleanup(func() { checkOthers(t, outputs) })
	}
	host := func(name string, prepare func(t vm.TB, c *vm.Config)) func(t vm.TB, c *vm.Config) {
		return func(t vm.TB, c *vm.Config) {
			for in, from := range guestFiles() {
				c.Files[in] = from
			}
			c.Files[diskFile] = makeDisk(t)
			c.Output = outputs.of(vm.Kernel(name + " " + string(c.Kernel)))
			prepare(t, c)
		}
	}
	config := vm.Config{Memory: 1536, Modules: guestModules, Timeout: 30 * time.Minute}
	t.Run("ima", func(t *testing.T) {
		c := config
		c.Append = "ima_appraise=enforce"
		c.Host = host(imaColumn, func(t vm.TB, c *vm.Config) {
			dir := t.TempDir()
			if err := testima.MakeKey(filepath.Join(dir, "key"), "rsa-2048"); err != nil {
				t.Fatal(err)
			}
			c.Files["/keys"] = dir
		})
		vm.Test(t, othersKernels, c, underIMA)
	})
	t.Run("fapolicyd", func(t *testing.T) {
		c := config
		c.Host = host(fapolicydColumn, func(t vm.TB, c *vm.Config) {
			files, err := testfapolicyd.Files(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for in, from := range files {
				c.Files[in] = from
			}
		})
		vm.Test(t, othersKernels, c, underFapolicyd)
	})
}

const (
	imaColumn       = "IMA appraisal"
	fapolicydColumn = "fapolicyd"
)

var othersKernels = []vm.Kernel{"6.12"}

// eachListed calls f with every file that the image lists.
func eachListed(f func(name string) error) error {
	return filepath.WalkDir(image, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || name == image+"/opt/unlisted" {
			return err
		}
		return f(name)
	})
}

// underIMA signs what the image lists and has the kernel demand a signature of
// everything that is executed, or mapped so, wherever it lies.
func underIMA(t *testing.T, k vm.Kernel) {
	must(makeImage())
	signer, err := testima.Load("/keys/key", "rsa-2048")
	must(err)
	must(eachListed(signer.Sign))
	_, err = testima.Trust("_ima", signer)
	must(err)
	must(testima.Policy(
		"appraise func=BPRM_CHECK appraise_type=imasig",
		"appraise func=MMAP_CHECK mask=MAY_EXEC appraise_type=imasig"))
	tryAll(t, k, containersForAll(t))
}

// underFapolicyd has fapolicyd trust what the image lists.
func underFapolicyd(t *testing.T, k vm.Kernel) {
	must(makeImage())
	trusted := map[string]string{"/bin/program": "/bin/program"}
	must(eachListed(func(name string) error {
		trusted[name] = name
		trusted[strings.TrimPrefix(name, image)] = name // as the container sees it
		return nil
	}))
	// Filesystems mounted later it watches in the host's mount namespace only:
	// of the containers there it sees next to nothing.
	list := containersForAll(t)
	must(testfapolicyd.Start(trusted))
	tryAll(t, k, list)
}

func containersForAll(t *testing.T) (list []*container) {
	for _, a := range attacks {
		list = append(list, a.container(t))
	}
	return list
}

// tryAll tries every attack that is not about our verifier, each in a container
// of its own.
func tryAll(t *testing.T, k vm.Kernel, list []*container) {
	for n, a := range attacks {
		if a.ours {
			continue
		}
		t.Run(a.slug(), func(t *testing.T) {
			o := a.outcome(t, list[n])
			if o.Control != "" {
				t.Errorf("control: %s", o.Control)
			}
			fmt.Printf("ROW\t%s\t%s\n", a.name, cell(a, k, o))
		})
	}
}

// cell says what came of an attack.
func cell(a *attack, k vm.Kernel, o outcome) string {
	_, refused := a.refused[k]
	switch {
	case refused || o.Untried != "":
		return "–"
	case o.Error == "":
		return "**works**"
	case o.Errno != 0:
		return "denied"
	}
	return "denied, " + o.Error
}
