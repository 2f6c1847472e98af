#!/usr/bin/env bash
# Prints the rustup toolchain that builds the runtime for WASM, as a value for
# WASM_BUILD_TOOLCHAIN: the active one where it has the target, else Debian's.
# Prints nothing and ends with 1 where there is neither.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TARGET=wasm32v1-none

has_target() {
	local sysroot
	sysroot=$(rustup run "$1" rustc --print sysroot 2>/dev/null) || return 1
	compgen -G "$sysroot/lib/rustlib/$TARGET/lib/libcore-*.rlib" >/dev/null
}

command -v rustup >/dev/null || {
	echo "wasm-toolchain: rustup is missing; see https://rustup.rs" >&2
	exit 1
}
active=$(rustup show active-toolchain 2>/dev/null | cut -d' ' -f1)
for toolchain in "$active" debian-web; do
	if [[ -n $toolchain ]] && has_target "$toolchain"; then
		echo "$toolchain"
		exit 0
	fi
done
echo "wasm-toolchain: no toolchain has the target $TARGET; run scripts/setup.sh" >&2
exit 1
