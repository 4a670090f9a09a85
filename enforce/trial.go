// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// fit refuses a kernel on which the programs would load, and not do their work. ahead tells that
// the agent has to compute digests, because those of the kernel can be stale or are no SHA-256.
func fit() (ahead bool, err error) {
	if err := checkSkips(); err != nil {
		return false, err
	}
	stale := checkIMA()
	lsm, hash := tryHooks()
	if lsm != nil {
		return false, lsm
	}
	for _, err := range []error{stale, hash} {
		if err != nil && !errors.Is(err, ErrNotSupported) {
			return false, err
		}
	}
	return stale != nil || hash != nil, nil
}

// checkSkips refuses kernels that skip a program while another task of the same
// processor is inside it, and allow what it would have judged: all from 5.12
// (ca06f55b9002) until commit 271de525e1d7, in 6.2 and 6.1.54.
var checkSkips = sync.OnceValue(func() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	release := unix.ByteSliceToString(u.Release[:])
	if atLeast(release, 6, 2) {
		return nil
	}
	// Distributions carry fixes back, and Debian's release does not count those of 6.1:
	// the function that the commit brought tells.
	fixed, err := hasSymbol("__bpf_prog_enter_sleepable_recur")
	if err != nil {
		return err
	}
	if !fixed {
		return fmt.Errorf("kernel %s is too old: from 5.12 on, programs are skipped while many tasks execute at once: %w\nhint: boot Linux 6.1.54 or later; of 6.2 and later, any", release, ErrNotSupported)
	}
	return nil
})

// atLeast compares the version that a release begins with, as "6.1.0-49-cloud-amd64" does.
func atLeast(release string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(release, "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

// hasSymbol tells whether the kernel has a function. BTF does not list all.
func hasSymbol(name string) (bool, error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() { // "ffffffff812f5ab0 T name"
		if strings.HasSuffix(lines.Text(), " "+name) {
			return true, nil
		}
	}
	return false, lines.Err()
}

var errNotTried = errors.New("not tried: something else is missing")

// tryHooks has a program deny the execution of one file and hash it. lsm tells
// why its denial does not hold, hash why its digest is not SHA-256.
func tryHooks() (lsm, hash error) {
	if err := checkFtrace(); err != nil {
		return err, errNotTried
	}
	program := tiny()
	if program == nil {
		return fmt.Errorf("no test program for %s: %w", runtime.GOARCH, ErrNotSupported), errNotTried
	}
	mount, err := detachedTmpfs()
	if err != nil {
		return err, errNotTried
	}
	defer mount.Close()
	file := inMount(mount, "trial")
	if err := os.WriteFile(file, program, 0o700); err != nil {
		return err, errNotTried
	}
	coll, err := loadTrialFor(file)
	if err != nil {
		return loadError(runtime.GOARCH, err), errNotTried
	}
	defer coll.Close()
	l, err := link.AttachLSM(link.LSMOptions{Program: coll.Programs[trialProgBlessTrial]})
	if err != nil {
		return loadError(runtime.GOARCH, err), errNotTried
	}
	ran := exec.Command(file).Run()
	if err := l.Close(); err != nil {
		return err, errNotTried
	}
	var asked uint32
	var algorithm int64
	if err := errors.Join(coll.Variables[trialVarAsked].Get(&asked), coll.Variables[trialVarAlgorithm].Get(&algorithm)); err != nil {
		return err, errNotTried
	}
	if asked == 0 {
		return notAsked(ran), errNotTried
	}
	switch {
	case ran == nil:
		lsm = fmt.Errorf("a program's denial is not heeded: %w", ErrNotSupported)
	case !errors.Is(ran, unix.EPERM):
		lsm = fmt.Errorf("a program's denial gives another error: %w: %w", ran, ErrNotSupported)
	}
	return lsm, hashError(algorithm)
}

// checkFtrace comes before any program is attached: with 0, attached programs
// are never asked, and to attach one breaks ftrace until the next boot (6.12:
// everything after fails with ENODEV).
func checkFtrace() error {
	const name = "/proc/sys/kernel/ftrace_enabled"
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(b)) == "0" {
		return fmt.Errorf("%s is 0: %w\nhint: sysctl -w kernel.ftrace_enabled=1", name, ErrNotSupported)
	}
	return nil
}

func loadTrialFor(file string) (*ebpf.Collection, error) {
	spec, err := loadTrial()
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := stat(file, &st); err != nil {
		return nil, err
	}
	if err := errors.Join(spec.Variables[trialVarTrialDev].Set(kernelDev(st.Dev)), spec.Variables[trialVarTrialInode].Set(st.Ino)); err != nil {
		return nil, err
	}
	return ebpf.NewCollection(spec)
}

// loadError says what a kernel lacks that does not take the program. On arm64,
// programs could not be attached to kernel functions before 6.4, which brought
// DYNAMIC_FTRACE_WITH_DIRECT_CALLS there.
func loadError(arch string, err error) error {
	const enotsupp = unix.Errno(524) // include/linux/errno.h
	switch {
	case arch == "arm64" && errors.Is(err, enotsupp):
		return fmt.Errorf("attach: %w: %w\nhint: on arm64, boot Linux 6.4 or later", ErrNotSupported, err)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, enotsupp):
		return fmt.Errorf("%w: %w\nhint: boot a kernel with CONFIG_BPF_LSM and CONFIG_DEBUG_INFO_BTF", ErrNotSupported, err)
	}
	return err
}

// lockdownError says so where lockdown is why the programs do not load: in mode
// confidentiality they may not read the kernel's memory (LOCKDOWN_BPF_READ_KERNEL).
func lockdownError(err error) error {
	mode, failed := os.ReadFile(securityDir + "/lockdown") // "none integrity [confidentiality]"
	if failed != nil || !strings.Contains(string(mode), "[confidentiality]") {
		return err
	}
	return fmt.Errorf("lockdown is in mode confidentiality: %w: %w\nhint: boot with lockdown=integrity", ErrNotSupported, err)
}

// notAsked says why an attached program was not asked; ran is what became of the execution.
func notAsked(ran error) error {
	if ran != nil {
		return fmt.Errorf("something else denies the test program: %w", ran)
	}
	active, err := os.ReadFile(securityDir + "/lsm")
	if err != nil {
		return fmt.Errorf("programs attach and are never asked: %w: %w", ErrNotSupported, err)
	}
	if names := strings.TrimSpace(string(active)); !slices.Contains(strings.Split(names, ","), "bpf") {
		return fmt.Errorf("active security modules are %s: %w\nhint: boot with %s", names, ErrNotSupported, lsmFlag(names))
	}
	return fmt.Errorf("programs attach and are never asked: %w\nhint: report this with the output of uname -a", ErrNotSupported)
}

// lsmFlag is the boot flag that adds bpf to the active security modules. The
// kernel itself begins with capability and ends with ima and evm. Before 6.9
// the list of active modules has neither them nor integrity, and before 6.4
// IMA needs integrity in the flag: else the kernel panics ("lsm=integrity
// required", security/integrity/iint.c). Later kernels skip the name.
func lsmFlag(active string) string {
	names := slices.DeleteFunc(strings.Split(active, ","), func(n string) bool {
		return slices.Contains([]string{"", "capability", "integrity", "ima", "evm"}, n)
	})
	return "lsm=" + strings.Join(append(names, "integrity", "bpf"), ",")
}

// hashAlgorithms are the names of enum hash_algo (include/uapi/linux/hash_info.h) that IMA can be set to.
var hashAlgorithms = map[int64]string{
	1: "md5", 2: "sha1", 3: "rmd160", hashSHA256: "sha256", 5: "sha384", 6: "sha512", 7: "sha224", 13: "wp512", 17: "sm3",
}

const hashSHA256 = 4

// hashError says what is wrong with what bpf_ima_file_hash returned: the
// algorithm, which is IMA's default, or an error.
func hashError(algorithm int64) error {
	switch {
	case algorithm == hashSHA256:
		return nil
	case algorithm >= 0:
		name := hashAlgorithms[algorithm]
		if name == "" {
			name = fmt.Sprintf("algorithm %d", algorithm)
		}
		return fmt.Errorf("the kernel hashes files with %s, lists have sha256: %w\nhint: boot with ima_hash=sha256", name, ErrNotSupported)
	case unix.Errno(-algorithm) == unix.EOPNOTSUPP: // the helper's word for "no IMA", too
		return fmt.Errorf("the kernel hashes no files: %w\nhint: boot a kernel with CONFIG_IMA and CONFIG_CRYPTO_SHA256", ErrNotSupported)
	}
	return fmt.Errorf("hash of a file: %w", unix.Errno(-algorithm))
}
