// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package key

import (
	"strings"
	"testing"
)

func TestPKCS11WithoutCgo(t *testing.T) {
	t.Setenv(envPIN, "1234")
	_, err := Load(t.Context(), "pkcs11:token=bless;id=%01?module-path=/m", Options{})
	if err == nil || !strings.Contains(err.Error(), "built without cgo") || !strings.Contains(err.Error(), "hint: CGO_ENABLED=1") {
		t.Errorf("error %v should tell why and what to do", err)
	}
}
