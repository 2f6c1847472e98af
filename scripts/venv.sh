#!/usr/bin/env bash
# Makes a virtual environment for Python and prints the path of its folder. It is made anew when the
# requirements or the Python change; else nothing is done.
#
# usage: scripts/venv.sh NAME REQUIREMENTS
#
# Every package is pinned by its hash. It lies in `$CARGO_TARGET_DIR/NAME-venv` (`target/` if unset).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly NAME=$1
readonly REQUIREMENTS=$2
readonly VENV=${CARGO_TARGET_DIR:-target}/$NAME-venv
readonly PYTHON=$VENV/bin/python

fail() {
	printf '%s: %s\n' "$NAME" "$*" >&2
	exit 1
}

stamp() {
	{
		cat "$REQUIREMENTS"
		python3 -c 'import sys; print(sys.version, sys.base_prefix)'
	} | sha256sum | cut -d' ' -f1
}

is_ready() {
	[[ -f $VENV/stamp && $(<"$VENV/stamp") == "$1" ]] && "$PYTHON" -c '' 2>/dev/null
}

make_venv() {
	rm -rf "$VENV"
	python3 -m venv "$VENV" >&2 || fail "python3 -m venv failed; run scripts/setup.sh"
	"$PYTHON" -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement "$REQUIREMENTS" >&2 || fail "the packages of $REQUIREMENTS could not be installed"
	printf '%s\n' "$1" >"$VENV/stamp"
}

wanted=$(stamp)
is_ready "$wanted" || make_venv "$wanted"
realpath -s "$VENV"
