#!/bin/sh
# Makes the vectors of this folder with openssl and evmctl (ima-evm-utils 1.4). Run
# as root, in this folder, on a filesystem with security attributes. The keys are
# for tests alone; they are kept if they are there.
set -eu
attribute() { getfattr --absolute-names -n "$1" -e hex --only-values "$2" | od -An -v -tx1 | tr -d ' \n'; echo; }
for kind in rsa-2048 ecdsa-p256; do
	[ -e $kind.key.pem ] || case $kind in
	rsa-*) openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $kind.key.pem ;;
	ecdsa-*) openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $kind.key.pem ;;
	esac
	[ -e $kind.crt.pem ] || openssl req -x509 -new -key $kind.key.pem -days 36500 -subj "/CN=test vectors $kind" \
		-addext keyUsage=digitalSignature -addext extendedKeyUsage=codeSigning -addext subjectKeyIdentifier=hash -out $kind.crt.pem
	for hash in sha256 sha384 sha512; do
		cp content work
		evmctl ima_sign --hashalgo $hash --key $kind.key.pem work >/dev/null
		attribute security.ima work >$kind.$hash.ima
	done
	cp content work
	chown 1000:100 work
	chmod 4750 work
	setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 work
	evmctl sign --portable --imasig --hashalgo sha256 --key $kind.key.pem work >/dev/null
	attribute security.ima work >$kind.evm-ima
	attribute security.evm work >$kind.evm
	rm work
done
for hash in sha256 sha512; do
	cp content work
	evmctl ima_hash --hashalgo $hash work >/dev/null
	attribute security.ima work >digest.$hash.ima
	rm work
done
