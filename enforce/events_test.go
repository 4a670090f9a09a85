// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sbom-bless/sbom-bless/internal/vm"
)

// TestOtherRecords has a reader meet what programs of another version left in the ring buffer: it
// skips and counts that, and reads on.
func TestOtherRecords(t *testing.T) {
	vm.Test(t, []vm.Kernel{"6.12"}, vm.Config{}, func(t *testing.T, _ vm.Kernel) {
		t.Run("skipped", func(t *testing.T) {
			e, err := Load(Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.SocketFilter, License: "GPL",
				Instructions: asm.Instructions{
					asm.Mov.Imm(asm.R1, 0),
					asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
					asm.StoreMem(asm.RFP, -16, asm.R1, asm.DWord),
					asm.LoadMapPtr(asm.R1, e.maps["events"].FD()),
					asm.Mov.Reg(asm.R2, asm.RFP),
					asm.Add.Imm(asm.R2, -16),
					asm.Mov.Imm(asm.R3, 16),
					asm.Mov.Imm(asm.R4, 0),
					asm.FnRingbufOutput.Call(),
					asm.Mov.Imm(asm.R0, 0),
					asm.Return(),
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			for range 3 {
				if _, _, err := p.Test(make([]byte, 14)); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Canary(); err != nil {
				t.Fatal(err)
			}
			said := map[string]int{}
			if err := e.Events(time.Now().Add(2*time.Second), func(e Event) error { said[e.Action+" "+e.Operation]++; return nil }); err != nil {
				t.Fatal(err)
			}
			counters, err := e.Counters()
			if err != nil {
				t.Fatal(err)
			}
			if said["skipped events"] != 1 || counters["skipped-records"] != 3 || said["denied exec"] == 0 {
				t.Errorf("events %v, counters %v", said, counters)
			}
		})
	})
}
