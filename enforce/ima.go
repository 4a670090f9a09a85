// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	securityDir = "/sys/kernel/security"
	imaDir      = securityDir + "/ima"
)

// checkIMA refuses a kernel without IMA, and one whose IMA has, or may have, a
// rule for files: where one matched, bpf_ima_file_hash answers from IMA's
// cache, which a changed file does not always void (seen on 6.1, 6.12, 6.18,
// 7.3). Without such a rule the file is hashed anew each time
// (security/integrity/ima/ima_main.c, __ima_inode_hash).
func checkIMA() error {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	// Also where the policy can be read: what a rule of the boot matched stays
	// cached when a written policy replaces that rule.
	if flag := imaFlag(string(cmdline)); flag != "" {
		return fmt.Errorf("boot flag %s: %w\nhint: boot without %s", flag, errStale, flag)
	}
	if _, err := os.Stat(imaDir); errors.Is(err, fs.ErrNotExist) {
		return noIMA()
	}
	policy, err := os.ReadFile(imaDir + "/policy")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// With neither CONFIG_IMA_READ_POLICY nor CONFIG_IMA_WRITE_POLICY the file goes
		// when a policy is written (security/integrity/ima/ima_fs.c, ima_release_policy).
		return fmt.Errorf("an IMA policy was written since boot, and cannot be read: %w\n"+
			"hint: boot without it, or a kernel with CONFIG_IMA_READ_POLICY: rules for modules, firmware and kexec are no hindrance", errStale)
	case errors.Is(err, fs.ErrPermission):
		// Without CONFIG_IMA_READ_POLICY. There can be rules all the same. Those of the
		// kernel's configuration and of Secure Boot do not use up the one write, and
		// match no file of ours (build_appraise_rules in ima_policy.c; arch_get_ima_policy).
		// With CONFIG_IMA_WRITE_POLICY a written policy leaves no sign at all.
		return nil
	case err != nil:
		return err
	}
	if rule := fileRule(string(policy)); rule != "" {
		return fmt.Errorf("IMA's rule %q: %w\nhint: boot without this rule: the kernel keeps it until then", rule, errStale)
	}
	return nil
}

var errStale = fmt.Errorf("the kernel's file hashes can be stale: %w", ErrNotSupported)

func noIMA() error {
	var st unix.Statfs_t
	if err := unix.Statfs(securityDir, &st); err != nil {
		return fmt.Errorf("%s: %w", securityDir, err)
	}
	if st.Type != unix.SECURITYFS_MAGIC {
		return fmt.Errorf("%s: %w\nhint: mount -t securityfs securityfs %s", imaDir, fs.ErrNotExist, securityDir)
	}
	return fmt.Errorf("this kernel has no IMA, which computes the hashes: %w\nhint: boot a kernel with CONFIG_IMA", ErrNotSupported)
}

// imaFlag gives the boot flag that loads rules for files, "" without one:
// ima_tcb, ima_appraise_tcb, and of ima_policy's values tcb and appraise_tcb.
// secure_boot has rules for modules, firmware, kexec and policies only,
// critical_data for what is no file, and fail_securely has none
// (ima_policy.c, policy_setup and ima_init_policy). The kernel skips a value
// that it does not know, but this version may not know what a later one does.
func imaFlag(cmdline string) string {
	for _, arg := range bootArgs(cmdline) {
		name, value, _ := strings.Cut(arg, "=")
		name = strings.ReplaceAll(name, "-", "_") // the kernel takes them for the same
		switch {
		// __setup compares as much as its own name has (init/main.c, obsolete_checksetup).
		case strings.HasPrefix(name, "ima_tcb"), strings.HasPrefix(name, "ima_appraise_tcb"):
			return arg
		case name == "ima_policy":
			for _, v := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" |\n", r) }) {
				if !slices.Contains([]string{"secure_boot", "critical_data", "fail_securely"}, v) {
					return arg
				}
			}
		}
	}
	return ""
}

// bootArgs splits the command line as the kernel does: quotes keep spaces
// together, and what follows "--" is for init (lib/cmdline.c, next_arg).
func bootArgs(cmdline string) []string {
	quoted := false
	args := strings.FieldsFunc(cmdline, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && strings.ContainsRune(" \t\n", r)
	})
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, `"`, "")
	}
	return args
}

// otherRules are the functions of IMA's rules that match no file that a
// container runs: what the kernel reads for itself, and what is no file
// (security/integrity/ima/ima.h of 7.0, __ima_hooks). A function that is not
// among them counts as one for files.
var otherRules = []string{
	"MODULE_CHECK", "FIRMWARE_CHECK", "KEXEC_KERNEL_CHECK", "KEXEC_INITRAMFS_CHECK", "POLICY_CHECK",
	"KEXEC_CMDLINE", "KEY_CHECK", "CRITICAL_DATA", "SETXATTR_CHECK",
}

// fileRule gives the first rule that can match a file that a container runs, "" without one.
func fileRule(policy string) string {
	for line := range strings.Lines(policy) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], "dont_") {
			continue
		}
		other := slices.ContainsFunc(fields, func(f string) bool {
			function, ok := strings.CutPrefix(f, "func=")
			return ok && slices.Contains(otherRules, function)
		})
		if !other {
			return strings.Join(fields, " ")
		}
	}
	return ""
}
