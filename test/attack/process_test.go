// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"bufio"
	"fmt"
	"os"
	"unsafe"
)

func pointer(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

func address(p *byte) int64 { return int64(uintptr(unsafe.Pointer(p))) }

func addressOf[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// executable tells by /proc/self/maps whether the mapping at p is.
func executable(p *byte) error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to int64
		var prot string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &prot); err != nil {
			return err
		}
		if from <= address(p) && address(p) < to {
			if prot[2] != 'x' {
				return fmt.Errorf("mapping is %s", prot)
			}
			return nil
		}
	}
	return fmt.Errorf("mapping is gone")
}

// syscall32 is a system call as programs of 32 bits make it.
func syscall32(number, a, b, c uint32) int32
