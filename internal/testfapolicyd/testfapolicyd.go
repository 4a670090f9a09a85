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
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// packages are fapolicyd and those of its libraries that few machines have.
var packages = []string{"fapolicyd", "libcap-ng0", "liblmdb0", "libmagic1", "libmagic-mgc", "libseccomp2", "libudev1"}

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
// packages come from the machine's own archive and stay in the user's cache.
func Files(ctx context.Context) (map[string]string, error) {
	root, err := fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("fapolicyd: %w", err)
	}
	files := map[string]string{
		daemon:                       filepath.Join(root, daemon),
		"/usr/share/fapolicyd":       filepath.Join(root, "usr/share/fapolicyd"),
		"/usr/share/misc/magic.mgc":  filepath.Join(root, "usr/lib/file/magic.mgc"),
		"/etc/fapolicyd/sample-conf": filepath.Join(root, "etc/fapolicyd/fapolicyd.conf"),
	}
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu") + ":" + filepath.Join(root, "lib/x86_64-linux-gnu")
	cmd := exec.CommandContext(ctx, "ldd", filepath.Join(root, daemon))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+lib)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("fapolicyd: ldd: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		switch {
		case strings.Contains(line, "not found"):
			return nil, fmt.Errorf("fapolicyd: %s", strings.TrimSpace(line))
		case len(fields) >= 3 && fields[1] == "=>":
			files["/usr/lib/x86_64-linux-gnu/"+fields[0]] = fields[2]
		case strings.HasPrefix(fields[0], "/lib64/"):
			files[fields[0]] = fields[0]
		}
	}
	return files, nil
}

// fetch unpacks the packages into the cache, whole or not at all.
func fetch(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "sbom-bless")
	root := filepath.Join(cache, "fapolicyd")
	if _, err := os.Stat(filepath.Join(root, daemon)); err == nil {
		return root, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cache, "tmp-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	download := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q"}, packages...)...)
	download.Dir = tmp
	if out, err := download.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download: %w\n%s", err, out)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return "", err
	}
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg", "-x", deb, filepath.Join(tmp, "root")).CombinedOutput(); err != nil {
			return "", fmt.Errorf("dpkg -x: %w\n%s", err, out)
		}
	}
	if err := os.Rename(filepath.Join(tmp, "root"), root); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return root, nil
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
