// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"testing"

	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/pkg"
	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/tree"
)

func TestOwners(t *testing.T) {
	files, err := tree.Flatten([][]tree.File{{
		{Name: "lib", Type: '2', Link: "usr/lib"},
		{Name: "usr/lib/libc.so.6", Type: '0'},
		{Name: "usr/lib/libc.so", Type: '2', Link: "libc.so.6"},
		{Name: "usr/lib/python3/dist-packages/six.py", Type: '0'},
		{Name: "usr/lib/python3/dist-packages/six/METADATA", Type: '0'},
		{Name: "usr/local/lib/python3/site-packages/flask/app.py", Type: '0'},
		{Name: "usr/local/bin/flask", Type: '0'},
		{Name: "app/server", Type: '0'},
		{Name: "app/tool.jar", Type: '0'},
		{Name: "app/bundle.jar", Type: '0'},
		{Name: "app/index.js", Type: '0'},
		{Name: "var/lib/dpkg/status", Type: '0'},
	}})
	if err != nil {
		t.Fatal(err)
	}
	at := func(path string) file.LocationSet { return file.NewLocationSet(file.NewLocation(path)) }
	packages := []pkg.Package{
		{Name: "six", Type: pkg.PythonPkg, Locations: at("/usr/lib/python3/dist-packages/six/METADATA"),
			Metadata: pkg.PythonPackage{SitePackagesRootPath: "/usr/lib/python3/dist-packages", Files: []pkg.PythonFileRecord{{Path: "six.py"}}}},
		{Name: "python3-six", Type: pkg.DebPkg, Locations: at("/var/lib/dpkg/status"),
			Metadata: pkg.DpkgDBEntry{Files: []pkg.DpkgFileRecord{{Path: "/usr/lib/python3/dist-packages/six.py"}}}},
		{Name: "libc6", Type: pkg.DebPkg, Locations: at("/var/lib/dpkg/status"),
			Metadata: pkg.DpkgDBEntry{Files: []pkg.DpkgFileRecord{{Path: "/lib/libc.so.6"}, {Path: "/lib/libc.so"}, {Path: "/lib/gone"}}}},
		{Name: "flask", Type: pkg.PythonPkg,
			Metadata: pkg.PythonPackage{SitePackagesRootPath: "/usr/local/lib/python3/site-packages", Files: []pkg.PythonFileRecord{{Path: "flask/app.py"}, {Path: "../../../bin/flask"}}}},
		{Name: "golang.org/x/net", Type: pkg.GoModulePkg, Locations: at("/app/server"), Metadata: pkg.GolangBinaryBuildinfoEntry{MainModule: "example.com/server"}},
		{Name: "example.com/server", Type: pkg.GoModulePkg, Locations: at("/app/server"), Metadata: pkg.GolangBinaryBuildinfoEntry{MainModule: "example.com/server"}},
		{Name: "tool", Type: pkg.JavaPkg, Locations: at("/app/tool.jar")},
		{Name: "one", Type: pkg.JavaPkg, Locations: at("/app/bundle.jar")},
		{Name: "two", Type: pkg.JavaPkg, Locations: at("/app/bundle.jar")},
	}
	got := map[string]string{}
	for path, i := range owners(packages, files) {
		got[path] = packages[i].Name
	}
	want := map[string]string{
		"usr/lib/libc.so.6":                                "libc6",
		"usr/lib/python3/dist-packages/six.py":             "python3-six",
		"usr/local/lib/python3/site-packages/flask/app.py": "flask",
		"usr/local/bin/flask":                              "flask",
		"app/server":                                       "example.com/server",
		"app/tool.jar":                                     "tool",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("owners (-want +got):\n%s", d)
	}
}
