// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package testfapolicyd runs Debian's fapolicyd in a test guest, to compare
// with: a daemon that the kernel asks by fanotify(7) before a file is opened or
// executed. It is unpacked, not installed: a machine that boots with it and
// without a list of what it trusts is locked.
package testfapolicyd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// suite has fapolicyd 2.0, which no release of Debian has yet. It is built for
// the suite's own C library, so that and all other libraries come from there.
const suite = "sid"

var packages = []string{
	"fapolicyd", "libc6", "libbz2-1.0", "libcap-ng0", "liblmdb0", "liblzma5", "libmagic1t64", "libmagic-mgc", "libmd0", "libseccomp2",
	"libssl3t64", "libudev1", "libzstd1", "zlib1g",
}

const daemon = "/usr/sbin/fapolicyd"

// rules are those of Debian's sample rules that its README calls known-libs,
// but for 20-dracut and 21-updaters: they let a trusted program of root's do
// anything.
var rules = []string{
	"10-languages", "30-patterns", "40-bad-elf", "41-shared-obj", "42-trusted-elf", "70-trusted-lang", "72-shell", "90-deny-execute", "91-deny-lang", "95-allow-open",
}

const config = `permissive = 0
nice_val = 14
q_size = 640
uid = 0
gid = 0
do_stat_report = 0
detailed_report = 0
db_max_size = 50
subj_cache_size = 1549
obj_cache_size = 8191
watch_fs = overlay,tmpfs,ramfs,devtmpfs
trust = file
integrity = sha256
syslog_format = rule,dec,perm,pid,exe,:,path,ftype,trust
rpm_sha256_only = 0
allow_filesystem_mark = 1
`

// Files gives what the guest needs, in the form of vm.Config.Files. The
// packages stay in the user's cache.
func Files(ctx context.Context) (map[string]string, error) {
	root, err := fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("fapolicyd: %w", err)
	}
	files := map[string]string{
		daemon:                      filepath.Join(root, daemon),
		"/usr/share/fapolicyd":      filepath.Join(root, "usr/share/fapolicyd"),
		"/usr/share/misc/magic.mgc": filepath.Join(root, "usr/lib/file/magic.mgc"),
		loader:                      filepath.Join(root, libraries, "ld-linux-x86-64.so.2"),
	}
	cmd := exec.CommandContext(ctx, files[loader], "--library-path", filepath.Join(root, libraries), "--list", files[daemon])
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("fapolicyd: ld.so --list: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		switch {
		case strings.Contains(line, "not found"):
			return nil, fmt.Errorf("fapolicyd: %s", strings.TrimSpace(line))
		case len(fields) >= 3 && fields[1] == "=>" && fields[0] != loader:
			files[filepath.Join(libraries, fields[0])] = fields[2]
		}
	}
	return files, nil
}

const (
	loader    = "/lib64/ld-linux-x86-64.so.2"
	libraries = "/usr/lib/x86_64-linux-gnu"
)

// fetch unpacks the packages into the user's cache.
func fetch(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "sbom-bless")
	root := filepath.Join(cache, "fapolicyd-"+suite)
	if _, err := os.Stat(filepath.Join(root, daemon)); err == nil {
		return root, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	return root, vm.Unpack(ctx, suite, packages, filepath.Join(cache, "apt-"+suite), root)
}

const log = "/run/fapolicyd/said"

// Said is what the daemon said so far: its denials, among others.
func Said() string {
	b, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Start starts the daemon in the guest, which trusts the files of trusted: path
// as it sees them, to the path where the content is now.
func Start(trusted map[string]string) error {
	var conf, list bytes.Buffer
	for _, name := range rules {
		b, err := os.ReadFile("/usr/share/fapolicyd/sample-rules/" + name + ".rules")
		if err != nil {
			return err
		}
		conf.Write(b)
	}
	var paths []string
	for path := range trusted {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		b, err := os.ReadFile(trusted[path])
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%s %d %x\n", path, len(b), sha256.Sum256(b))
	}
	for _, dir := range []string{"/run/fapolicyd", "/var/lib/fapolicyd", "/var/log", "/etc/fapolicyd/trust.d", "/etc/fapolicyd/rules.d"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string][]byte{
		"fapolicyd.conf": []byte(config), "compiled.rules": conf.Bytes(), "fapolicyd.trust": list.Bytes(),
	} {
		if err := os.WriteFile("/etc/fapolicyd/"+name, content, 0o644); err != nil {
			return err
		}
	}
	// What it says of every decision would be nearly all of its cost.
	said, err := os.Create(log)
	if err != nil {
		return err
	}
	defer said.Close()
	cmd := exec.Command(daemon, "--debug-deny")
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		select {
		case err := <-ended:
			return fmt.Errorf("fapolicyd ended: %w\n%s", err, Said())
		case <-time.After(100 * time.Millisecond):
		}
		if strings.Contains(Said(), "Starting to listen for events") {
			return nil
		}
	}
	return fmt.Errorf("fapolicyd does not start\n%s", Said())
}

// Denied is what fapolicyd says when it denies (fanotify(7), FAN_DENY).
const Denied = unix.EPERM
