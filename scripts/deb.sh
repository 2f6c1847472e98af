#!/usr/bin/env bash
# Packs built binaries into Debian packages: backup-agent, with its unit and configuration, and
# backup-cli. Nothing is compiled; `dpkg-shlibdeps` finds out which libraries they need.
#
# usage: scripts/deb.sh FOLDER OUTPUT
#   FOLDER  where `backup-agent` and `backup` are, as target/release
#   OUTPUT  where the packages go
#
# DEBFULLNAME and DEBEMAIL name the packager. The same binaries and commit give the same packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly NAME=${DEBFULLNAME:-The pallet-backup authors}
readonly EMAIL=${DEBEMAIL:-pallet-backup@example.org}

fail() {
	printf 'deb: %s\n' "$*" >&2
	exit 1
}

# What `version` of the workspace says.
version() {
	sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml
}

changelog() {
	printf 'pallet-backup (%s) unstable; urgency=medium\n\n' "$(version)"
	printf '  * CHANGELOG.md of the project tells what has changed.\n\n'
	printf ' -- %s <%s>  %s\n' "$NAME" "$EMAIL" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

[[ $# -eq 2 ]] || fail "usage: scripts/deb.sh FOLDER OUTPUT"
binaries=$1
mkdir -p "$2"
output=$(realpath "$2")
for program in dpkg-buildpackage dh; do
	command -v "$program" >/dev/null || fail "$program is missing; run scripts/setup.sh"
done
for program in backup-agent backup; do
	[[ -x $binaries/$program ]] || fail "$binaries/$program is missing; build it first"
done
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/pallet-backup
mkdir "$tree"
cp -r deploy/debian deploy/monitoring deploy/agent.toml deploy/systemd/unprivileged.conf "$tree"
cp docs/operations.md docs/cli.md "$tree"
cp deploy/systemd/backup-agent.service "$tree/debian/"
cp "$binaries/backup-agent" "$binaries/backup" "$tree"
scripts/notices.sh >"$tree/THIRD-PARTY"
sed -i "s|@MAINTAINER@|$NAME <$EMAIL>|" "$tree/debian/control"
changelog >"$tree/debian/changelog"
(cd "$tree" && dpkg-buildpackage --build=binary --no-sign) >"$work/log" 2>&1 ||
	fail "dpkg-buildpackage failed:"$'\n'"$(<"$work/log")"
rm -f "$output"/backup-{agent,cli}_*.deb
mv "$work"/*.deb "$output"
