// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ima

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/sbom-bless/sbom-bless/internal/testima"
	"github.com/sbom-bless/sbom-bless/internal/vm"
	"github.com/sbom-bless/sbom-bless/xattr"
	"golang.org/x/sys/unix"
)

// The kernel's PKCS#7 parser and its trust check, as eBPF programs reach them
// (bpf_verify_pkcs7_signature, 6.1 and later), judge security.bpf.bless.
func TestPKCS7(t *testing.T) {
	vm.Test(t, vm.Some("7.3"), vm.Config{Host: bringKeys}, func(t *testing.T, k vm.Kernel) {
		verify := verifier(t)
		d := testima.Digest(xattr.SHA256, []byte("content"))
		for _, s := range signers(t, k) {
			t.Run(s.Kind, func(t *testing.T) {
				ring := trust(t, "bless-"+s.Kind, s)
				value, err := s.Bless(d)
				if err != nil {
					t.Fatal(err)
				}
				statement := xattr.Statement(d)
				if err := verify(ring, statement[:], value); err != nil {
					t.Errorf("%d bytes: %v", len(value), err)
				}
				other := xattr.Statement(testima.Digest(xattr.SHA256, []byte("other")))
				if err := verify(ring, other[:], value); !errors.Is(err, unix.EKEYREJECTED) {
					t.Errorf("the signature of another file: %v, want EKEYREJECTED", err)
				}
				strange, err := stranger(t, s).Bless(d)
				if err != nil {
					t.Fatal(err)
				}
				if err := verify(ring, statement[:], strange); !errors.Is(err, unix.ENOKEY) {
					t.Errorf("a key that is not in the keyring: %v, want ENOKEY", err)
				}
			})
		}
	})
}

// request is the value of the map that test and program share.
const (
	requestPID       = 0 // the process to serve; 0 afterwards
	requestKeyring   = 4
	requestResult    = 8
	requestSigSize   = 12
	requestStatement = 16
	requestSig       = 16 + 88
	requestSize      = requestSig + 2048
	noResult         = 1 // the program found no keyring, or did not run
)

// verifier loads a program that verifies what the map holds when this process
// calls bpf(2), and gives a function that has it do so.
func verifier(t *testing.T) func(keyring int, statement, sig []byte) error {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: requestSize, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	instructions, err := verifyProgram(m.FD())
	if err != nil {
		t.Fatal(err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "bpf", Flags: unix.BPF_F_SLEEPABLE,
		Instructions: instructions, License: "GPL",
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	l, err := link.AttachLSM(link.LSMOptions{Program: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); p.Close(); m.Close() })
	return func(keyring int, statement, sig []byte) error {
		r := make([]byte, requestSize)
		le := binary.LittleEndian
		le.PutUint32(r[requestPID:], uint32(os.Getpid()))
		le.PutUint32(r[requestKeyring:], uint32(keyring))
		le.PutUint32(r[requestResult:], noResult)
		le.PutUint32(r[requestSigSize:], uint32(len(sig)))
		copy(r[requestStatement:requestSig], statement)
		copy(r[requestSig:], sig)
		if err := m.Put(uint32(0), r); err != nil {
			return err
		}
		// This call is the one that the program serves.
		if err := m.Lookup(uint32(0), &r); err != nil {
			return err
		}
		switch result := int32(le.Uint32(r[requestResult:])); {
		case result == 0:
			return nil
		case result < 0:
			return unix.Errno(-result)
		}
		return errors.New("nothing was verified")
	}
}

// verifyProgram is what the program of a node does with a file's attribute:
// look up the keyring, have the kernel verify, put the key back.
func verifyProgram(mapFD int) (asm.Instructions, error) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, err
	}
	call := map[string]asm.Instruction{}
	for _, name := range []string{"bpf_lookup_user_key", "bpf_verify_pkcs7_signature", "bpf_key_put"} {
		var f *btf.Func
		if err := kernel.TypeByName(name, &f); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		id, err := kernel.TypeID(f)
		if err != nil {
			return nil, err
		}
		call[name] = asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(id)}
	}
	const key, statement, sig = -8, -24, -40 // on the stack; the last two are struct bpf_dynptr
	onStack := func(r asm.Register, off int32) asm.Instructions {
		return asm.Instructions{asm.Mov.Reg(r, asm.RFP), asm.Add.Imm(r, off)}
	}
	ofRequest := func(r asm.Register, off int32) asm.Instructions {
		return asm.Instructions{asm.Mov.Reg(r, asm.R6), asm.Add.Imm(r, off)}
	}
	var p asm.Instructions
	add := func(parts ...asm.Instructions) {
		for _, part := range parts {
			p = append(p, part...)
		}
	}
	add(asm.Instructions{asm.StoreImm(asm.RFP, key, 0, asm.Word), asm.LoadMapPtr(asm.R1, mapFD)}, onStack(asm.R2, key), asm.Instructions{
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Reg(asm.R6, asm.R0),
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.LoadMem(asm.R1, asm.R6, requestPID, asm.Word),
		asm.JNE.Reg(asm.R0, asm.R1, "out"),
		asm.StoreImm(asm.R6, requestPID, 0, asm.Word),
	})
	add(ofRequest(asm.R1, requestStatement), asm.Instructions{asm.Mov.Imm(asm.R2, requestSig-requestStatement), asm.Mov.Imm(asm.R3, 0)},
		onStack(asm.R4, statement), asm.Instructions{asm.FnDynptrFromMem.Call()})
	add(ofRequest(asm.R1, requestSig), asm.Instructions{
		asm.LoadMem(asm.R2, asm.R6, requestSigSize, asm.Word),
		asm.And.Imm(asm.R2, requestSize-requestSig-1),
		asm.Mov.Imm(asm.R3, 0),
	}, onStack(asm.R4, sig), asm.Instructions{asm.FnDynptrFromMem.Call()})
	add(asm.Instructions{
		asm.LoadMem(asm.R1, asm.R6, requestKeyring, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		call["bpf_lookup_user_key"],
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Reg(asm.R7, asm.R0),
	}, onStack(asm.R1, statement), onStack(asm.R2, sig), asm.Instructions{
		asm.Mov.Reg(asm.R3, asm.R7),
		call["bpf_verify_pkcs7_signature"],
		asm.StoreMem(asm.R6, requestResult, asm.R0, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R7),
		call["bpf_key_put"],
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	})
	return p, nil
}
