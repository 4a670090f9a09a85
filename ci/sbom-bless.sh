#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# sbom-bless.sh install   fetches a release of sbom-bless and proves where it comes from
# sbom-bless.sh bless     blesses an image with it, and verifies what was pushed
# sbom-bless.sh install bless
#
# What action.yml, gitlab.yml, tekton.yaml and the Jenkinsfile run; any other CI can. Inputs are
# environment variables: INPUT_TO is the input `to` of action.yml, where each is described. docs/ci.md
# has the recipes. POSIX sh, with curl or wget, tar, awk, and sha256sum or shasum.
set -eu

# releases are the checksums of archives that were seen when this script was written: whoever pins the
# script pins what it installs. The last one's version is the default. RELEASING.md says who adds them.
releases() {
	cat <<'EOL'
EOL
}

home=${INPUT_HOME:-${RUNNER_TEMP:-$PWD}/sbom-bless-ci}
tool= # what install installed, or else the one on the PATH: never one that lay about in $home

main() {
	[ $# -gt 0 ] || usage
	for verb; do
		case $verb in
		install | bless) ;;
		*) usage ;;
		esac
	done
	mkdir -p "$home"
	tmp=$(mktemp -d "$home/tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 130' INT TERM
	: >"$home/outputs.env"
	for verb; do "$verb"; done
}

usage() {
	echo 'usage: sbom-bless.sh [install] [bless]' >&2
	exit 2
}

install() {
	version=${INPUT_VERSION:-$(releases | sed -n '$ s/.*  sbom-bless_\([^_]*\)_.*/\1/p')}
	version=${version#v}
	case $version in
	'') die 'which version? This script knows of no release' 'version: 1.2.3 names one' ;;
	*[!0-9A-Za-z.+-]*) die "version $version is none" 'version: 1.2.3 is' ;;
	esac
	os=$(uname -s | tr '[:upper:]' '[:lower:]')
	arch=$(uname -m)
	case $arch in
	x86_64) arch=amd64 ;;
	aarch64) arch=arm64 ;;
	esac
	archive=sbom-bless_${version}_${os}_$arch.tar.gz
	from=${INPUT_MIRROR:-https://github.com/sbom-bless/sbom-bless/releases/download}/v$version

	want=${INPUT_CHECKSUM:-$(releases | checksum_of "$archive")}
	origin='pinned checksum'
	if [ -z "$want" ]; then
		signed_checksums
		want=$(checksum_of "$archive" <"$tmp/checksums.txt")
		[ -n "$want" ] || die "$from/checksums.txt does not list $archive" 'there is no release for this system; go install builds one'
		origin='signature'
	fi
	fetch "$archive"
	got=$(sha256 "$tmp/$archive")
	[ "$got" = "$want" ] || die "$from/$archive is not what was released: its SHA-256 is $got, expected $want" \
		'do not run it; tell the project, or whoever runs the mirror'
	mkdir -p "$home/bin"
	tar -xzf "$tmp/$archive" -C "$tmp" sbom-bless
	tool=$home/bin/sbom-bless
	mv -f "$tmp/sbom-bless" "$tool"
	[ -z "${GITHUB_PATH-}" ] || printf '%s\n' "$home/bin" >>"$GITHUB_PATH"
	say "sbom-bless $version in $home/bin, its origin proved by $origin"
	output INSTALLED_PROGRAM "$tool"
	output INSTALLED_VERSION "$version"
}

# checksum_of looks a name up in what sha256sum wrote.
checksum_of() {
	while read -r sum name; do
		if [ "$name" = "$1" ]; then
			echo "$sum"
			return
		fi
	done
}

# signed_checksums fetches the checksums of a release and has cosign verify who signed them. A checksum from
# the same place as the archive proves nothing else: without cosign there is no way on.
signed_checksums() {
	command -v cosign >/dev/null || die "$archive: its checksum is not known, and there is no cosign to verify the signature of checksums.txt" \
		'checksum: pins the archive; or install cosign before this step (uses: sigstore/cosign-installer)'
	fetch checksums.txt
	fetch checksums.txt.sigstore.json
	if [ -n "${INPUT_RELEASE_KEY-}" ]; then
		set -- --key "$INPUT_RELEASE_KEY" --insecure-ignore-tlog
	else
		set -- --certificate-identity "https://github.com/sbom-bless/sbom-bless/.github/workflows/release.yml@refs/tags/v$version" \
			--certificate-oidc-issuer https://token.actions.githubusercontent.com
	fi
	run cosign verify-blob "$@" --bundle "$tmp/checksums.txt.sigstore.json" "$tmp/checksums.txt" ||
		die "$from/checksums.txt is not signed by whoever releases sbom-bless" 'do not run what it lists; tell the project, or whoever runs the mirror'
}

fetch() {
	if command -v curl >/dev/null; then
		curl -fsSL --retry 3 -o "$tmp/$1" "$from/$1"
	else
		wget -q -O "$tmp/$1" "$from/$1"
	fi || die "$from/$1 cannot be fetched" 'is there such a version? mirror: names another place'
}

sha256() {
	if command -v sha256sum >/dev/null; then
		sha256sum <"$1"
	else
		shasum -a 256 <"$1"
	fi | cut -d ' ' -f 1
}

bless() {
	tool=${tool:-$(command -v sbom-bless)} || die 'there is no sbom-bless' 'sbom-bless.sh install bless fetches it'
	image=${INPUT_IMAGE-} to=${INPUT_TO-} key=${INPUT_KEY-}
	detached=$(yes_or_no detached "${INPUT_DETACHED:-false}")
	verify=$(yes_or_no verify "${INPUT_VERIFY:-true}")
	[ -n "$image" ] || die 'which image?' 'image: docker-daemon:app:ci, or any reference' 2
	[ -n "$to" ] || [ "$detached" = true ] || die 'where does the blessed image go?' 'to: registry.example/app:1.2' 2
	case $key in
	*'PRIVATE KEY'*) die 'key: that is a private key itself, which has no place in an input' 'env://NAME takes it from the environment variable NAME' 2 ;;
	esac
	if [ -f "${INPUT_ID_TOKEN_FILE-}" ]; then
		SIGSTORE_ID_TOKEN=$(cat "$INPUT_ID_TOKEN_FILE")
		export SIGSTORE_ID_TOKEN
	fi
	trust # before anything is pushed

	out=$(mktemp -d "$home/out.XXXXXX")
	set -- --output=json "--digest-file=$out/digest" "--summary=$out/summary.md" "--attestation-out=$out/attestations" \
		"--sbom=${INPUT_SBOM_FORMATS:-spdx-json,cyclonedx-json}" "--sbom-out=$out/sbom"
	[ -z "$to" ] || set -- "$@" "--to=$to"
	[ "$detached" = false ] || set -- "$@" --detached
	if [ -n "$key" ]; then
		set -- "$@" "--key=$key"
	else
		set -- "$@" --keyless --hash-only
	fi
	platforms=$(words "${INPUT_PLATFORMS-}")
	set -f # words, and no names of files
	for word in $platforms; do set -- "$@" "--platform=$word"; done
	for word in ${INPUT_ARGS-}; do set -- "$@" "$word"; done
	run "$tool" bless "$@" -- "$image" || fail "$?"
	cp "$tmp/stdout" "$out/metadata.json"
	blessed=$(sed -n 's/^  "blessed": "\(.*\)",$/\1/p' "$out/metadata.json")

	if [ "$verify" = true ]; then
		set --
		[ "$detached" = false ] || set -- "$@" --detached
		[ -n "$key" ] || [ "$detached" = true ] || set -- "$@" --hash-only
		if [ -n "$trusted" ]; then
			set -- "$@" "--key=$trusted"
		else
			set -- "$@" "--certificate-identity=$identity" "--certificate-oidc-issuer=$issuer"
		fi
		for word in $platforms; do set -- "$@" "--platform=$word"; done
		run "$tool" verify "$@" -- "$blessed" || fail "$?"
		printf '%s\n' "- Verified: every byte was read back and is what the signatures say" >>"$out/summary.md"
	else
		printf '%s\n' "- Not verified in this job (<code>verify: false</code>)" >>"$out/summary.md"
	fi

	[ -z "${GITHUB_STEP_SUMMARY-}" ] || cat "$out/summary.md" >>"$GITHUB_STEP_SUMMARY"
	output BLESSED_IMAGE "$blessed"
	output BLESSED_DIGEST "$(cat "$out/digest")"
	[ ! -d "$out/sbom" ] || output BLESSED_SBOM_PATH "$out/sbom"
	output BLESSED_BUNDLE_PATH "$out/attestations"
	output BLESSED_SUMMARY_PATH "$out/summary.md"
	output BLESSED_METADATA_PATH "$out/metadata.json"
	[ -z "${GITHUB_OUTPUT-}" ] || printf 'BLESSED_METADATA=%s\n' "$(tr -d '\n' <"$out/metadata.json")" >>"$GITHUB_OUTPUT"
}

# trust works out who must have signed the result: $trusted is a public key, or $identity at $issuer.
trust() {
	trusted=${INPUT_VERIFY_KEY-} identity=${INPUT_CERTIFICATE_IDENTITY-} issuer=${INPUT_CERTIFICATE_OIDC_ISSUER-}
	[ "$verify" = true ] && [ -z "$trusted" ] || return 0
	case $key in
	'') ;;
	*kms://* | hashivault://* | pkcs11:*)
		trusted=$key
		return
		;;
	*)
		for beside in "${key%.*}.crt" "${key%.*}.pub"; do
			if [ -f "$beside" ]; then
				trusted=$beside
				return
			fi
		done
		die 'verify: with which public key?' 'verify-key: bless.crt; or verify: false'
		;;
	esac
	if [ -z "$identity" ] && [ "${GITHUB_SERVER_URL-}" = https://github.com ]; then
		identity=$GITHUB_SERVER_URL/${GITHUB_WORKFLOW_REF-}
		issuer=${issuer:-https://token.actions.githubusercontent.com}
	elif [ -z "$identity" ] && [ -n "${GITLAB_CI-}" ]; then
		ref=heads/${CI_COMMIT_BRANCH-}
		[ -z "${CI_COMMIT_TAG-}" ] || ref=tags/$CI_COMMIT_TAG
		identity=$CI_SERVER_URL/$CI_PROJECT_PATH//$CI_CONFIG_PATH@refs/$ref
		issuer=${issuer:-$CI_SERVER_URL}
	fi
	if [ -z "$identity" ] || [ -z "$issuer" ]; then
		die 'verify: whose identity signs in this job?' 'certificate-identity and certificate-oidc-issuer say it; or verify: false'
	fi
}

# run shows what a command says and keeps it in $tmp. GitHub takes lines that begin with "::" for commands:
# between stop-commands and its token it does not, whatever names of files an image has.
run() {
	token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	github "::group::${1##*/} $2"
	github "::stop-commands::$token"
	rm -f "$tmp/pipe"
	mkfifo "$tmp/pipe"
	tee "$tmp/said" <"$tmp/pipe" >&2 &
	code=0
	"$@" >"$tmp/stdout" 2>"$tmp/pipe" || code=$?
	wait "$!"
	github "::$token::"
	github '::endgroup::'
	return "$code"
}

# fail ends with the exit code of sbom-bless, and what it said last is the error of the job.
fail() {
	github "::error title=sbom-bless::$(awk '/^sbom-bless: / { text = ""; on = 1 } on { text = text $0 "\n" } END { printf "%s", text }' "$tmp/said" | escaped)"
	exit "$1"
}

die() {
	say "$1"
	say "hint: $2"
	github "::error title=sbom-bless::$(printf '%s\nhint: %s\n' "$1" "$2" | escaped)"
	exit "${3:-1}"
}

escaped() { awk '{ gsub(/%/, "%25"); gsub(/\r/, "%0D"); printf "%s%s", sep, $0; sep = "%0A" }'; }

say() { printf 'sbom-bless.sh: %s\n' "$1" >&2; }

github() { [ -z "${GITHUB_ACTIONS-}" ] || printf '%s\n' "$1" >&2; }

# output hands a value on: in the file outputs.env for any CI, and as GitHub wants it.
output() {
	printf '%s=%s\n' "$1" "$2" >>"$home/outputs.env"
	[ -z "${GITHUB_OUTPUT-}" ] || printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"
}

yes_or_no() {
	case $2 in
	true | false) echo "$2" ;;
	*) die "$1: $2 is neither true nor false" "$1: true" 2 ;;
	esac
}

words() { printf '%s\n' "$1" | tr ',\n' '  '; }

main "$@"
