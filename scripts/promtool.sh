#!/usr/bin/env bash
# Prints the path of promtool, Prometheus' own checker. Where it is not installed, Debian's package is
# fetched and unpacked, and nothing is installed: the package would start a server.
#
# It lies in `$CARGO_TARGET_DIR/promtool` (`target/` if unset).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CACHE=${CARGO_TARGET_DIR:-target}/promtool

fail() {
	printf 'promtool: %s\n' "$*" >&2
	exit 1
}

fetch() {
	local work
	command -v apt-get >/dev/null || fail "promtool is missing; install Prometheus"
	mkdir -p "$CACHE"
	work=$(mktemp -d "$CACHE/work.XXXXXX")
	if [[ -z $(apt-cache --quiet=0 show prometheus 2>/dev/null) && $EUID -eq 0 ]]; then
		apt-get -qq -o DPkg::Lock::Timeout=300 update
	fi
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download prometheus >&2) ||
		fail "Debian's package prometheus could not be fetched; run 'apt-get update' as root"
	dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -x -C "$work" ./usr/bin/promtool
	mv "$work/usr/bin/promtool" "$CACHE/promtool"
	rm -r "$work"
}

if command -v promtool; then
	exit
fi
[[ -x $CACHE/promtool ]] || fetch
realpath "$CACHE/promtool"
