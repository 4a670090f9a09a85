// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"path"
	"runtime/debug"

	"github.com/anchore/syft/syft/pkg"

	"github.com/sbom-bless/sbom-bless/tree"
)

// owners tells for each regular file that a package owns the index of the
// package. Claims count in this order, and within one rank the first package counts:
//
//  1. the database of the system's package manager lists the file (dpkg, rpm, apk, ...);
//  2. the record of a language's package lists it (RECORD of Python, ...);
//  3. the package was found in the very file, and no other was: a jar, an executable made by Go.
func owners(packages []pkg.Package, files *tree.Tree) map[string]int {
	owner := map[string]int{}
	claim := func(i int, name string) {
		e := files.Resolve(name)
		if e == nil || !e.Regular() {
			return
		}
		if _, taken := owner[e.Name]; !taken {
			owner[e.Name] = i
		}
	}
	for _, system := range []bool{true, false} {
		for i := range packages {
			p := &packages[i]
			if systemPackage(p.Type) != system {
				continue
			}
			if list, ok := p.Metadata.(pkg.FileOwner); ok {
				for _, name := range list.OwnedFiles() {
					claim(i, absolute(p, name))
				}
			}
		}
	}
	within := map[string][]int{}
	for i := range packages {
		for _, l := range packages[i].Locations.ToSlice() {
			if e := files.Resolve(l.RealPath); e != nil && e.Regular() {
				within[e.Name] = append(within[e.Name], i)
			}
		}
	}
	for name, found := range within {
		if i, ok := content(packages, found); ok {
			claim(i, name)
		}
	}
	return owner
}

// content picks, of the packages that were found in one file, the one that the file is.
func content(packages []pkg.Package, found []int) (int, bool) {
	if len(found) == 1 {
		_, owner := packages[found[0]].Metadata.(pkg.FileOwner)
		return found[0], !owner // what a database lists was claimed before; the database itself is nobody's
	}
	for _, i := range found {
		if m, ok := packages[i].Metadata.(pkg.GolangBinaryBuildinfoEntry); ok && m.MainModule == packages[i].Name {
			return i, true
		}
	}
	return 0, false
}

func systemPackage(t pkg.Type) bool {
	switch t {
	case pkg.DebPkg, pkg.RpmPkg, pkg.ApkPkg, pkg.AlpmPkg, pkg.PortagePkg, pkg.NixPkg:
		return true
	}
	return false
}

// absolute makes a path of a package's list absolute. Python's are relative to the directory of packages.
func absolute(p *pkg.Package, name string) string {
	if python, ok := p.Metadata.(pkg.PythonPackage); ok && !path.IsAbs(name) {
		return path.Join(python.SitePackagesRootPath, name)
	}
	return name
}

// syftVersion is the version of syft in this program.
func syftVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/anchore/syft" {
				return m.Version
			}
		}
	}
	return "unknown"
}
