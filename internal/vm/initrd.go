// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"sync"
)

const guestProgram = "/bin/program"

func writeInitrd(ctx context.Context, file string, image *Image, c Config) error {
	pid1, err := buildPID1()
	if err != nil {
		return fmt.Errorf("pid 1: %w", err)
	}
	modules, err := image.modules(ctx, append([]string{"overlay"}, c.Modules...))
	if err != nil {
		return fmt.Errorf("modules: %w", err)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	a := newArchive(f)
	p := program{
		Kernel: c.Kernel,
		Argv:   append([]string{guestProgram}, c.Args...),
		Env: append([]string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"HOME=/root", "TMPDIR=/tmp", EnvGuest + "=" + string(c.Kernel),
		}, c.Env...),
	}
	for _, m := range modules {
		name := path.Join(moduleDir, m.name+".ko")
		a.add(name, modeFile|0o644, int64(len(m.data)), bytes.NewReader(m.data))
		p.Modules = append(p.Modules, name)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run", "/root"} {
		a.dir(dir, 0o755)
	}
	a.dir("/tmp", 0o1777)
	config, err := json.Marshal(p)
	if err != nil {
		return err
	}
	a.add(programFile, modeFile|0o644, int64(len(config)), bytes.NewReader(config))
	a.add("/init", modeFile|0o755, int64(len(pid1)), bytes.NewReader(pid1))
	if err := a.tree(guestProgram, c.Program); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		if err := a.tree(path.Clean("/"+name), c.Files[name]); err != nil {
			return err
		}
	}
	if err := a.close(); err != nil {
		return err
	}
	return f.Close()
}

// buildPID1 compiles package guest, once per process.
var buildPID1 = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sbom-bless-pid1-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "init")
	if err := goStatic("build", "-o", out, "github.com/sbom-bless/sbom-bless/internal/vm/guest"); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

// goStatic runs the go command such that what it links is static.
func goStatic(args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", args[0], err, out)
	}
	return nil
}
