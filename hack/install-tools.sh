#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# install-tools.sh GROUP... installs the Debian packages that a group of make
# targets needs, and only those that are missing.
#
#   demo   what builds the real Debian image of `make demo`, and boots its node
#   test   what the tests and benchmarks judge our output with
#
# Packages that bring a service do not get it started.
set -eu

demo='ca-certificates debian-archive-keyring mmdebstrap mount qemu-system-x86 xz-utils'
test="$demo
	attr bpftool buildah busybox clang clang-format cpio crun docker-registry fuse-overlayfs
	gcc git ima-evm-utils isal keyutils libarchive-tools libbpf-dev libc6-dev
	libcap2-bin libdeflate-tools llvm opensc openssl pigz podman python3
	rpm shellcheck skopeo softhsm2 systemd time umoci zstd"
# These often come from elsewhere, in packages that conflict with Debian's.
for tool in containerd=containerd runc=runc dockerd=docker.io node=nodejs npm=npm; do
	command -v "${tool%=*}" >/dev/null || test="$test ${tool#*=}"
done

say() { echo "install-tools.sh: $*" >&2; }

[ $# -gt 0 ] || { say 'usage: install-tools.sh demo|test ...'; exit 2; }
wanted=
for group; do
	case $group in
	demo) wanted="$wanted $demo" ;;
	test) wanted="$wanted $test" ;;
	*) say "unknown group $group: demo and test are known"; exit 2 ;;
	esac
done

command -v dpkg-query >/dev/null || {
	say 'this is not Debian or a derivative: install the like of these yourself:' $wanted
	exit 1
}
# Unquoted on purpose from here on: package lists are split into words.
# shellcheck disable=SC2086
have=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $wanted 2>/dev/null | sed -n 's/^ii *//p')
missing=$({ printf '%s\n' $wanted | sort -u; printf '%s\n' $have $have; } | sort | uniq -u | tr '\n' ' ')
[ -n "${missing% }" ] || exit 0
[ "$(id -u)" = 0 ] || {
	say "root is needed; or run yourself: sudo apt-get install --no-install-recommends $missing"
	exit 1
}

# invoke-rc.d(8) and deb-systemd-invoke(1) ask this file before they start anything.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 130' INT TERM
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi

export DEBIAN_FRONTEND=noninteractive
apt='apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0'
say "installing $missing"
# The lists may be absent or older than the mirror: refresh them only then.
$apt install --download-only $missing >/dev/null 2>&1 || $apt update
$apt install $missing >/dev/null
