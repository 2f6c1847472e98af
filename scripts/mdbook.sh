#!/usr/bin/env bash
# Prints the path of mdbook, which makes the book of docs/. Where the version that we want is not
# installed it is built, once and in a minute: without its server, with its search.
#
# It lies in `$CARGO_TARGET_DIR/mdbook` (`target/` if unset).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VERSION=0.5.4
readonly CACHE=${CARGO_TARGET_DIR:-target}/mdbook

has_version() { [[ $("$1" --version 2>/dev/null) == "mdbook v$VERSION" ]]; }

build() {
	local work
	mkdir -p "$CACHE"
	work=$(mktemp -d "$CACHE/work.XXXXXX")
	CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$work cargo install --quiet --locked --debug \
		--no-default-features --features search --version "$VERSION" --no-track --force \
		--root "$CACHE" mdbook >&2
	rm -r "$work"
}

if has_version mdbook; then
	command -v mdbook
	exit
fi
has_version "$CACHE/bin/mdbook" || build
realpath "$CACHE/bin/mdbook"
