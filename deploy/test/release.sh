#!/usr/bin/env bash
# Makes a release of binaries that are there, and takes it as a user would: the checksums of all files are
# right, none is without, a file that was changed is found, and the programs say the version of the folder.
#
# usage: deploy/test/release.sh FOLDER
#   FOLDER  where `backup-agent` and `backup` are, as target/debug
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf 'release: %s\n' "$*"; }
fail() {
	printf 'release: %s\n' "$*" >&2
	exit 1
}

binaries=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Packed in seconds, not small.
DIST=$work BINARIES=$binaries DPKG_DEB_COMPRESSOR_TYPE=gzip DPKG_DEB_COMPRESSOR_LEVEL=1 \
	scripts/release.sh >"$work/log" 2>&1 || fail "no release was made: $(<"$work/log")"
rm "$work/log"
version=$(ls "$work")
cd "$work/$version"

sha256sum --check --strict --quiet SHA256SUMS || fail "its own checksums are not right"
unlisted=$(comm -23 <(find . -type f ! -name SHA256SUMS -printf '%P\n' | sort) <(cut -c67- SHA256SUMS | sort))
[[ -z $unlisted ]] || fail "without a checksum: $unlisted"
for program in backup backup-agent; do
	said=$("./$program-$version-$(uname -m)-linux" --version)
	[[ $said == "$program $version" ]] || fail "$program of $version says it is $said"
done
for file in LICENSE CHANGELOG.md agent.toml THIRD-PARTY; do
	[[ -s $file ]] || fail "$file is missing"
done
if command -v dpkg-buildpackage >/dev/null; then
	for package in backup-agent backup-cli; do
		[[ $(dpkg-deb --field "${package}_${version}"_*.deb Version) == "$version" ]] ||
			fail "the package $package is missing or of another version"
	done
fi

printf x >>agent.toml
if sha256sum --check --strict --status SHA256SUMS; then
	fail "a file that was changed has the right checksum"
fi
say "$(wc -l <SHA256SUMS) files, each with its checksum"
