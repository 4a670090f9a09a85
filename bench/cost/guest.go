// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/testima"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"golang.org/x/sys/unix"
)

const (
	image  = "/image"
	root   = "/run/root"
	keyDir = "/keys"
	files  = 32 // programs that are executed for the first time
)

// operation is one thing that loop.c does.
type operation struct {
	name  string
	path  string
	times int // in a batch
}

// batches is how often each is measured; the median counts.
var batches = 7

var operations = []operation{
	{"exec", "/usr/bin/true", 50},
	{"mmap", "/usr/bin/true", 500},
	{"read4k", "/opt/plain", 500},
	{"read64k", "/opt/plain", 200},
	{"stat", "/opt/plain", 500},
	{"write", "/home/file", 500},
	{"create", "/home/new", 200},
	{"refused", refused, 20},
}

// refused is a program of 1 MiB that is in no list.
const refused = "/opt/refused"

// guest measures one scenario: the same operations in one boot, before and
// after something is put in force.
func guest(scenario string) error {
	sets := map[string][]string{
		"verifier":  {"none", "enforced"},
		"wall":      {"none", "enforced"},
		"ima":       {"none", "digest", "rsa-2048", "ecdsa-p256"},
		"fapolicyd": {"none", "fapolicyd"},
		"seals":     {"none", "enforced"},
	}[scenario]
	if err := makeImage(sets); err != nil {
		return err
	}
	// What the kernel still does after boot is over by then. Where instructions are
	// the clock, idle time passes at once.
	if scenario == "wall" {
		batches = 51
		time.Sleep(10 * time.Second)
	} else {
		time.Sleep(time.Minute)
	}
	if err := measure("none", true); err != nil {
		return err
	}
	switch scenario {
	case "verifier", "wall", "seals":
		return verifier()
	case "ima":
		return ima(sets[1:])
	case "fapolicyd":
		return fapolicyd()
	}
	return fmt.Errorf("scenario %q", scenario)
}

// makeImage completes the lower layer, with programs that were never executed
// for each of the sets, and mounts a container's root filesystem on it.
func makeImage(sets []string) error {
	program, err := os.ReadFile(image + "/usr/bin/true")
	if err != nil {
		return err
	}
	for _, dir := range []string{"home", "opt", "tmp", "proc"} {
		if err := os.MkdirAll(filepath.Join(image, dir), 0o755); err != nil {
			return err
		}
	}
	for _, set := range sets {
		dir := filepath.Join(image, "opt", set)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		for i := range files {
			// Each differs, as programs do.
			content := append(bytes.Clone(program), set+strconv.Itoa(i)...)
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), content, 0o755); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(image+"/opt/plain", make([]byte, 65536), 0o644); err != nil {
		return err
	}
	unlisted := append(bytes.Clone(program), make([]byte, 1<<20-len(program))...)
	if err := os.WriteFile(image+refused, unlisted, 0o755); err != nil {
		return err
	}
	for _, dir := range []string{"/run/upper", "/run/work", root} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return errors.Join(
		unix.Mount("overlay", root, "overlay", 0, "lowerdir="+image+",upperdir=/run/upper,workdir=/run/work"),
		unix.Mount("proc", root+"/proc", "proc", 0, ""))
}

// measure runs every operation in the container and prints what each took in
// the phase; first: the programs of the phase's name are executed, too.
func measure(phase string, first bool) error {
	if first {
		if err := warm(); err != nil {
			return err
		}
		if err := run(phase, operation{"first", "/opt/" + phase + "/", files}); err != nil {
			return err
		}
	}
	for _, op := range operations {
		if err := run(phase, op); err != nil {
			return err
		}
	}
	return nil
}

// warm executes a program whose libraries the others use, too.
func warm() error { return run("warm", operation{"exec", "/usr/bin/true", 1}) }

// run runs an operation in the container and prints what it took.
func run(phase string, op operation) error {
	cgroup, err := openCgroup()
	if err != nil {
		return err
	}
	defer unix.Close(cgroup)
	n := batches
	if op.name == "first" {
		n = 1
	}
	cmd := exec.Command("/bin/loop", op.name, op.path, strconv.Itoa(n), strconv.Itoa(op.times))
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, UseCgroupFD: true, CgroupFD: cgroup}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %s: %w: %s", phase, op.name, err, out)
	}
	if phase == "warm" {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		fmt.Printf("COST %s %s %s", phase, op.name, line)
	}
	return nil
}

const cgroupDir = "/sys/fs/cgroup/container"

func openCgroup() (int, error) {
	if err := os.Mkdir(cgroupDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return -1, err
	}
	return unix.Open(cgroupDir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// verifier measures outside of any domain, then in one, with the rules that
// cost most.
func verifier() error {
	for _, sleepable := range []bool{false, true} {
		if err := empty(sleepable); err != nil {
			return err
		}
	}
	// As on a node, where /run is a filesystem of its own.
	if err := os.MkdirAll(enforce.DefaultState, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", enforce.DefaultState, "tmpfs", 0, ""); err != nil {
		return err
	}
	e, err := enforce.Load(enforce.Options{Pins: enforce.DefaultPins, State: enforce.DefaultState})
	if err != nil {
		return err
	}
	if err := measure("outside", false); err != nil {
		return err
	}
	set := enforce.Set{Name: "registry.example/app@sha256:" + strings.Repeat("0", 64), Sizes: true}
	err = filepath.WalkDir(image, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || name == image+refused {
			return err
		}
		b, err := os.ReadFile(name)
		set.Files = append(set.Files, enforce.File{Path: strings.TrimPrefix(name, image), SHA256: sha256.Sum256(b), Size: uint64(len(b))})
		return err
	})
	if err != nil {
		return err
	}
	domain := enforce.Domain{Name: "container", Cgroup: cgroupDir, Root: root, Rules: enforce.Rules{Enforce: true}}
	if _, err := e.Add(domain, set); err != nil {
		return err
	}
	if err := measure("enforced", true); err != nil {
		return err
	}
	if err := e.Remove(only(e)); err != nil {
		return err
	}
	domain.Interpreters = true
	if _, err := e.Add(domain, set); err != nil {
		return err
	}
	return measure("interpreters", false)
}

// empty measures a program that does nothing: what no program on the same hook
// can do without.
func empty(sleepable bool) error {
	spec := &ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_open", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	}
	phase := "empty program on file_open"
	if sleepable {
		spec.Flags = unix.BPF_F_SLEEPABLE
		phase = "empty sleepable program on file_open"
	}
	program, err := ebpf.NewProgram(spec)
	if err != nil {
		return err
	}
	defer program.Close()
	l, err := link.AttachLSM(link.LSMOptions{Program: program})
	if err != nil {
		return err
	}
	return errors.Join(measure(strings.ReplaceAll(phase, " ", "_"), false), l.Close())
}

// only gives the one domain that there is.
func only(e *enforce.Enforcer) enforce.Domain {
	domains, err := e.Domains()
	if err != nil || len(domains) != 1 {
		panic(fmt.Sprint(domains, err))
	}
	return domains[0]
}

// ima measures the kernel's own appraisal of everything that is executed or
// mapped so: signatures of each kind, and digests.
func ima(sets []string) error {
	var trusted []*testima.Signer
	signers := map[string]*testima.Signer{}
	for _, kind := range sets[1:] {
		if kind == "ecdsa-p256" && vm.Guest() == "6.1" {
			continue // Debian's 6.1 has no ECDSA
		}
		s, err := testima.Load(filepath.Join(keyDir, kind), kind)
		if err != nil {
			return err
		}
		signers[kind] = s
		trusted = append(trusted, s)
	}
	const owner, digestOwner = 7777, 7778
	err := filepath.WalkDir(image, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		set := filepath.Base(filepath.Dir(name))
		if set == "digest" {
			return errors.Join(os.Chown(name, digestOwner, 0), testima.SetDigest(name))
		}
		s := signers[set]
		if s == nil {
			s = signers["rsa-2048"]
		}
		return errors.Join(os.Chown(name, owner, 0), s.Sign(name))
	})
	if err != nil {
		return err
	}
	if _, err := testima.Trust("_ima", trusted...); err != nil {
		return err
	}
	var rules []string
	for _, hook := range []string{"func=BPRM_CHECK", "func=MMAP_CHECK mask=MAY_EXEC"} {
		rules = append(rules, "appraise "+hook+" fowner=7777 appraise_type=imasig", "appraise "+hook+" fowner=7778")
	}
	if err := testima.Policy(rules...); err != nil {
		return err
	}
	if err := warm(); err != nil {
		return err
	}
	for _, set := range sets {
		if set != "digest" && signers[set] == nil {
			continue
		}
		if err := run(set, operation{"first", "/opt/" + set + "/", files}); err != nil {
			return err
		}
	}
	unsigned := image + "/opt/unsigned"
	err = errors.Join(os.WriteFile(unsigned, []byte("#!/bin/loop\n"), 0o755), os.Chown(unsigned, owner, 0))
	if err != nil {
		return err
	}
	if err := exec.Command(unsigned).Run(); !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("an unsigned file: %w, want EACCES: the policy is not in force", err)
	}
	return measure("ima", false)
}
