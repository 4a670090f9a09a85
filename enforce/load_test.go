// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce_test

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

// Every program passes the verifier of every kernel, and attaches.
func TestLoad(t *testing.T) {
	vm.Test(t, nil, vm.Config{}, func(t *testing.T, k vm.Kernel) {
		t.Run("load", func(t *testing.T) {
			e, err := enforce.Load(enforce.Options{})
			if err != nil {
				var v *ebpf.VerifierError
				if errors.As(err, &v) {
					t.Logf("%+v", v)
				}
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		})
	})
}
