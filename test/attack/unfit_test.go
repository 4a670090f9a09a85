// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

// probed is what stage probe prints.
type probed struct {
	Abilities []enforce.Ability
	Load      string // its error
	Certain   bool   // that the kernel cannot
}

func probe() probed {
	p := load()
	p.Abilities = enforce.Probe()
	return p
}

// load is the part of probe that takes no time where the kernel is refused.
func load() (p probed) {
	e, err := enforce.Load(enforce.Options{})
	if err == nil {
		err = errors.Join(e.Canary(), e.Close())
	}
	if err != nil {
		p.Load, p.Certain = err.Error(), errors.Is(err, enforce.ErrNotSupported)
	}
	return p
}

// printProbe is stage probe.
func printProbe() int {
	must(json.NewEncoder(os.Stdout).Encode(probe()))
	return 0
}

func (p probed) of(name string) enforce.Ability {
	i := slices.IndexFunc(p.Abilities, func(a enforce.Ability) bool { return a.Name == name })
	if i < 0 {
		return enforce.Ability{Error: "no ability is called " + name}
	}
	return p.Abilities[i]
}

// fits fails the test unless the verifier works.
func (p probed) fits(t *testing.T) {
	t.Helper()
	for _, a := range p.Abilities {
		if a.Required && !a.OK {
			t.Errorf("%+v", a)
		}
	}
	if p.Load != "" {
		t.Errorf("load: %s", p.Load)
	}
}

// refused fails the test unless Probe and Load name the ability that is
// missing, why, and the remedy.
func (p probed) refused(t *testing.T, ability, why, remedy string) {
	t.Helper()
	a := p.of(ability)
	if a.OK || a.Unknown || !strings.Contains(a.Error, why) || a.Consequence != remedy {
		t.Errorf("%+v\nwant error %q, consequence %q", a, why, remedy)
	}
	p.notLoaded(t, why, remedy)
}

// notLoaded is the part of refused that is about Load.
func (p probed) notLoaded(t *testing.T, why, remedy string) {
	t.Helper()
	if !p.Certain || !strings.Contains(p.Load, why) || !strings.HasSuffix(p.Load, "\nhint: "+remedy) {
		t.Errorf("load: %s\nwant %q, hint %q", p.Load, why, remedy)
	}
}

// sealed fails the test unless Probe names the ability that is missing, why, and what would help,
// and the agent computes the digests instead.
func (p probed) sealed(t *testing.T, ability, why, remedy string) {
	t.Helper()
	const instead = "digests are computed before a container starts, and trust modes keyring and both cannot be enforced; else "
	if a := p.of(ability); a.OK || a.Unknown || a.Required || !strings.Contains(a.Error, why) || a.Consequence != instead+remedy {
		t.Errorf("%+v\nwant error %q, consequence %q", a, why, instead+remedy)
	}
	p.fits(t)
}

// Where the kernel was booted so that its hashes are of no use, the agent computes them, and the flag
// that helps is named.
func TestBootFlags(t *testing.T) {
	vm.OnlyInAll(t)
	for _, c := range []struct{ name, flags, ability, why, remedy string }{
		{"sha1", "ima_hash=sha1", "SHA-256 file hashes", "hashes files with sha1", "boot with ima_hash=sha256"},
		{"sha512", "ima_hash=sha512 ima_policy=critical_data|fail_securely", "SHA-256 file hashes", "hashes files with sha512", "boot with ima_hash=sha256"},
		{"tcb", "ima_policy=critical_data|tcb", "fresh file hashes", "boot flag ima_policy=critical_data|tcb", "boot without ima_policy=critical_data|tcb"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vm.Test(t, []vm.Kernel{"6.12"}, vm.Config{Append: c.flags, Timeout: 10 * time.Minute}, func(t *testing.T, _ vm.Kernel) {
				probe().sealed(t, c.ability, c.why, c.remedy)
			})
		})
	}
}

// Without bpf in lsm=, programs load, attach, and are never asked. The flag
// that the probe makes of the active modules is booted, and helps: on 6.1 the
// kernel panics if it lacks integrity.
func TestLSMFlag(t *testing.T) {
	vm.OnlyInAll(t)
	vm.Test(t, []vm.Kernel{"6.1", "6.18"}, vm.Config{Timeout: 10 * time.Minute, Host: func(t vm.TB, c *vm.Config) {
		first := *c
		first.Args, first.Env = nil, []string{"STAGE=probe"}
		first.Append = "lsm=landlock,lockdown,yama,integrity,apparmor"
		r, err := vm.Run(context.Background(), first)
		if err != nil {
			t.Fatal(err)
		}
		var p probed
		if err := json.Unmarshal(r.Output, &p); err != nil {
			t.Fatalf("%v: %s", err, r.Output)
		}
		flag, ok := strings.CutPrefix(p.of("BPF LSM").Consequence, "boot with ")
		if !ok || !p.Certain || !strings.Contains(p.Load, "active security modules are lockdown,capability,landlock,yama,apparmor") {
			t.Fatalf("%+v", p)
		}
		if hash := p.of("SHA-256 file hashes"); !hash.Unknown {
			t.Fatalf("no program ran, but: %+v", hash)
		}
		t.Logf("the probe says: %s", flag)
		c.Append = flag
	}}, func(t *testing.T, _ vm.Kernel) { probe().fits(t) })
}

// What changes under way: IMA's policy, sysctls, skipped programs.
func TestUnfit(t *testing.T) {
	vm.OnlyInAll(t)
	vm.Test(t, []vm.Kernel{"6.12"}, vm.Config{Timeout: 10 * time.Minute, Host: func(t vm.TB, c *vm.Config) {
		for in, from := range guestFiles() {
			c.Files[in] = from
		}
	}}, testUnfit)
}

const staleHashes = "fresh file hashes"

// Rules as Secure Boot has them, and as a READ_POLICY kernel shows them.
const otherRules = "measure func=KEXEC_KERNEL_CHECK\nmeasure func=MODULE_CHECK\nappraise func=KEXEC_KERNEL_CHECK appraise_type=imasig\n"

func testUnfit(t *testing.T, _ vm.Kernel) {
	t.Run("as booted", func(t *testing.T) { probe().fits(t) })

	t.Run("not as root", func(t *testing.T) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "STAGE=probe")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var p probed
		must(json.Unmarshal(out, &p))
		for _, name := range []string{"BPF LSM", "SHA-256 file hashes", "programs load"} {
			if a := p.of(name); a.OK || !a.Unknown || a.Consequence != "try as root" {
				t.Errorf("%+v", a)
			}
		}
		if p.Load == "" || p.Certain {
			t.Errorf("load: %+v", p)
		}
	})

	t.Run("ftrace off", func(t *testing.T) {
		const ftrace = "/proc/sys/kernel/ftrace_enabled"
		must(os.WriteFile(ftrace, []byte("0"), 0))
		defer func() { must(os.WriteFile(ftrace, []byte("1"), 0)) }()
		probe().refused(t, "BPF LSM", ftrace+" is 0", "sysctl -w kernel.ftrace_enabled=1")
	})

	t.Run("no IMA", func(t *testing.T) {
		// A directory of securityfs that has none.
		must(unix.Mount("/sys/kernel/security/apparmor", "/sys/kernel/security", "", unix.MS_BIND, ""))
		defer func() { must(unix.Unmount("/sys/kernel/security", 0)) }()
		probe().sealed(t, staleHashes, "this kernel has no IMA", "boot a kernel with CONFIG_IMA")
	})

	t.Run("securityfs not mounted", func(t *testing.T) {
		must(unix.Mount("tmpfs", "/sys/kernel/security", "tmpfs", 0, ""))
		defer func() { must(unix.Unmount("/sys/kernel/security", 0)) }()
		if p := load(); p.Certain || !strings.HasSuffix(p.Load, "\nhint: mount -t securityfs securityfs /sys/kernel/security") {
			t.Errorf("%+v", p)
		}
		// Who has to hash is not known, so `check` may not say yes.
		if err := enforce.Supports(enforce.Probe(), enforce.TrustSBOM); err == nil || errors.Is(err, enforce.ErrNotSupported) {
			t.Errorf("%v", err)
		}
	})

	// This kernel cannot show its policy, so rules that could be for files count as such.
	must(os.WriteFile(imaPolicy, []byte(otherRules), 0))
	t.Run("a written policy that cannot be read", func(t *testing.T) {
		probe().sealed(t, staleHashes, "an IMA policy was written since boot",
			"boot without it, or a kernel with CONFIG_IMA_READ_POLICY: rules for modules, firmware and kexec are no hindrance")
	})

	// As with READ_POLICY.
	must(unix.Mount("tmpfs", "/sys/kernel/security/integrity/ima", "tmpfs", 0, ""))
	show := func(rules string) { must(os.WriteFile(imaPolicy, []byte(rules), 0o600)) }
	show(otherRules)
	var e *enforce.Enforcer
	var c *container
	t.Run("rules for modules and kexec", func(t *testing.T) {
		must(makeImage())
		set, err := imageSet()
		must(err)
		if e, err = enforce.Load(pinned); err != nil {
			t.Fatal(err)
		}
		if err := e.Canary(); err != nil {
			t.Fatal(err)
		}
		// With such rules loaded, a changed file has another hash.
		c = newContainer(t)
		if _, err := e.Add(enforce.Domain{Name: "fresh", Cgroup: c.cgroup, Root: c.root, Rules: enforce.Rules{Enforce: true}}, set); err != nil {
			t.Fatal(err)
		}
		run := &attack{name: executing + "/bin/fortytwo"}
		if o := run.run(t, c); o.Error != "" {
			t.Errorf("the image's own does not run: %+v", o)
		}
		must(os.WriteFile(image+"/bin/fortytwo", append(tiny(evil), 1), 0o755))
		if o := run.run(t, c); o.Errno != syscall.EPERM || o.Control != "" {
			t.Errorf("the changed one: %+v", o)
		}
	})
	if e == nil {
		t.FailNow()
	}

	t.Run("a rule for files comes", func(t *testing.T) {
		const rule = "audit func=BPRM_CHECK mask=MAY_EXEC"
		show(otherRules + rule + "\n")
		defer show(otherRules)
		why, remedy := fmt.Sprintf("IMA's rule %q", rule), "boot without this rule: the kernel keeps it until then"
		if err := e.Canary(); err == nil || !strings.Contains(err.Error(), "canary: "+why) || !strings.HasSuffix(err.Error(), remedy) {
			t.Errorf("canary: %v", err)
		}
		probe().sealed(t, staleHashes, why, remedy)
		// The next agent computes the digests of the containers that are there.
		for _, ahead := range []bool{true, false} {
			next, err := enforce.Load(pinned)
			must(err)
			if is, err := next.HashedAhead(); err != nil || is != ahead {
				t.Errorf("the agent computes digests: %t %v, want %t", is, err, ahead)
			}
			if err := next.Canary(); err != nil {
				t.Error(err)
			}
			if err := c.execute("/bin/control"); err != errExitedWell {
				t.Error(err)
			}
			must(next.Close())
			show(otherRules)
		}
	})

	t.Run("the kernel skips a program", func(t *testing.T) {
		if err := e.Canary(); err != nil {
			t.Fatal(err)
		}
		p, l := skipped()
		defer p.Close()
		defer l.Close()
		info, err := p.Info()
		must(err)
		id, _ := info.ID()
		objects, err := ebpf.LoadPinnedMap(enforce.DefaultPins+"/maps/objects", nil)
		must(err)
		defer objects.Close()
		must(objects.Put(uint64(1)<<32|uint64(id), uint8(1))) // as if it were the verifier's
		if err := e.Canary(); err == nil || !strings.Contains(err.Error(), "the kernel skipped recursive 1 times") {
			t.Errorf("canary: %v", err)
		}
		proof, err := e.LastProof()
		if err != nil || proof == nil || !strings.Contains(proof.Error, "skipped recursive") {
			t.Errorf("status would say %+v, %v", proof, err)
		}
	})

	// Last, for the kernel never goes back.
	t.Run("lockdown", func(t *testing.T) {
		must(os.WriteFile("/sys/kernel/security/lockdown", []byte("confidentiality"), 0))
		load().notLoaded(t, "lockdown is in mode confidentiality", "boot with lockdown=integrity")
	})
}

// skipped gives a program that the kernel skipped once: it is run when an
// element of a hash is deleted, and deletes one.
func skipped() (*ebpf.Program, link.Link) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	must(err)
	defer m.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "recursive", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: "htab_map_delete_elem", License: "GPL",
		Instructions: asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word), // key 0
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapDeleteElem.Call(),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})
	must(err)
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	must(err)
	if err := m.Delete(uint32(0)); !errors.Is(err, ebpf.ErrKeyNotExist) {
		must(fmt.Errorf("delete: %w", err))
	}
	return p, l
}
