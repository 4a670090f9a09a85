// SPDX-License-Identifier: Apache-2.0

package enforce

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -tags linux -target bpfel -go-package enforce -type event -type event_version -type domain -type mount_key -type name_key -type file_key -type hashing -type seal -type seal_command -type name_meaning -type agent -type op -type reason -type domain_flags -type object -type place_key -type place_kind -type place_flags -type armed -type settings bless bpf/bless.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -Ibpf
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -tags linux -target bpfel -go-package enforce trial bpf/trial.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -Ibpf
