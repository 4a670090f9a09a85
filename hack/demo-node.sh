#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
#
# demo-node.sh IMAGE is what `make demo` does on its node, a virtual machine: /image has the image's
# files, /attestations what `bless` signed for it, /bless.crt says whom the node trusts.
set -eu
image=$1

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# container mounts a new container of the image: its files, and a writable layer above them.
container() {
	mkdir -p /run/container
	mount -t tmpfs tmpfs /run/container
	mkdir /run/container/upper /run/container/work /run/container/root
	mount -t overlay overlay /run/container/root \
		-o lowerdir=/image,upperdir=/run/container/upper,workdir=/run/container/work
}

# What runs in the container: a program of the image, and what an attacker does next, as root.
attack='
echo "1. a program of the image:"
	/usr/bin/env echo "   it runs"
echo "2. a tool that the attacker brings along:"
	cp /bin/echo /tmp/tool; printf x >>/tmp/tool
	/tmp/tool "   it runs, and nobody knows"
echo "3. a library of the image, changed by one byte:"
	printf x >>/lib/x86_64-linux-gnu/libselinux.so.1 && files=$(ls /) && echo "   ls runs with it, and nobody knows"
echo "4. a program of the image, again:"
	/usr/bin/env echo "   it runs"
'

say 'Without enforcement'
container
chroot /run/container/root /bin/sh -c "$attack" >/said 2>&1
cat /said
[ "$(grep -c 'nobody knows' /said)" = 2 ]
umount /run/container/root /run/container

say 'With enforcement: the same attack on the same image'
echo '# sbom-bless enforce run &'
sbom-bless enforce run >/events 2>/log &
until [ -s /log ]; do sleep 0.2; done
cat /log
container
echo '# sbom-bless enforce exec --image shop@sha256:… --key bless.crt --root … -- /bin/sh -c "$attack"'
sbom-bless enforce exec --image "$image" --key /bless.crt --attestations /attestations \
	--name shop --root /run/container/root -- /bin/sh -c "$attack" >/said 2>&1
cat /said
if grep 'nobody knows' /said; then exit 1; fi

say 'What the kernel reports of it'
sleep 1
sed -n 's/.*"action":"denied".*"message":"\([^"]*\)".*/\1/p' /events | sed "s/$image/shop/" | tee /said
[ "$(grep -c ^denied /said)" = 2 ]
