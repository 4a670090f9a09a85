#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh [IMAGE] blesses an image, a real Debian one unless another is named,
# and shows what came of it. Everything it makes goes to out/.
set -eu
cd "$(dirname "$0")/.."

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ sbom-bless %s\n' "$*" >&2; ./sbom-bless "$@"; }

rm -rf out
mkdir -p out
step 'Building sbom-bless (the first time takes some minutes)'
CGO_ENABLED=0 go build -trimpath -o sbom-bless .

image=${1:-}
if [ -z "$image" ]; then
	step 'Making a Debian image from packages (once; kept in ~/.cache/sbom-bless)'
	image=oci:$(go run ./internal/testimage/cmd/mkimage small)
	echo "$image"
fi

step '1. A key pair, and the certificate that nodes load'
run keygen --out out/demo

step '2. Bless: every file gets its digest signed, in the tar headers of its layer'
run bless "$image" -t oci:out/blessed --key out/demo.key --attestation-out out/attestations --digest-file out/digest

step '3. Inspect: what is signed now, and by which key'
run inspect --quiet oci:out/blessed

step '4. Verify: every byte read again, every signature checked'
run verify oci:out/blessed --key out/demo.crt

step '5. Somebody who can write to the registry changes one byte of /usr/bin/env'
if go run ./internal/testimage/cmd/mkimage tampered out/blessed usr/bin/env out/tampered; then
	code=0
	run verify --quiet --files-only oci:out/tampered --key out/demo.crt || code=$?
	echo "exit code $code"
	[ $code = 3 ]
else
	echo '(left out: this image has no usr/bin/env, or several platforms)'
fi

step '6. Bless again: nothing changes, the same image comes out'
run bless oci:out/blessed -t oci:out/again --key out/demo.key --quiet --digest-file out/again.digest
cmp out/digest out/again.digest

step '7. On a node: an attacker is root in a container of the image (a virtual machine, about a minute)'
if [ -z "${1:-}" ]; then
	go run ./internal/vm/demo sbom-bless out/blessed out/attestations out/demo.crt
else
	echo '(left out: the attack is made for the Debian image)'
fi

step 'In out/: the blessed image with its attestations (blessed), keys, SBOMs'
run sbom --key out/demo.crt oci:out/blessed >out/sbom.spdx.json
ls -l out
