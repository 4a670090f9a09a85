// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Ability is one thing that a kernel can or cannot do, found out by doing it.
type Ability struct {
	Name string `json:"name"`
	// OK: it can.
	OK bool `json:"ok"`
	// Required: without it nothing can be enforced.
	Required bool `json:"required"`
	// Consequence says what follows; where it is missing, what to change.
	Consequence string `json:"consequence"`
	// Error says why it could not, or how the question failed.
	Error string `json:"error,omitempty"`
}

// Probe tries what the verifier needs and what it can use. It leaves nothing
// loaded.
func Probe() []Ability {
	probes := []struct {
		name, with, without string
		required            bool
		try                 func() error
	}{
		{"kernel type information", "programs fit this kernel",
			"boot a kernel with CONFIG_DEBUG_INFO_BTF", true, probeBTF},
		{"BPF LSM", "programs can deny",
			"add bpf to the lsm= list of the kernel command line", true, probeLSM},
		{"no IMA policy", "file hashes are those of the data",
			"remove the IMA policy: with one the kernel's hashes can be stale", true, checkIMA},
		{"cgroup v2", "containers are told apart",
			"boot with systemd.unified_cgroup_hierarchy=1", true, probeCgroup},
		{"programs load", "trust mode sbom can be enforced",
			"report this with the output of uname -a", true, probeLoad},
		{"bpffs", "what is loaded outlives the agent",
			"mount -t bpf bpf /sys/fs/bpf", true, func() error { return onBPFFS("/sys/fs/bpf") }},
		{"overlayfs", "files of the image are told from those written later",
			"load the module overlay", false, probeOverlay},
	}
	var out []Ability
	for _, p := range probes {
		a := Ability{Name: p.name, OK: true, Required: p.required, Consequence: p.with}
		if err := p.try(); err != nil {
			a.OK, a.Consequence, a.Error = false, p.without, firstLine(err)
		}
		out = append(out, a)
	}
	return out
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func probeBTF() error {
	_, err := btf.LoadKernelSpec()
	return err
}

// probeLSM makes an inode storage map, which fails with EOPNOTSUPP when bpf is
// not among the active security modules.
func probeLSM() error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.InodeStorage, KeySize: 4, ValueSize: 4, Flags: unix.BPF_F_NO_PREALLOC,
		Key: &btf.Int{Size: 4, Encoding: btf.Signed}, Value: &btf.Int{Size: 4},
	})
	if err != nil {
		return err
	}
	if err := m.Close(); err != nil {
		return err
	}
	b, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Split(strings.TrimSpace(string(b)), ","), "bpf") {
		return fmt.Errorf("active security modules are %s", b)
	}
	return nil
}

func probeCgroup() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil {
		return err
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("/sys/fs/cgroup is not cgroup2")
	}
	return nil
}

// probeLoad attaches every program, without any domain, and detaches it.
func probeLoad() error {
	e, err := Load(Options{})
	if err != nil {
		return err
	}
	return e.Close()
}

func probeOverlay() error {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(b)), "overlay") {
		return errors.New("no overlay in /proc/filesystems")
	}
	return nil
}
