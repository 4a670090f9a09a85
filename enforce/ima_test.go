// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import "testing"

// Policies as the kernel shows them (ima_policy.c, ima_policy_show).
func TestFileRule(t *testing.T) {
	for _, c := range []struct{ name, policy, want string }{
		{"no policy", "", ""},
		{"Secure Boot on x86 (arch/x86/kernel/ima_arch.c, sb_arch_rules)",
			"appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig \n" +
				"measure func=KEXEC_KERNEL_CHECK \n" +
				"appraise func=MODULE_CHECK appraise_type=imasig \n" +
				"measure func=MODULE_CHECK \n", ""},
		{"Secure Boot on POWER (arch/powerpc/kernel/ima_arch.c)",
			"measure func=KEXEC_KERNEL_CHECK template=ima-modsig \n" +
				"measure func=MODULE_CHECK template=ima-modsig \n" +
				"appraise func=KEXEC_KERNEL_CHECK appraise_flag=check_blacklist appraise_type=imasig|modsig \n", ""},
		{"ima_policy=secure_boot|critical_data",
			"appraise func=MODULE_CHECK appraise_type=imasig \n" +
				"appraise func=FIRMWARE_CHECK appraise_type=imasig \n" +
				"appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig \n" +
				"appraise func=POLICY_CHECK appraise_type=imasig \n" +
				"measure func=CRITICAL_DATA \n", ""},
		{"ima_policy=tcb, its beginning",
			"dont_measure fsmagic=0x9fa0 \ndont_measure fsmagic=0x62656572 \n" +
				"measure func=MMAP_CHECK mask=MAY_EXEC \nmeasure func=BPRM_CHECK mask=MAY_EXEC \n",
			"measure func=MMAP_CHECK mask=MAY_EXEC"},
		{"ima_policy=appraise_tcb: no func at all",
			"dont_appraise fsmagic=0x9fa0 \nappraise fowner=0 \n", "appraise fowner=0"},
		{"a distribution's kexec rules, then a site's own",
			"measure func=KEXEC_CMDLINE \nmeasure func=KEY_CHECK keyrings=.ima \naudit func=BPRM_CHECK \n",
			"audit func=BPRM_CHECK"},
		{"hash", "hash func=FILE_CHECK fsname=ext4 \n", "hash func=FILE_CHECK fsname=ext4"},
		{"the old name of a function", "measure func=PATH_CHECK mask=MAY_READ uid=0 \n", "measure func=PATH_CHECK mask=MAY_READ uid=0"},
		{"mmap by what was asked for (6.3)", "appraise func=MMAP_CHECK_REQPROT \n", "appraise func=MMAP_CHECK_REQPROT"},
		{"credentials", "appraise func=CREDS_CHECK \n", "appraise func=CREDS_CHECK"},
		{"a function of a later kernel", "measure func=NEW_CHECK \n", "measure func=NEW_CHECK"},
		{"exceptions alone", "dont_hash fsmagic=0x9fa0 \n# a comment\n\ndont_appraise func=BPRM_CHECK \n", ""},
		{"the function's name as another value", "measure obj_type=MODULE_CHECK \n", "measure obj_type=MODULE_CHECK"},
	} {
		if got := fileRule(c.policy); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestIMAFlag(t *testing.T) {
	for _, c := range []struct{ cmdline, want string }{
		{"BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet\n", ""},
		{"ima_hash=sha256 ima_template=ima-sig ima_appraise=log", ""},
		{"ima_policy=secure_boot", ""},
		{"ima_policy=critical_data|fail_securely", ""},
		{`ima_policy="secure_boot critical_data" quiet`, ""},
		{"ima_policy=", ""},
		{"ima_policy=tcb", "ima_policy=tcb"},
		{"ima_policy=secure_boot|appraise_tcb", "ima_policy=secure_boot|appraise_tcb"},
		{`ima_policy="secure_boot tcb" quiet`, "ima_policy=secure_boot tcb"},
		{`"ima_policy=secure_boot tcb"`, "ima_policy=secure_boot tcb"},
		{"ima-policy=tcb", "ima-policy=tcb"},
		{"ima_policy=critical_data ima_policy=tcb", "ima_policy=tcb"},
		{"ima_policy=of_a_later_kernel", "ima_policy=of_a_later_kernel"},
		{"quiet ima_tcb", "ima_tcb"},
		{"ima_appraise_tcb", "ima_appraise_tcb"},
		{"quiet -- ima_tcb", ""},
		{"init=/ima_tcb", ""},
	} {
		if got := imaFlag(c.cmdline); got != c.want {
			t.Errorf("%s: %q, want %q", c.cmdline, got, c.want)
		}
	}
}
