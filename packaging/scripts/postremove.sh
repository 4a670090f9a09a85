#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "${1:-}" = purge ]; then # dpkg
	rm -rf /var/lib/sbom-bless
fi
