#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# dev.sh [COMMAND...] runs a shell, or a command, in a container with the tools of this tree: Debian 12
# has the clang 14 that the BPF programs are compiled with. Virtual machines need /dev/kvm.
set -eu
cd "$(dirname "$0")/.."

run=$(command -v podman || command -v docker) || {
	echo 'dev.sh: podman or docker is needed' >&2
	exit 1
}
kvm=
[ ! -e /dev/kvm ] || kvm='--device /dev/kvm'
[ $# -gt 0 ] || set -- bash
tty=
[ ! -t 0 ] || tty=-it
# shellcheck disable=SC2086
exec "$run" run --rm $tty $kvm --privileged -v "$PWD":/src -w /src \
	-v sbom-bless-go:/go -v sbom-bless-cache:/root/.cache \
	docker.io/library/golang:1.26-bookworm sh -c 'hack/install-tools.sh test && exec "$@"' sh "$@"
