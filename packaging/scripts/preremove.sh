#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Before the executable goes, for good: without it, nobody could unload what is in force.
set -e
case ${1:-} in
upgrade | failed-upgrade | deconfigure) exit 0 ;; # dpkg
[1-9]) exit 0 ;;                                  # rpm: another version stays
esac
if [ -d /run/systemd/system ]; then
	systemctl disable --now sbom-bless.service
fi
if [ -d /sys/fs/bpf/sbom-bless ]; then
	/usr/bin/sbom-bless enforce unload
fi
