#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# package-files.sh DIR writes what a package has beside the program: the manual page, the change log,
# and the completions of shells. The same sources give the same bytes.
set -eu
dir=$1
mkdir -p "$dir"
gzip -9nc CHANGELOG.md >"$dir/changelog.gz"
gzip -9nc docs/sbom-bless.1 >"$dir/sbom-bless.1.gz"
for shell in bash zsh fish; do # with the flags of the release, so that nothing is compiled twice
	CGO_ENABLED=0 go run -trimpath -ldflags='-s -w -buildid=' . completion "$shell" >"$dir/$shell"
done
