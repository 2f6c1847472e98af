#!/usr/bin/env bash
# Builds what users install: the agent and the command for this kind of machine and, where Debian's tools
# are, their packages, with the SHA-256 of each. All of it lands in `dist/VERSION/`, or in the folder that
# DIST names in place of `dist`; it is made anew.
# The reference node is not in it: it is for trying, and who runs a chain has a node of its own.
#
#   cd dist/VERSION && sha256sum --check SHA256SUMS
#
# With BINARIES=FOLDER nothing is built, and the binaries in there are taken.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PROGRAMS=(backup backup-agent)

say() { printf 'release: %s\n' "$*"; }
fail() {
	printf 'release: %s\n' "$*" >&2
	exit 1
}

if [[ -z ${BINARIES:-} ]]; then
	cargo build --locked --release -p backup -p backup-agent
	BINARIES=${CARGO_TARGET_DIR:-target}/release
fi
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
folder=${DIST:-dist}/${version:?no version in Cargo.toml}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for program in "${PROGRAMS[@]}"; do
	[[ -x $BINARIES/$program ]] || fail "$BINARIES/$program is missing"
	# A name says for which kind of machine it is.
	strip -o "$work/$program-$version-$(uname -m)-linux" "$BINARIES/$program"
done
if command -v dpkg-buildpackage >/dev/null; then
	scripts/deb.sh "$BINARIES" "$work"
fi
cp LICENSE CHANGELOG.md deploy/agent.toml "$work"
scripts/notices.sh >"$work/THIRD-PARTY"
(cd "$work" && sha256sum -- * >SHA256SUMS)
rm -rf "$folder"
mkdir -p "$folder"
mv "$work"/* "$folder"
say "in $folder:"
cat "$folder/SHA256SUMS"
