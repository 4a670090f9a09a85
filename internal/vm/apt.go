// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// debs downloads the packages of the newest cloud kernel of k's line to the
// directory to, and gives their files. apt works in the directory state with
// sources of its own: the machine's are read (for the mirror), never changed.
func (k Kernel) debs(ctx context.Context, state, to string) ([]string, error) {
	apt, err := newApt(ctx, state, suites)
	if err != nil {
		return nil, err
	}
	names, err := apt.run(ctx, "", "apt-cache", "pkgnames", "linux-")
	if err != nil {
		return nil, err
	}
	wanted, err := k.packages(ctx, strings.Fields(names))
	if err != nil {
		return nil, err
	}
	if _, err := apt.run(ctx, to, "apt-get", append([]string{"download"}, wanted...)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(to, "*.deb"))
}

// packages picks, of the names that the archive has, those of the newest
// kernel of k's line. Debian 6.19 and later split linux-image into
// linux-binary (vmlinuz), linux-modules and linux-base (modules.builtin).
func (k Kernel) packages(ctx context.Context, names []string) ([]string, error) {
	pattern := regexp.MustCompile(`^linux-(image|binary|modules)-(` + regexp.QuoteMeta(string(k)) + `\.[^-].*-cloud-amd64)$`)
	newest, have := "", map[string]bool{}
	for _, name := range names {
		have[name] = true
		m := pattern.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		if newest == "" || exec.CommandContext(ctx, "dpkg", "--compare-versions", m[2], "gt", newest).Run() == nil {
			newest = m[2]
		}
	}
	image, binary, modules, base := "linux-image-"+newest, "linux-binary-"+newest, "linux-modules-"+newest, "linux-base-"+newest
	switch {
	case newest == "":
		return nil, fmt.Errorf("no package linux-image-%s.*-cloud-amd64 in %s", k, strings.Join(suites, ", "))
	case have[binary] && have[modules]:
		return []string{binary, modules, base}, nil
	}
	return []string{image}, nil
}

// suites are where the kernels are, as "suite archive".
var suites = []string{
	"bookworm debian", "bookworm-security debian-security",
	"trixie debian", "trixie-security debian-security", "trixie-backports debian",
}

type apt struct{ options []string }

// Unpack downloads packages of one suite of Debian and unpacks them into the
// directory root, which it makes, whole or not at all. apt works in the directory
// state, as for kernels.
func Unpack(ctx context.Context, suite string, packages []string, state, root string) error {
	apt, err := newApt(ctx, state, []string{suite + " debian"})
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(root), "tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if _, err := apt.run(ctx, tmp, "apt-get", append([]string{"download"}, packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if _, err := command(ctx, "", "dpkg", "-x", deb, filepath.Join(tmp, "root")); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(tmp, "root"), root); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// newApt makes the private apt of the directory state and updates its lists.
func newApt(ctx context.Context, state string, suites []string) (*apt, error) {
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("%w (Debian package debian-archive-keyring)", err)
	}
	for _, dir := range []string{"etc/preferences.d", "lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(state, dir), 0o755); err != nil {
			return nil, err
		}
	}
	var sources bytes.Buffer
	for _, s := range suites {
		suite, archive, _ := strings.Cut(s, " ")
		fmt.Fprintf(&sources, "deb [arch=amd64 signed-by=%s] %s %s main\n", keyring, mirror(ctx, archive), suite)
	}
	list := filepath.Join(state, "etc", "sources.list")
	if err := os.WriteFile(list, sources.Bytes(), 0o644); err != nil {
		return nil, err
	}
	a := &apt{[]string{
		"-o", "Dir::Etc::SourceList=" + list,
		"-o", "Dir::Etc::SourceParts=-",
		"-o", "Dir::Etc::Preferences=-",
		"-o", "Dir::Etc::PreferencesParts=" + filepath.Join(state, "etc", "preferences.d"),
		"-o", "Dir::State::Lists=" + filepath.Join(state, "lists"),
		"-o", "Dir::Cache=" + filepath.Join(state, "cache"),
		"-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64",
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"-o", "Acquire::Retries=3",
		"-o", "APT::Sandbox::User=root",
	}}
	_, err := a.run(ctx, "", "apt-get", "update", "-qq", "--error-on=any")
	return a, err
}

func (a *apt) run(ctx context.Context, dir, name string, args ...string) (string, error) {
	return command(ctx, dir, name, append(append([]string{}, a.options...), args...)...)
}

// mirror is the address where this machine takes the archive from ("debian",
// "debian-security"), or the one that Debian gives everybody.
func mirror(ctx context.Context, archive string) string {
	out, _ := command(ctx, "", "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
	for line := range strings.Lines(out) {
		uri := strings.TrimRight(strings.TrimSpace(line), "/")
		if strings.HasSuffix(uri, "/"+archive) {
			return uri
		}
	}
	return "http://deb.debian.org/" + archive
}

// command runs a program in dir and gives what it prints on stdout.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, tail(stderr.Bytes()))
	}
	return stdout.String(), nil
}
